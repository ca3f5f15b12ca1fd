"""Bochs: an emulated PC whose processor has VMX and stops a guest at INT3, as a real one does.

It is much slower than QEMU, so that nothing large can run in it. It boots a kernel and an initramfs from a CD of its own
and says what happens on its first serial line, which is a file.
"""

import asyncio
import contextlib
import os
import pty
import re
import subprocess

from harness import debian

PACKAGES = ("bochs", "bochs-term", "bochsbios", "vgabios", "grub-common", "grub-pc-bin", "xorriso", "gdb-minimal")
#: A processor with VMX that Linux gets along with.
MODEL = "corei7_haswell_4770"
#: `host` is what Bochs takes of this machine's memory, in MiB.
SETTINGS = """\
config_interface: textconfig
display_library: term
cpu: model={model}, count=1, ips=60000000, reset_on_triple_fault=0, ignore_bad_msrs=1
memory: guest=768, host=768
romimage: file={share}/bochs/BIOS-bochs-latest, options=fastboot
vgaromimage: file={share}/vgabios/vgabios.bin
pci: enabled=1, chipset=i440fx
clock: sync=none, time0=1700000000
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path={folder}/cd.iso, status=inserted
boot: cdrom
log: {folder}/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
com1: enabled=1, mode=file, dev={folder}/console
speaker: enabled=0
"""
#: The boot loader's commands; it takes a file's first word for the name.
BOOT = """\
set root=(cd)
linux /vmlinuz console=ttyS0 quiet panic=-1 tsc=reliable lpj=400000 nokaslr
initrd /initrd
boot
"""


def tools(cache):
    """The folder below which Bochs is unpacked, with what makes its CD, and a gdb without Python."""
    return debian.unpacked(cache.resolve() / "bochs", PACKAGES)


def compact_disc(root, folder, kernel, initrd):
    """Makes the CD in `folder`."""
    environment = os.environ | debian.libraries(root)
    tree, core, modules = folder / "cd", folder / "core.img", root / "usr/lib/grub/i386-pc"
    tree.mkdir()
    (tree / "vmlinuz").write_bytes(kernel.read_bytes())
    (tree / "initrd").write_bytes(initrd.read_bytes())
    (folder / "boot").write_text(BOOT)
    make = [root / "usr/bin/grub-mkimage", "-O", "i386-pc", "-d", modules, "-c", folder / "boot", "-p", "(cd)", "-o", core]
    subprocess.run([*make, "biosdisk", "iso9660", "linux", "normal"], env=environment, check=True)
    (tree / "loader").write_bytes((modules / "cdboot.img").read_bytes() + core.read_bytes())
    burn = [root / "usr/bin/xorriso", "-as", "mkisofs", "-quiet", "-R", "-b", "loader", "-no-emul-boot", "-boot-load-size", "4"]
    subprocess.run([*burn, "-boot-info-table", "-o", folder / "cd.iso", tree], env=environment, check=True)


class Bochs:
    """The machine, with the CD in `folder`."""

    def __init__(self, root, folder):
        self.folder = folder
        self.environment = os.environ | debian.libraries(root) | {
            "LTDL_LIBRARY_PATH": f"{root}/{debian.LIBRARIES}/bochs/plugins", "BXSHARE": f"{root}/usr/share/bochs", "TERM": "vt100",
        }
        # Debian's has a debugger, which waits for the word to go.
        (folder / "go").write_text("c\n")
        (folder / "settings").write_text(SETTINGS.format(model=MODEL, share=root / "usr/share", folder=folder))
        self.command = [root / "usr/bin/bochs-bin", "-q", "-rc", folder / "go", "-f", folder / "settings"]

    def console(self):
        """What it has said."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "console").read_text(errors="replace").replace("\r", "")
        return ""

    async def run(self, until):
        """Lets it run until it has said what matches `until`, and returns all that it has said."""
        screen, end = pty.openpty()
        loop = asyncio.get_running_loop()
        # Its screen is a terminal that somebody must read.
        loop.add_reader(screen, os.read, screen, 65536)
        process = await asyncio.create_subprocess_exec(
            *self.command, env=self.environment, stdin=end, stdout=end, stderr=end,
        )
        try:
            while not re.search(until, said := self.console()):
                assert process.returncode is None, f"Bochs ended; its console: {said[-4000:]}"
                await asyncio.sleep(1)
            return said
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            loop.remove_reader(screen)
            os.close(screen)
            os.close(end)
