"""The rig: a Linux machine with AMD's SVM, emulated by QEMU, in which /dev/kvm is real.

Two archives make its root file system, one behind the other, as the kernel allows:

    base   Debian's Python with qemu.qmp, gdb, QEMU for comparison, the KVM modules: built once
    fresh  vmm-bin and its libraries, the tests, the job: built for each boot

The machine is emulated without acceleration, and that emulation is not perfect: now and then it loses an
interrupt between its processors and the outer kernel dies or falls silent, or it breaks a guest's processor in a way
that the registers show (`frozen`). Then, and only then, the boot or the test is repeated, and a note says so. A test
that fails has failed.
"""

import ctypes
import json
import os
import pathlib
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time

from harness import cases, debian, linux
from harness.emulator import emulator
from harness.cases import ROOT, SLOWNESS, Result

#: Outer boots end by this time after their start, in seconds: a test that begins last has all of its own time.
BOOT_DEADLINE = 210 * SLOWNESS
#: No test begins in a boot that is older than this.
BOOT_BUDGET = 80 * SLOWNESS
#: An outer kernel that lives says something every 3 s; while it starts, whenever it has something to say.
SILENCE = 30 * SLOWNESS
#: Tests that run at a time: the emulated machine has two processors, and a boot keeps one busy.
JOBS = 2
#: In the rig: where the runs leave the traces of their lifecycles.
INSIDE_TRACES = pathlib.Path("/tmp/traces")
#: An outer machine that died, or a guest that broke, this often under the same test was killed by the test.
MOST_DEATHS = 3
OUTER_MODULES = ("kvm-amd",)
#: Parts of Python's library that no test imports.
NOT_NEEDED = ("test", "idlelib", "lib2to3", "tkinter", "ensurepip", "pydoc_data", "turtledemo", "distutils")


def libraries(binary, root=None):
    """The shared libraries, and the loader, that a program needs; some may be below `root`, where packages are unpacked."""
    environment = os.environ | debian.libraries(root) if root else None
    output = subprocess.run(["ldd", binary], env=environment, capture_output=True, text=True).stdout
    return re.findall(r"(/\S+)", output)


def install(stage, path, target=None, root=None):
    """Copies a program and its libraries to the same places below `stage`."""
    target = stage / str(target or path).lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, target)
    for library in libraries(path, root):
        copy = stage / library.removeprefix(str(root or "")).lstrip("/")
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(os.path.realpath(library), copy)


def base_archive(cache, kernel):
    """The part of the root file system that stays the same; built when it is not there."""
    archive = cache / "base.cpio"
    init = ROOT / "rig/outer-init"
    if archive.exists() and archive.stat().st_mtime > max(init.stat().st_mtime, pathlib.Path(__file__).stat().st_mtime):
        return archive
    stage = cache / "base"
    shutil.rmtree(stage, ignore_errors=True)
    for name in ("bin", "dev", "proc", "sys", "tmp", "run", "modules", "rig", "usr/share"):
        (stage / name).mkdir(parents=True)
    shutil.copy(linux.busybox(), stage / "bin/busybox")
    (stage / "bin/sh").symlink_to("busybox")
    shutil.copy(init, stage / "init")
    (stage / "init").chmod(0o755)
    kernel.install_modules(OUTER_MODULES, stage / "modules")

    python = os.path.realpath(sys.executable)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    install(stage, python, "/usr/bin/python3")
    library = stage / "usr/lib" / version
    shutil.copytree(
        f"/usr/lib/{version}", library, symlinks=True,
        ignore=shutil.ignore_patterns("__pycache__", "config-*", *NOT_NEEDED),
    )
    for extension in library.glob("lib-dynload/*.so"):
        install(stage, extension)
    site = next(p for p in sys.path if p.endswith("site-packages"))
    shutil.copytree(os.path.join(site, "qemu"), stage / "usr/lib/python3/dist-packages/qemu")
    # The kernel's unpacker does not keep times, and to compile all of it anew would take seconds in there.
    subprocess.run(
        [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash",
         "-s", stage, library, stage / "usr/lib/python3"],
        check=False, stdout=subprocess.DEVNULL,
    )
    if qemu := shutil.which("qemu-system-x86_64"):
        install(stage, qemu, "/usr/bin/qemu-system-x86_64")
        for name in ("bios-microvm.bin", "bios-256k.bin", "kvmvapic.bin", "linuxboot_dma.bin", "pvh.bin", "qboot.rom"):
            for folder in ("/usr/share/qemu", "/usr/share/seabios"):
                if os.path.exists(f"{folder}/{name}"):
                    (stage / "usr/share/qemu").mkdir(exist_ok=True)
                    shutil.copy(f"{folder}/{name}", stage / "usr/share/qemu")
    if gdb := shutil.which("gdb"):
        install(stage, gdb, "/usr/bin/gdb")
        shutil.copytree("/usr/share/gdb", stage / "usr/share/gdb", symlinks=True)
    linux.pack(stage, archive)
    shutil.rmtree(stage)
    return archive


