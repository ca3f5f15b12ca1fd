"""PC firmware as Debian ships it starts, and says so on its debug console."""

import asyncio
import os
import pathlib

from harness.cases import Skip, case
from harness.guests import Machine


async def starts(image, text):
    """Waits until the firmware has written `text` to its debug console."""
    if not os.path.exists(image):
        raise Skip(f"{image} is not installed")
    async with Machine(options=["--firmware", image, "--debugcon", "file:debug"]) as vm:
        debug = vm.folder / "debug"
        async with asyncio.timeout(40):
            while not debug.exists() or text not in debug.read_text("utf-8", "replace"):
                await asyncio.sleep(0.1)
        assert await vm.status() == "running"
        await vm.execute("quit")
        assert await vm.exit_code() == 0


@case(deadline=60)
async def seabios_starts():
    await starts("/usr/share/seabios/bios-256k.bin", "SeaBIOS (version")


@case(deadline=60)
async def seabios_of_128_kib_starts():
    await starts("/usr/share/seabios/bios.bin", "SeaBIOS (version")


@case(deadline=60)
async def a_vm_with_qboot_can_be_governed():
    image = pathlib.Path("/usr/share/qemu/qboot.rom")
    if not image.exists():
        raise Skip(f"{image} is not installed")
    async with Machine(options=["--firmware", image, "--debugcon", "file:debug"]) as vm:
        # It wants QEMU's firmware interface and says nothing without one; it must run, and be governable.
        await asyncio.sleep(1)
        assert await vm.status() == "running"
        await vm.execute("system_reset")
        await vm.execute("quit")
        assert await vm.exit_code() == 0
