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
import pathlib
import re
import shutil
import subprocess

INSTALLED = "qemu-system-x86_64"
PACKAGE = "qemu-system-x86"
#: The first major version whose debug registers stop a guest.
WANTED = 10
#: Where Debian keeps its packages and how it signs them.
MIRROR = "http://deb.debian.org/debian"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
#: How long one step of the download may take, in seconds: an emulator that does not come must not cost the tests.
PATIENCE = 120


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
            libraries = f"{root}/usr/lib/x86_64-linux-gnu"
            environment |= {"LD_LIBRARY_PATH": f"{libraries}:{root}/lib/x86_64-linux-gnu", "QEMU_MODULE_DIR": f"{libraries}/qemu"}
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
    root = cache.resolve() / "qemu-backports"
    if not root.exists():
        part = root.with_name("part-qemu")
        shutil.rmtree(part, ignore_errors=True)
        _download(part)
        shutil.rmtree(part / "apt")
        # What does not run, or is too old, is not kept.
        if Emulator.at(part / "usr/bin" / INSTALLED, part).version < WANTED:
            raise LookupError("an older one is there")
        part.rename(root)
    return Emulator.at(root / "usr/bin" / INSTALLED, root)


def _download(root):
    """Unpacks the package and what of its dependencies this machine lacks."""
    release = _release()
    state = root / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True)
    suites = (f"{release}-backports", release)
    sources = state / "sources.list"
    sources.write_text("".join(f"deb [signed-by={KEYS}] {MIRROR} {suite} main\n" for suite in suites))
    options = {
        "Dir::Etc::SourceList": sources, "Dir::Etc::SourceParts": "/dev/null", "Dir::State::Lists": state / "lists",
        "Dir::Cache": state / "cache", "Acquire::Retries": 1, "Acquire::http::Timeout": 20, "Acquire::Languages": "none",
        # Nothing is installed, so nobody is to be kept out, and nobody's rights are needed.
        "Debug::NoLocking": 1, "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-q", "-y", *(f"-o{name}={value}" for name, value in options.items())]
    wanted = f"{PACKAGE}/{release}-backports"
    for command in (["update", "--error-on=any"], ["install", "--download-only", "--no-install-recommends", wanted]):
        subprocess.run([*apt, *command], check=True, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    for archive in sorted((state / "cache/archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", archive, root], check=True, capture_output=True, text=True)


def _release():
    """The name of the Debian that this machine runs."""
    fields = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', pathlib.Path("/etc/os-release").read_text(encoding="utf-8"), re.MULTILINE))
    if fields.get("ID") != "debian" or "VERSION_CODENAME" not in fields:
        raise LookupError("this is no release of Debian")
    return fields["VERSION_CODENAME"]
