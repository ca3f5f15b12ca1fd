"""Firmware boots Linux."""

import os

from harness.cases import Skip, case
from harness.guests import linux_guest

QBOOT = "/usr/share/qemu/qboot.rom"


@case(deadline=90)
async def qboot_boots_linux():
    if os.environ.get("CASE_VMM", "vmm-bin") != "vmm-bin":
        raise Skip("QEMU's microvm boots by qboot as it is")
    if not os.path.exists(QBOOT):
        raise Skip(f"{QBOOT} is not installed")
    async with linux_guest(cpus=2, options=["--firmware", QBOOT]) as vm:
        await vm.ready()
        assert await vm.shell("nproc") == "2"
        vm.type("poweroff -f")
        await vm.qmp.event("SHUTDOWN")
        assert await vm.exit_code() == 0
