"""Debian's packages, unpacked into a folder and not installed: neither apt's lists nor anything else outside of it is changed."""

import pathlib
import re
import shutil
import subprocess

#: Where Debian keeps its packages and how it signs them.
MIRROR = "http://deb.debian.org/debian"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
#: How long one step of the download may take, in seconds: what does not come must not cost the tests.
PATIENCE = 120
#: Where packages have their shared libraries.
LIBRARIES = "usr/lib/x86_64-linux-gnu"


def unpacked(root, packages, backports=False):
    """The folder `root`, below which the packages are unpacked with what of their dependencies this machine lacks.

    What is there already is taken as it is. Raises `OSError`, `subprocess.SubprocessError` or `LookupError` if they cannot be had.
    """
    if not root.exists():
        part = root.with_name(f"part-{root.name}")
        shutil.rmtree(part, ignore_errors=True)
        _unpack(part, packages, backports)
        part.rename(root)
    return root


def _unpack(root, packages, backports):
    release = _release()
    state = root / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True)
    suites = (f"{release}-backports", release) if backports else (release,)
    sources = state / "sources.list"
    sources.write_text("".join(f"deb [signed-by={KEYS}] {MIRROR} {suite} main\n" for suite in suites))
    options = {
        "Dir::Etc::SourceList": sources, "Dir::Etc::SourceParts": "/dev/null", "Dir::State::Lists": state / "lists",
        "Dir::Cache": state / "cache", "Acquire::Retries": 1, "Acquire::http::Timeout": 20, "Acquire::Languages": "none",
        # Nothing is installed, so nobody is to be kept out, and nobody's rights are needed.
        "Debug::NoLocking": 1, "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-q", "-y", *(f"-o{name}={value}" for name, value in options.items())]
    wanted = [f"{name}/{suites[0]}" for name in packages]
    for command in (["update", "--error-on=any"], ["install", "--download-only", "--no-install-recommends", *wanted]):
        subprocess.run([*apt, *command], check=True, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    for archive in sorted((state / "cache/archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", archive, root], check=True, capture_output=True, text=True)
    shutil.rmtree(state)


def libraries(root):
    """What the environment of a program that is unpacked below `root` has besides."""
    return {"LD_LIBRARY_PATH": f"{root}/{LIBRARIES}:{root}/lib/x86_64-linux-gnu"}


def _release():
    """The name of the Debian that this machine runs."""
    fields = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', pathlib.Path("/etc/os-release").read_text(encoding="utf-8"), re.MULTILINE))
    if fields.get("ID") != "debian" or "VERSION_CODENAME" not in fields:
        raise LookupError("this is no release of Debian")
    return fields["VERSION_CODENAME"]
