"""Debian's kernels, taken apart, and the initramfs of the inner guest.

Everything lands below one cache folder and is re-used: a second run needs no network.

    kernel-VERSION/boot/vmlinuz-*     the cloud kernel, as Debian ships it: the bzImage
    kernel-VERSION/vmlinux            the ELF image inside of it (with the PVH entry note)
    kernel-VERSION/lib/modules/...    the modules
    generic-VERSION/...               the same of the generic kernel, which has drivers that the cloud kernel lacks
    inner.cpio, inner-generic.cpio    busybox, its /init, the modules that the tests need
"""

import bz2
import dataclasses
import gzip
import lzma
import os
import pathlib
import re
import shutil
import struct
import subprocess

from harness.cases import ROOT

INNER_MODULES = ("evdev", "button", "pvpanic", "pvpanic-mmio")

#: What busybox does not have.
PROGRAMS = ("crash-load", "write-msr")
#: `insert NAME [PARAMETER...]` in the guest: a module that is there on demand, after what it depends on.
INSERT = """#!/bin/sh
name=$1
shift
for module in $(cat /modules/$name.order); do
    if [ $module = $name.ko ]; then insmod /modules/$module "$@"; else insmod /modules/$module; fi
done
"""


@dataclasses.dataclass(frozen=True)
class Flavour:
    """One of Debian's kernels: where it comes from, where it is kept, and what a test may insert in it."""

    package: str
    prefix: str
    initrd: str
    #: Modules that the guest's /init does not insert: a test runs `insert NAME`.
    on_demand: tuple[str, ...] = ()


CLOUD = Flavour("linux-image-cloud-amd64", "kernel-", "inner.cpio", ("msr",))
GENERIC = Flavour("linux-image-amd64", "generic-", "inner-generic.cpio", ("ib700wdt", "wdat_wdt"))


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One unpacked kernel package."""

    folder: pathlib.Path
    bzimage: pathlib.Path
    vmlinux: pathlib.Path

    def modules(self, names):
        """The modules and what they depend on, in the order to insert them: pairs of file name and content.

        One that this kernel does not have is left out: it may be built in.
        """
        found = {}
        for name in names:
            self._collect(name.replace("-", "_"), found)
        return list(found.items())

    def _collect(self, name, found):
        spellings = [name, name.replace("_", "-")]
        for path in sorted((self.folder / "lib/modules").rglob("*.ko*")):
            if path.name.split(".")[0] in spellings and f"{name}.ko" not in found:
                content = path.read_bytes()
                if path.suffix != ".ko":
                    content = _decompress(content)
                depends = re.search(rb"\0depends=([^\0]*)\0", content)
                for other in depends.group(1).decode().split(",") if depends else []:
                    if other:
                        self._collect(other, found)
                found[f"{name}.ko"] = content

    def install_modules(self, names, folder):
        """Writes the modules to `folder`, and their order of insertion to the file `order` there."""
        self._install_modules(names, folder, "order")

    def install_on_demand(self, names, folder):
        """Writes each module with what it depends on to `folder`, and their order to the file `NAME.order` there."""
        for name in names:
            self._install_modules([name], folder, f"{name}.order")

    def _install_modules(self, names, folder, order):
        modules = self.modules(names)
        for name, content in modules:
            (folder / name).write_bytes(content)
        (folder / order).write_text("".join(f"{name}\n" for name, _ in modules))


def kernel(cache, flavour=CLOUD):
    """The kernel in `cache`; downloads and unpacks Debian's package when there is none."""
    folder = next(iter(sorted(cache.glob(f"{flavour.prefix}*/"))), None)
    if folder is None:
        folder = _download(cache, flavour)
    bzimage = next((folder / "boot").glob("vmlinuz-*"))
    vmlinux = folder / "vmlinux"
    if not vmlinux.exists():
        _write(vmlinux, extract_vmlinux(bzimage.read_bytes()))
    return Kernel(folder, bzimage, vmlinux)


def _write(path, data):
    """Writes a file so that an interrupted run leaves no half of it."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.rename(path)


def _apt(*command, **rest):
    """Runs an apt command; once more behind `apt-get update` when it fails, for its lists may be old or missing."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, **rest).stdout
    except subprocess.CalledProcessError:
        root = [] if os.geteuid() == 0 else ["sudo"]
        subprocess.run([*root, "apt-get", "-qq", "update"], check=True, stdin=subprocess.DEVNULL)
        return subprocess.run(command, check=True, capture_output=True, text=True, **rest).stdout