def fresh_archive(cache, kernel, job):
    """The part of the root file system that this boot brings: programs under test, tests, job."""
    stage = cache / "fresh"
    shutil.rmtree(stage, ignore_errors=True)
    (stage / "rig").mkdir(parents=True)
    if vmm := os.environ.get("VMM_BIN"):
        install(stage, vmm, "/rig/vmm-bin")
    for name in ("harness", "scenarios", "benches"):
        shutil.copytree(ROOT / name, stage / "rig" / name, ignore=shutil.ignore_patterns("__pycache__", "*.rs"))
    shutil.copy(kernel.bzimage, stage / "rig/bzImage")
    shutil.copy(kernel.vmlinux, stage / "rig/vmlinux")
    shutil.copy(linux.inner_initrd(cache, kernel), stage / "rig/initrd")
    generic = linux.kernel(cache, linux.GENERIC)
    shutil.copy(generic.bzimage, stage / "rig/generic")
    shutil.copy(linux.inner_initrd(cache, generic, linux.GENERIC), stage / "rig/generic-initrd")
    (stage / "rig/job").write_text("".join(f"{name}='{value}'\n" for name, value in job.items()))
    archive = cache / "fresh.cpio"
    linux.pack(stage, archive)
    shutil.rmtree(stage)
    return archive


def root_archive(cache, kernel, job):
    """Both archives in one file. Each is padded to its own end, so they can simply follow each other."""
    root = cache / "root.cpio"
    with open(root, "wb") as out:
        for archive in (base_archive(cache, kernel), fresh_archive(cache, kernel, job)):
            with open(archive, "rb") as part:
                shutil.copyfileobj(part, out, 1 << 20)
            out.write(b"\0" * (-out.tell() % 512))
    return root


def command(program, kernel, root, append=""):
    """The command line of the emulator `program`, without its serial ports; `append` is for the outer kernel.

    The emulator now and then loses an interrupt from one processor to another. With `nohz=off` each processor ticks all
    the time, so that one which should have woken up does so at its next tick, and not when chance has it. When the
    emulator itself gets no processor for a while, the kernel's check of its timer counts no ticks, and the kernel gives up;
    `no_timer_check` is what it does of itself where it knows of a hypervisor.
    """
    return [
        *program.command, "-accel", "tcg,thread=multi,tb-size=512", "-smp", "2", "-cpu", "EPYC,+svm,+npt", "-m", "3072",
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-kernel", str(kernel.bzimage), "-initrd", str(root),
        "-append", f"console=ttyS0 softlockup_panic=1 panic=-1 transparent_hugepage=madvise nohz=off no_timer_check {append}".strip(),
    ]


def environment(program, budget):
    """What the tests inside of the rig find in their environment."""
    names = {
        "VMM_BIN": "/rig/vmm-bin", "CASE_BZIMAGE": "/rig/bzImage", "CASE_VMLINUX": "/rig/vmlinux", "CASE_INITRD": "/rig/initrd",
        "CASE_GENERIC": "/rig/generic", "CASE_GENERIC_INITRD": "/rig/generic-initrd",
        "CASE_PATIENCE": "40", "SLOWNESS": SLOWNESS, "CASE_VMM": os.environ.get("CASE_VMM", "vmm-bin"), "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1", "CASE_BUDGET": budget, "CASE_EMULATED": program.version,
    }
    return " ".join(f"{name}={value}" for name, value in names.items())


