"""A guest kernel that panics tells the VMM through pvpanic."""

import os
import pathlib
import tempfile

from harness import linux
from harness.cases import Skip, case
from harness.guests import linux_guest


async def _panic(vm):
    await vm.ready()
    if "pvpanic" not in await vm.shell("ls /sys/bus/platform/drivers/pvpanic-mmio/ /sys/bus/pci/drivers/ 2>&1 | tr '\\n' ' '"):
        raise Skip("this kernel has no pvpanic driver")
    assert "QEMU0001" in await vm.shell("ls /sys/bus/platform/drivers/pvpanic-mmio/"), "the guest sees no pvpanic device"
    vm.type("echo c >/proc/sysrq-trigger")
    return await vm.qmp.event("GUEST_PANICKED")


@case(deadline=60)
async def panic_pauses():
    async with linux_guest(options=["--action", "panic=pause"]) as vm:
        event = await _panic(vm)
        assert event["data"]["action"] == "pause", event
        await vm.qmp.event("STOP")
        assert await vm.status() == "guest-panicked"
        # It can be restarted by a reset.
        await vm.execute("system_reset")
        await vm.execute("cont")
        await vm.ready()


@case(deadline=60)
async def panic_powers_off():
    async with linux_guest() as vm:
        event = await _panic(vm)
        assert event["data"]["action"] == "poweroff", event
        shutdown = await vm.qmp.event("SHUTDOWN")
        assert shutdown["data"] == {"guest": True, "reason": "guest-panic"}, shutdown
        assert "STOP" not in vm.qmp.names()
        assert await vm.exit_code() == 0


@case(deadline=60)
async def panic_can_be_an_exit_failure():
    async with linux_guest(options=["--action", "panic=exit-failure"]) as vm:
        await _panic(vm)
        assert await vm.exit_code() == 1


@case(deadline=60)
async def panic_can_be_the_guests_own_affair():
    async with linux_guest(append="panic=1", options=["--action", "panic=none"]) as vm:
        event = await _panic(vm)
        assert event["data"]["action"] == "run", event
        # The guest's own policy was to reboot a second later.
        await vm.qmp.event("RESET")
        await vm.ready()


@case(deadline=100)
async def a_crash_kernel_takes_over():
    """As with kdump: the guest says that it has panicked and is not gone, and its crash kernel boots in its memory."""
    kernel, initrd = (pathlib.Path(os.environ[name]) for name in ("CASE_BZIMAGE", "CASE_INITRD"))
    with tempfile.NamedTemporaryFile() as both:
        files = {"crash-kernel": kernel.read_bytes(), "crash-initrd": initrd.read_bytes()}
        both.write(initrd.read_bytes())
        both.write(bytes(-both.tell() % 512))
        both.write(linux.archive_of(files))
        both.flush()
        append = "crashkernel=192M crash_kexec_post_notifiers"
        async with linux_guest(memory=512, append=append, initrd=both.name) as vm:
            await vm.ready()
            line = "console=ttyS0 test.quiet loglevel=4"
            assert await vm.shell(f"crash-load /crash-kernel /crash-initrd '{line}'; echo $?") == "0"
            vm.type("echo c >/proc/sysrq-trigger")
            event = await vm.qmp.event("GUEST_CRASHLOADED")
            assert event["data"] == {"action": "run"}, event
            await vm.ready()
            assert await vm.shell("ls /proc/vmcore") == "/proc/vmcore"
            assert await vm.status() == "running"
            assert {"GUEST_PANICKED", "STOP", "RESET"}.isdisjoint(vm.qmp.names())


@case(deadline=60)
async def hyper_v_crash_registers_go_with_the_event():
    if os.environ.get("CASE_VMM", "vmm-bin") != "vmm-bin":
        raise Skip("QEMU has another option for them")
    async with linux_guest(options=["--cpu", "hv-crash=on", "--action", "panic=pause"]) as vm:
        await vm.ready()
        # It is KVM's clock that Linux goes by all the same.
        assert await vm.shell("cat /sys/devices/system/clocksource/clocksource0/current_clocksource") != "hyperv_clocksource_tsc_page"
        arguments = [0xEF, 1, 2**63, 0xFFFFFFFFFFFFFFFF, 5]
        await vm.shell("insert msr")
        for number, value in enumerate(arguments, 0x40000100):
            assert await vm.shell(f"write-msr {number} {value}; echo $?") == "0"
        # Told once, all of them: HV_X64_MSR_CRASH_CTL, bit 63.
        vm.type(f"write-msr {0x40000105} {2**63}")
        event = await vm.qmp.event("GUEST_PANICKED")
        told = {f"arg{number}": value for number, value in enumerate(arguments, 1)}
        assert event["data"] == {"action": "pause", "info": {"type": "hyper-v", **told}}, event
        await vm.qmp.event("STOP")
        assert await vm.status() == "guest-panicked"
        # It goes on if it may.
        await vm.execute("cont")
        assert await vm.shell("echo here") == "here"
