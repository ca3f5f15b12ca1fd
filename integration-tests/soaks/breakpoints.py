"""Software breakpoints in Linux, on an emulated processor that stops a guest at INT3: Bochs's. QEMU's does not."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from harness import bochs, linux, rig
from harness.cases import ROOT, Skip, case
from harness.machine import vmm_bin


def stage(folder, modules, kernel, init):
    """The tree of an initramfs with busybox, this /init and these modules."""
    for name in ("bin", "dev", "proc", "sys", "tmp", "modules", "rig"):
        (folder / name).mkdir(parents=True)
    shutil.copy(linux.busybox(), folder / "bin/busybox")
    (folder / "bin/sh").symlink_to("busybox")
    shutil.copy(ROOT / "rig" / init, folder / "init")
    (folder / "init").chmod(0o755)
    kernel.install_modules(modules, folder / "modules")


def initramfs(folder, root, kernel):
    """The outer machine's, with vmm-bin, gdb and all of the inner guest."""
    inner, outer = folder / "inner", folder / "outer"
    stage(inner, ("evdev", "button"), kernel, "breakpoints-inner-init")
    stage(outer, ("kvm-intel",), kernel, "breakpoints-outer-init")
    linux.pack(inner, outer / "rig/initrd")
    shutil.copy(kernel.bzimage, outer / "rig/bzImage")
    rig.install(outer, vmm_bin(), "/rig/vmm-bin")
    rig.install(outer, root / "usr/bin/gdb", "/usr/bin/gdb", root)
    linux.pack(outer, folder / "initrd")
    return folder / "initrd"


@case(deadline=3600)
async def software_breakpoints_stop_linux_in_bochs():
    cache = pathlib.Path(os.environ["RIG_CACHE"])
    try:
        root = bochs.tools(cache)
    except (OSError, LookupError, subprocess.SubprocessError) as error:
        raise Skip(f"Bochs cannot be had: {error}") from error
    kernel = linux.kernel(cache)
    with tempfile.TemporaryDirectory(prefix="bochs-") as name:
        folder = pathlib.Path(name)
        bochs.compact_disc(root, folder, kernel.bzimage, initramfs(folder, root, kernel))
        said = await bochs.Bochs(root, folder).run(until=r"ALL DONE|Kernel panic")
    module, function = re.findall(r"^GDB: SET \w+ (0x[0-9a-f]+)$", said, re.MULTILINE)
    stops = re.findall(r"^GDB: STOP (\S+)$", said, re.MULTILINE)
    assert stops == 3 * [module] + 2 * [function] + 2 * [module], said
    steps = [int(step, 16) - int(function, 16) for step in re.findall(r"^GDB: STEP (\S+)$", said, re.MULTILINE)]
    assert len(steps) == 2 and 0 < steps[0] < steps[1] < 32, said
    assert "detached" in said and "TROUBLE" not in said, said
    # The guest's own INT3s are the guest's, whether gdb has any or not.
    probes = re.findall(r"^PROBE\s+mine\s+(\d+)\s+(\d+)$", said, re.MULTILINE)
    assert len(probes) >= 8 and int(probes[0][0]) >= 5, said
    assert set(probes) == {(probes[0][0], "0")}, said
    print(f"breakpoints: {len(stops)} stops, {len(steps)} steps, {len(probes)} times {probes[0][0]} of the guest's own INT3", flush=True)
