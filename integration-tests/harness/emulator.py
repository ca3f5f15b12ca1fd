"""The program that emulates the rig: QEMU 10 or newer, where it can be had.

An older one loads DR7 when it enters a guest and does not arm what DR7 says: debug registers stop no guest. Debian 12 has
such a one, and a newer one in its backports. That is fetched once and unpacked below the cache; it is never installed, and
neither apt's lists nor anything else outside of the cache is changed.

    RIG_QEMU        if it is set, whatever it is
    the installed   if it is new enough
    QEMU-BACKPORTS  in the cache: fetched when it is not there
    the installed   if there is no network, or no such package: then some tests are skipped
"""

import dataclasses
import os
import re
import subprocess

from harness import debian

INSTALLED = "qemu-system-x86_64"
PACKAGE = "qemu-system-x86"
#: The first major version whose debug registers stop a guest.
WANTED = 10


@dataclasses.dataclass(frozen=True)
class Emulator:
    """One program, and what it needs to run from a folder of its own."""

    command: tuple[str, ...]
    environment: dict[str, str]
    version: int

    @classmethod
    def at(cls, program, root=None):
        """The program with this name; it is unpacked below `root` if that is given.

        Raises `OSError`, `subprocess.SubprocessError` or `LookupError` if it does not run or does not say its version.
        """
        command, environment = (str(program),), dict(os.environ)
        if root:
            command += ("-L", f"{root}/usr/share/qemu", "-L", f"{root}/usr/share/seabios")
            environment |= debian.libraries(root) | {"QEMU_MODULE_DIR": f"{root}/{debian.LIBRARIES}/qemu"}
        output = subprocess.run([*command, "--version"], env=environment, check=True, capture_output=True, text=True).stdout
        version = re.search(r"version (\d+)", output)
        if not version:
            raise LookupError(f"{program} does not say its version")
        return cls(command, environment, int(version.group(1)))


def emulator(cache, report=print):
    """The emulator for the rig in `cache`; `report` is told when it is not the one that is wanted."""
    if named := os.environ.get("RIG_QEMU"):
        return Emulator.at(named)
    installed = Emulator.at(INSTALLED)
    if installed.version >= WANTED:
        return installed
    try:
        return _from_backports(cache)
    except (OSError, LookupError, subprocess.SubprocessError) as error:
        report(f"note: QEMU {installed.version} emulates the rig, for Debian's backports give no QEMU {WANTED}: {_reason(error)}")
        return installed


def _reason(error):
    """The first thing that a program complained of, or else what the error says."""
    complaint = getattr(error, "stderr", None)
    return complaint.strip().splitlines()[0] if isinstance(complaint, str) and complaint.strip() else str(error)


def _from_backports(cache):
    root = debian.unpacked(cache.resolve() / "qemu-backports", [PACKAGE], backports=True)
    found = Emulator.at(root / "usr/bin" / INSTALLED, root)
    if found.version < WANTED:
        raise LookupError("an older one is there")
    return found