def _download(cache, flavour):
    match = re.search(r"Depends: (linux-image-(\S+))", _apt("apt-cache", "depends", flavour.package))
    if not match:
        raise RuntimeError(f"apt does not say what {flavour.package} depends on")
    package, version = match.groups()
    part = cache / "part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    _apt("apt-get", "-q", "download", package, cwd=part)
    archive = next(part.glob("*.deb"))
    subprocess.run(["dpkg", "-x", archive, part], check=True)
    archive.unlink()
    folder = cache / f"{flavour.prefix}{version}"
    part.rename(folder)
    return folder


def extract_vmlinux(image):
    """The ELF kernel inside a bzImage: the boot protocol says where the compressed payload is."""
    if image[0x202:0x206] != b"HdrS":
        raise RuntimeError("not a bzImage")
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    # The last four bytes are the uncompressed size, which no decompressor wants to see.
    payload = image[start : start + length - 4]
    elf = _decompress(payload)
    if elf[:4] != b"\x7fELF":
        raise RuntimeError("the bzImage's payload is no ELF file")
    return elf


def _decompress(payload):
    if payload.startswith(b"\x1f\x8b"):
        return gzip.decompress(payload)
    if payload.startswith(b"BZh"):
        return bz2.decompress(payload)
    if payload.startswith((b"\xfd7zXZ\0", b"\x5d\0\0")):
        return lzma.LZMADecompressor().decompress(payload)
    for magic, tool in ((b"\x02\x21\x4c\x18", "lz4"), (b"\x28\xb5\x2f\xfd", "zstd")):
        if payload.startswith(magic):
            return subprocess.run([tool, "-dc"], input=payload, check=True, capture_output=True).stdout
    raise RuntimeError(f"unknown kernel compression: {payload[:6].hex()}")


def pack(stage, archive):
    """Writes the tree `stage` as a cpio archive in the form that the kernel unpacks."""
    part = archive.with_name(archive.name + ".part")
    names = sorted(p.relative_to(stage).as_posix() for p in stage.rglob("*"))
    with open(part, "wb") as out:
        subprocess.run(
            ["cpio", "--quiet", "-o", "-0", "-H", "newc", "-R", "0:0"],
            input="\0".join(names).encode(), stdout=out, cwd=stage, check=True,
        )
    part.rename(archive)


def archive_of(files):
    """The files, a dictionary of names in the guest and contents, as an archive that can follow an initramfs."""
    def entry(inode, name, content, mode):
        name = name.encode() + b"\0"
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields) + name
        return header + bytes(-len(header) % 4) + content + bytes(-len(content) % 4)

    entries = [entry(inode, name, content, 0o100644) for inode, (name, content) in enumerate(files.items(), 1)]
    return b"".join(entries) + entry(0, "TRAILER!!!", b"", 0)


def busybox():
    """The path of Debian's static busybox."""
    path = shutil.which("busybox")
    if path is None:
        raise RuntimeError("no busybox: apt-get install busybox-static")
    return path


def inner_initrd(cache, the_kernel, flavour=CLOUD):
    """The inner guest's initramfs; built again when its /init or what chooses its modules is newer."""
    archive = cache / flavour.initrd
    init = ROOT / "rig/inner-init"
    programs = [ROOT / f"rig/{name}.c" for name in PROGRAMS]
    sources = (init, *programs, pathlib.Path(__file__), the_kernel.vmlinux)
    if archive.exists() and archive.stat().st_mtime > max(source.stat().st_mtime for source in sources):
        return archive
    stage = cache / "inner"
    shutil.rmtree(stage, ignore_errors=True)
    for name in ("bin", "dev", "proc", "sys", "tmp", "modules", "etc"):
        (stage / name).mkdir(parents=True)
    shutil.copy(busybox(), stage / "bin/busybox")
    (stage / "bin/sh").symlink_to("busybox")
    shutil.copy(init, stage / "init")
    (stage / "init").chmod(0o755)
    the_kernel.install_modules(INNER_MODULES, stage / "modules")
    the_kernel.install_on_demand(flavour.on_demand, stage / "modules")
    for program in programs:
        subprocess.run(["gcc", "-static", "-Os", "-s", "-Wall", "-o", stage / "bin" / program.stem, program], check=True)
    (stage / "bin/insert").write_text(INSERT)
    (stage / "bin/insert").chmod(0o755)
    pack(stage, archive)
    shutil.rmtree(stage)
    return archive
