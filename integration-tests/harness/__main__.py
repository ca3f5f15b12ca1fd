"""The command line of the harness; `integration-tests/run` prepares its Python and calls it."""

import argparse
import os
import pathlib
import signal
import sys

from harness import cases, guests, linux, rig
from harness.emulator import emulator


def cache():
    """The cache folder of this checkout."""
    folder = pathlib.Path(os.environ["RIG_CACHE"])
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def here(folder, words):
    """Runs cases on this machine's own KVM."""
    found = cases.discover(folder, words)
    print(f"running {len(found)} tests", flush=True)
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        reason = "/dev/kvm cannot be opened" if os.path.exists("/dev/kvm") else "there is no /dev/kvm"
        results = [cases.Result(c.name, "ignored", 0.0, reason) for c in found]
        print("\n".join(map(cases.line, results)))
        return results
    return cases.run_all(found, lambda result: print(cases.line(result), flush=True))


def scenarios(words, where):
    """Runs the cases that need a KVM for 64-bit guests, in the rig or here."""
    found = cases.discover("scenarios", words)
    if where == "host":
        kernel = linux.kernel(cache())
        os.environ.setdefault("CASE_BZIMAGE", str(kernel.bzimage))
        os.environ.setdefault("CASE_VMLINUX", str(kernel.vmlinux))
        os.environ.setdefault("CASE_INITRD", str(linux.inner_initrd(cache(), kernel)))
        generic = linux.kernel(cache(), linux.GENERIC)
        os.environ.setdefault("CASE_GENERIC", str(generic.bzimage))
        os.environ.setdefault("CASE_GENERIC_INITRD", str(linux.inner_initrd(cache(), generic, linux.GENERIC)))
        return here("scenarios", words)
    print(f"running {len(found)} tests in the rig", flush=True)
    return rig.run(cache(), found, lambda text: print(text, flush=True))


def main():
    # To be told to end is to leave by the ordinary way: what was started is ended, what was made is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(prog="integration-tests/run", description="Whole-VM tests.")
    commands = parser.add_subparsers(dest="command", required=True)
    kinds = {
        "whole-vm": "tests that any KVM can run",
        "scenarios": "tests with Linux as the guest",
        "soaks": "tests that take minutes to hours each",
    }
    for name, text in kinds.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("words", nargs="*", help="run only tests whose name contains one of these")
        command.add_argument("--list", action="store_true", help="print the names and stop")
        if name == "scenarios":
            command.add_argument(
                "--where", choices=("rig", "host"), default=os.environ.get("SCENARIOS", "rig"),
                help="in the emulated machine, or on this machine's KVM if it runs 64-bit guests (default: $SCENARIOS or rig)",
            )
    commands.add_parser("prepare", help="fetch and build what the rig consists of")
    shell = commands.add_parser("shell", help="a shell in a Linux guest in vmm-bin in the rig")
    shell.add_argument("line", nargs=argparse.REMAINDER, help="run this in the rig instead")
    job = commands.add_parser("job", help="run a command line in the rig")
    job.add_argument("line", nargs=argparse.REMAINDER)
    assembled = commands.add_parser("assemble", help="print the path of a small guest's image")
    assembled.add_argument("name")
    inside = commands.add_parser("inside", help="(in the rig) run the named tests")
    inside.add_argument("names", nargs="*")
    arguments = parser.parse_args()

    if arguments.command in kinds:
        folder = arguments.command.replace("-", "_")
        if arguments.list:
            print("\n".join(c.name for c in cases.discover(folder, arguments.words)))
            return 0
        results = scenarios(arguments.words, arguments.where) if folder == "scenarios" else here(folder, arguments.words)
        print(cases.summary(results), flush=True)
        return 1 if any(r.outcome == "FAILED" for r in results) else 0
    if arguments.command == "prepare":
        emulator(cache())
        kernel = linux.kernel(cache())
        linux.inner_initrd(cache(), kernel)
        linux.inner_initrd(cache(), linux.kernel(cache(), linux.GENERIC), linux.GENERIC)
        rig.base_archive(cache(), kernel)
        return 0
    if arguments.command == "shell":
        default = "./vmm-bin --kernel bzImage --initrd initrd --memory 256 --append console=ttyS0"
        return rig.shell(cache(), " ".join(arguments.line) or default)
    if arguments.command == "job":
        return 0 if rig.job(cache(), " ".join(arguments.line), lambda text: print(text, flush=True)) else 1
    if arguments.command == "assemble":
        print(guests.assembled(arguments.name))
        return 0
    rig.inside(arguments.names)
    return 0


sys.exit(main())
