"""PC firmware as Debian ships it starts, and says so on its debug console."""

import asyncio
import os
import struct
import tempfile

from harness.cases import Skip, case
from harness.guests import Machine

QBOOT = "/usr/share/qemu/qboot.rom"


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


def a_kernel():
    """A bzImage whose setup code prints its command line, and the first bytes of what was loaded at 1 MiB."""
    code = bytes.fromhex(
        "b80020 8ec0 31f6 baf803"  # es:si = 2000:0, where the command line is; dx = COM1
        "26ac 84c0 7403 ee ebf7"  # prints to the NUL
        "b8ffff 8ec0 be1000 b90400"  # es:si = ffff:10, which is 1 MiB
        "26ac ee e2fb"  # prints four bytes
        "f4 ebfd"
    )
    image = bytearray(5 * 512)
    image[0x1F1] = 4  # sectors of setup code, besides the boot sector
    struct.pack_into("<I", image, 0x1F4, 32)  # 16 bytes each
    image[0x1FE:0x202] = b"\x55\xaa\xeb\x66"
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, 0x20F)
    image[0x211] = 1  # loaded at 1 MiB
    struct.pack_into("<II", image, 0x22C, 0x7FFFFFFF, 0x1000)
    image[0x234:0x238] = b"\x01\x00\x01\x00"
    struct.pack_into("<I", image, 0x238, 255)
    struct.pack_into("<Q", image, 0x258, 1 << 20)
    struct.pack_into("<I", image, 0x260, 1 << 20)
    image[0x268 : 0x268 + len(code)] = code
    return bytes(image) + b"KERN".ljust(512, b"\0")


@case(deadline=60)
async def qboot_boots_a_kernel():
    if not os.path.exists(QBOOT):
        raise Skip(f"{QBOOT} is not installed")
    with tempfile.NamedTemporaryFile() as kernel:
        kernel.write(a_kernel())
        kernel.flush()
        async with Machine(kernel=kernel.name, append="a line for you.", options=["--firmware", QBOOT]) as vm:
            await vm.console.expect("a line for you.KERN")
            # And again, from the same file.
            await vm.execute("system_reset")
            await vm.console.expect("a line for you.KERN")
            await vm.execute("quit")
            assert await vm.exit_code() == 0


@case(deadline=60)
async def a_vm_with_qboot_can_be_governed():
    if not os.path.exists(QBOOT):
        raise Skip(f"{QBOOT} is not installed")
    async with Machine(options=["--firmware", QBOOT]) as vm:
        # It has nothing to boot, and waits; it must be governable.
        await asyncio.sleep(1)
        assert await vm.status() == "running"
        await vm.execute("system_reset")
        await vm.execute("quit")
        assert await vm.exit_code() == 0
