"""Debian's cloud kernel, taken apart, and the initramfs of the inner guest.

Everything lands below one cache folder and is re-used: a second run needs no network.

    kernel-VERSION/boot/vmlinuz-*     as Debian ships it: the bzImage
    kernel-VERSION/vmlinux            the ELF image inside of it (with the PVH entry note)
    kernel-VERSION/lib/modules/...    the modules
    inner.cpio                        busybox, its /init, the modules that the tests need
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

META_PACKAGE = "linux-image-cloud-amd64"
INNER_MODULES = ("evdev", "button", "pvpanic", "pvpanic-mmio")


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
        modules = self.modules(names)
        for name, content in modules:
            (folder / name).write_bytes(content)
        (folder / "order").write_text("".join(f"{name}\n" for name, _ in modules))


def kernel(cache):
    """The kernel in `cache`; downloads and unpacks Debian's package when there is none."""
    folder = next(iter(sorted(cache.glob("kernel-*/"))), None)
    if folder is None:
        folder = _download(cache)
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


def _download(cache):
    match = re.search(r"Depends: (linux-image-(\S+))", _apt("apt-cache", "depends", META_PACKAGE))
    if not match:
        raise RuntimeError(f"apt does not say what {META_PACKAGE} depends on")
    package, version = match.groups()
    part = cache / "part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    _apt("apt-get", "-q", "download", package, cwd=part)
    archive = next(part.glob("*.deb"))
    subprocess.run(["dpkg", "-x", archive, part], check=True)
    archive.unlink()
    folder = cache / f"kernel-{version}"
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


def busybox():
    """The path of Debian's static busybox."""
    path = shutil.which("busybox")
    if path is None:
        raise RuntimeError("no busybox: apt-get install busybox-static")
    return path


def inner_initrd(cache, the_kernel):
    """The inner guest's initramfs; built again when its /init is newer."""
    archive = cache / "inner.cpio"
    init = ROOT / "rig/inner-init"
    if archive.exists() and archive.stat().st_mtime > max(init.stat().st_mtime, the_kernel.vmlinux.stat().st_mtime):
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
    pack(stage, archive)
    shutil.rmtree(stage)
    return archive