def _die_with_parent():
    """In the child, before it becomes the emulator: it ends with us, however we end."""
    PR_SET_PDEATHSIG = 1  # pylint: disable=invalid-name
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Boot:
    """One boot of the rig, emulated by `program`, for one job."""

    def __init__(self, program, cache, kernel, job, log):
        self.root = root_archive(cache, kernel, job)
        self.program = program
        self.kernel = kernel
        self.log = log

    def lines(self):
        """Yields the job's report line by line.

        Raises `Died` when the outer machine does not live until the job is done, and `Overrun` when it
        lives but the job does not end.
        """
        begin = heard = time.monotonic()
        started, said = False, 0
        with open(self.log.with_suffix(".emulator"), "wb") as complaints:
            machine = subprocess.Popen(
                command(self.program, self.kernel, self.root) + ["-serial", f"file:{self.log}", "-serial", "stdio"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints, env=self.program.environment,
                preexec_fn=_die_with_parent,
            )
        try:
            selector = selectors.DefaultSelector()
            selector.register(machine.stdout, selectors.EVENT_READ)
            pending = b""
            while True:
                now = time.monotonic()
                if now - begin > BOOT_DEADLINE:
                    raise Overrun() if started else Died("did not start")
                # Until it has a heartbeat, its kernel's messages tell that it lives.
                if not started and (size := self.log.stat().st_size if self.log.exists() else 0) != said:
                    said, heard = size, now
                if now - heard > SILENCE:
                    raise Died("fell silent")
                if not selector.select(1.0):
                    continue
                chunk = os.read(machine.stdout.fileno(), 65536)
                if not chunk:
                    raise Died("ended before its job was done")
                heard = time.monotonic()
                if not started:
                    # What it took to get there, on a machine that is busy, is not taken from the tests' time.
                    started, begin = True, heard
                *lines, pending = (pending + chunk).split(b"\n")
                for raw in lines:
                    text = raw.decode("utf-8", "replace").rstrip("\r")
                    if text == "outer done":
                        return
                    if text != "heartbeat":
                        yield text
        finally:
            machine.kill()
            machine.wait()
            machine.stdout.close()
            self.root.unlink(missing_ok=True)


class Died(Exception):
    """The outer machine died or fell silent: the boot may be repeated."""


class Overrun(Exception):
    """The outer machine lives, but its job did not end in time."""


def run(cache, the_cases, report=print):
    """Runs the cases in as many boots of the rig as it takes; returns their results in order."""
    program, kernel = emulator(cache, report), linux.kernel(cache)
    logs = cache / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    waiting = [c.name for c in the_cases]
    results, deaths, boots = {}, {}, 0

    def fail(name, text):
        results[name] = Result(name, "FAILED", 0.0, text)
        waiting.remove(name)
        report(cases.line(results[name]))

    def repeat(result):
        deaths[result.name] = deaths.get(result.name, 0) + 1
        kept = logs / f"broken-{sum(deaths.values())}.log"
        kept.write_text(cases.line(result) + "\n", encoding="utf-8")
        reason = next((line for line in reversed(result.text.splitlines()) if "Broken: " in line), "").split("Broken: ")[-1]
        report(f"note: the emulated processor broke the guest of {result.name}: {reason}; account: {kept}")
        if deaths[result.name] >= MOST_DEATHS:
            fail(result.name, f"its guest broke {MOST_DEATHS} times; account: {kept}\n{result.text}")

    while waiting:
        boots += 1
        log = logs / f"boot-{boots}.log"
        command_line = f"LIFECYCLE_TRACES={INSIDE_TRACES} python3 -m harness inside {' '.join(waiting)}"
        job = {"JOB": "cases", "COMMAND": f"{environment(program, BOOT_BUDGET)} {command_line}"}
        current = []
        try:
            for text in Boot(program, cache, kernel, job, log).lines():
                kind, _, rest = text.partition(" ")
                if kind == "begin":
                    current.append(rest)
                elif kind == "edge":
                    _keep_edge(boots, rest)
                elif kind == "result":
                    result = Result(**json.loads(rest))
                    current.remove(result.name)
                    if result.outcome == "broken":
                        repeat(result)
                        continue
                    results[result.name] = result
                    waiting.remove(result.name)
                    report(cases.line(result))
                else:
                    report(text)
        except Died as death:
            report(f"note: boot {boots} of the rig {death} (during {', '.join(current) or 'its start'}); log: {log}")
            # A machine that never gets to a test is not repeated for ever either.
            for name in current or waiting[:1]:
                deaths[name] = deaths.get(name, 0) + 1
                if deaths[name] >= MOST_DEATHS:
                    fail(name, f"the rig died {MOST_DEATHS} times during this test; log: {log}")
        except Overrun:
            for name in current or waiting[:1]:
                fail(name, f"did not let the rig end within {BOOT_DEADLINE} s; log: {log}")
    report(f"note: the rig booted {boots} times")
    return [results[c.name] for c in the_cases]


def _keep_edge(boot, edge):
    """Puts an edge that a run in the rig has taken to the traces of the other runs."""
    if traces := os.environ.get("LIFECYCLE_TRACES"):
        with open(f"{traces}/rig-{boot}.edges", "a", encoding="ascii") as edges:
            edges.write(edge + "\n")


class _Edges:
    """In the rig: the edges that the runs have taken, each printed once, as soon as a case has ended."""

    def __init__(self, folder):
        self.folder = folder
        self.seen = set()
        self.read = {}

    def print_new(self):
        """Prints what has come since the last call."""
        for trace in self.folder.glob("*.trace"):
            with open(trace, "rb") as file:
                file.seek(self.read.get(trace, 0))
                text = file.read()
            # A run that goes on may be in the middle of a line.
            text = text[: text.rfind(b"\n") + 1]
            self.read[trace] = self.read.get(trace, 0) + len(text)
            for edge in re.findall(rb'"what":"state","from":"([a-z-]+)","to":"([a-z-]+)"', text):
                if edge not in self.seen:
                    self.seen.add(edge)
                    print("edge", *(name.decode() for name in edge), flush=True)


def inside(names, folder="scenarios"):
    """Runs in the rig: the named cases, as many as the budget of this boot allows."""
    budget = float(os.environ["CASE_BUDGET"])
    known = {c.name: c for c in cases.discover(folder)}
    end = time.monotonic() + budget
    INSIDE_TRACES.mkdir(parents=True, exist_ok=True)
    edges = _Edges(INSIDE_TRACES)

    def ended(result):
        edges.print_new()
        print("result", json.dumps(vars(result)), flush=True)

    cases.run_all(
        [known[name] for name in names],
        ended=ended,
        begun=lambda name: print("begin", name, flush=True),
        jobs=JOBS,
        go_on=lambda: time.monotonic() < end,
    )


def job(cache, command_line, report=print):
    """Runs one command line in the rig and passes on what it prints; true when it was run to its end."""
    program, kernel = emulator(cache, report), linux.kernel(cache)
    logs = cache / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    line = f"{environment(program, 0)} {command_line}"
    for _ in range(MOST_DEATHS):
        try:
            for text in Boot(program, cache, kernel, {"JOB": "command", "COMMAND": line}, logs / "job.log").lines():
                report(text)
            return True
        except Died as death:
            report(f"note: the rig {death}")
        except Overrun:
            report(f"note: the job did not end within {BOOT_DEADLINE} s")
            break
    return False


def shell(cache, command_line):
    """Boots the rig with its console on this terminal and runs one command line in it."""
    program, kernel = emulator(cache), linux.kernel(cache)
    root = root_archive(cache, kernel, {"JOB": "shell", "COMMAND": command_line})
    print("Starting the emulated machine; this takes some seconds.")
    print("`poweroff -f` in the guest ends it, and so does Ctrl-A x at any time.\n", flush=True)
    try:
        return subprocess.run(
            command(program, kernel, root, "quiet") + ["-serial", "mon:stdio"], env=program.environment, check=False,
        ).returncode
    finally:
        root.unlink(missing_ok=True)
