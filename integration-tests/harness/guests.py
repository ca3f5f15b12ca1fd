"""The guests that a test can boot."""

import os
import pathlib
import re
import subprocess

from harness.cases import ROOT
from harness.machine import Machine


class LinuxMachine(Machine):
    """A machine whose guest is Linux with a shell on its console."""

    async def ready(self):
        """Waits for userspace, and for its shell."""
        await self.console.expect("USERSPACE REACHED")
        self._count = 0
        await self.shell("true")

    async def shell(self, line, timeout=None):
        """Runs a line in the guest's shell and returns what it printed."""
        self._count += 1
        # The marks are spelled so that an echo of the line itself could not be taken for them.
        self.console.send(f"echo 'B''EGIN'{self._count}; {line}; echo 'E''ND'{self._count}\n")
        match = await self.console.expect(rf"(?s)BEGIN{self._count}\n(.*?)END{self._count}\n", timeout)
        # A kernel message may come in between at any time; no command of a test prints such a line.
        return re.sub(r"^\[ *\d+\.\d+\] .*\n", "", match.group(1), flags=re.MULTILINE).rstrip("\n")

    def type(self, line):
        """Types a line of which no answer is expected."""
        self.console.send(line + "\n")

    async def uptime(self):
        """The guest's clock, in seconds since it booted."""
        return float((await self.shell("cat /proc/uptime")).split()[0])


def linux_guest(image="bzImage", memory=256, cpus=1, append="", options=(), initrd=None, **rest):
    """A machine with Debian's cloud kernel and busybox; `image` is `bzImage`, `vmlinux`, or `generic` for the generic kernel."""
    kernel = os.environ[{"bzImage": "CASE_BZIMAGE", "vmlinux": "CASE_VMLINUX", "generic": "CASE_GENERIC"}[image]]
    initrd = initrd or os.environ["CASE_GENERIC_INITRD" if image == "generic" else "CASE_INITRD"]
    # A panicked guest stays where it is, unless the test says otherwise.
    line = f"console=ttyS0 test.quiet loglevel=4 {append}".strip()
    return LinuxMachine(
        kernel=kernel, initrd=initrd, append=line, memory=memory, cpus=cpus, options=options, **rest
    )


def assembled(name):
    """The ELF image of `guests/NAME.S`, a PVH guest of 32-bit code, which every KVM can run."""
    folder = pathlib.Path(os.environ["RIG_CACHE"]) / "guests"
    source, image = ROOT / f"guests/{name}.S", folder / f"{name}.elf"
    parts = [source, ROOT / "guests/guest.ld", *ROOT.glob("guests/*.inc")]
    if not image.exists() or image.stat().st_mtime < max(part.stat().st_mtime for part in parts):
        folder.mkdir(parents=True, exist_ok=True)
        part = image.with_suffix(f".{os.getpid()}")
        subprocess.run(
            ["gcc", "-m32", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none,--no-warn-rwx-segments",
             f"-Wl,-T,{ROOT / 'guests/guest.ld'}", f"-Wa,-I{ROOT / 'guests'}", "-o", part, source],
            check=True,
        )
        part.rename(image)
    return image


def small_guest(name, memory=64, **rest):
    """A machine with one of the assembled guests."""
    return Machine(kernel=assembled(name), memory=memory, **rest)
