"""Finds tests, runs each in a process group of its own under its own deadline, and reports in the
form of cargo's test harness, so that one counter serves everything.

A test is a coroutine function marked with `@case`. Each runs in a forked child that leads a process
group: when the test ends, by whatever way, everything in the group is killed, so that no VMM survives
its test. A case that cannot run on this machine raises `Skip` with the reason.
"""

import asyncio
import collections
import contextlib
import dataclasses
import importlib
import json
import os
import pathlib
import select
import signal
import sys
import textwrap
import time
import traceback
from typing import Callable

ROOT = pathlib.Path(__file__).resolve().parent.parent


#: Multiplies every deadline: for a machine that is slow, or busy with other things.
SLOWNESS = float(os.environ.get("SLOWNESS", "1"))


#: How long a case that is overdue has to say what it was at, in seconds.
LAST_WORDS = 6 * SLOWNESS


class Skip(Exception):
    """This machine cannot run the test; the text says what is missing."""


class Broken(Exception):
    """The emulated processor broke the guest under test; the text says by what that was seen."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One test: its full name, the coroutine function, and how long it may take."""

    name: str
    function: Callable
    deadline: float


@dataclasses.dataclass
class Result:
    """How a case ended: `ok`, `FAILED`, `ignored` or `broken`, and what there is to say about it."""

    name: str
    outcome: str
    seconds: float
    text: str = ""


def case(deadline):
    """Marks a coroutine function as a test that must end within `deadline` seconds."""

    def mark(function):
        function.case_deadline = deadline
        return function

    return mark


def discover(folder, words=()):
    """All cases below `folder` (a package of this directory) whose name contains one of `words`."""
    cases = []
    for path in sorted((ROOT / folder).glob("*.py")):
        if path.stem == "__init__":
            continue
        module = importlib.import_module(f"{folder}.{path.stem}")
        for name, value in vars(module).items():
            if hasattr(value, "case_deadline") and value.__module__ == module.__name__:
                full = f"{folder}::{path.stem}::{name}"
                if not words or any(word in full for word in words):
                    cases.append(Case(full, value, value.case_deadline))
    return cases


def _run_child(the_case, report):
    """In the child: runs the coroutine and writes the result to the pipe. Never returns."""
    outcome, text = "ok", ""
    try:
        asyncio.run(the_case.function())
    except Skip as reason:
        outcome, text = "ignored", str(reason)
    except Broken:
        outcome, text = "broken", traceback.format_exc()
    except BaseException:  # pylint: disable=broad-except
        outcome, text = "FAILED", traceback.format_exc()
    os.write(report, json.dumps([outcome, text[-60000:]]).encode())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


class _Running:
    """A case on its way: the child's process group, and the pipe on which it reports."""

    def __init__(self, the_case):
        self.case = the_case
        self.begin = time.monotonic()
        self.data = b""
        self.pipe, theirs = os.pipe()
        sys.stdout.flush()
        self.child = os.fork()
        if self.child == 0:
            os.setpgid(0, 0)
            os.close(self.pipe)
            _run_child(the_case, theirs)
        os.close(theirs)
        # The child may not have got there yet: whoever is first makes the group, the other's call is harmless.
        with contextlib.suppress(OSError):
            os.setpgid(self.child, self.child)

    def left(self):
        """Seconds until the deadline."""
        return self.begin + self.case.deadline * SLOWNESS - time.monotonic()

    def ended(self):
        """Takes what the child reports; true when that was all."""
        chunk = os.read(self.pipe, 65536)
        self.data += chunk
        return not chunk

    def interrupt(self):
        """Ends the coroutine of a case that is overdue, and gives it time to say what it was at."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.child, signal.SIGINT)
        end = time.monotonic() + LAST_WORDS
        while (left := end - time.monotonic()) > 0:
            if select.select([self.pipe], [], [], left)[0] and self.ended():
                break

    def end(self, overdue=False):
        """Kills what is left of the group and returns the result."""
        if overdue:
            self.interrupt()
        os.close(self.pipe)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)
        seconds = time.monotonic() - self.begin
        try:
            outcome, text = json.loads(self.data)
        except ValueError:
            outcome, text = "FAILED", "the test process ended without a result"
        if overdue:
            # Whatever it said when it was interrupted, it did not pass.
            outcome = "broken" if outcome == "broken" else "FAILED"
            text = f"did not end within {self.case.deadline * SLOWNESS} s\n{text}"
        return Result(self.case.name, outcome, seconds, text)


def run_all(cases, ended, begun=lambda name: None, jobs=1, go_on=lambda: True):
    """Runs the cases in their order, `jobs` at a time, and returns the results in the order of their end.

    `begun` and `ended` hear of each; no further case begins once `go_on` is false.
    """
    waiting, running, results = list(cases), {}, []
    try:
        while waiting and go_on() or running:
            while waiting and len(running) < jobs and go_on():
                the_case = waiting.pop(0)
                begun(the_case.name)
                case_running = _Running(the_case)
                running[case_running.pipe] = case_running
            patience = min(max(0.0, r.left()) for r in running.values())
            ready = select.select(list(running), [], [], patience)[0]
            for pipe, case_running in list(running.items()):
                overdue = case_running.left() <= 0
                if overdue or (pipe in ready and case_running.ended()):
                    del running[pipe]
                    results.append(case_running.end(overdue))
                    ended(results[-1])
    finally:
        # Whoever ends the harness ends the tests that are under way, and their VMs.
        for left in running.values():
            left.end()
    return results


def line(result):
    """The line of cargo's harness for one result; below it, what a failed one has to say."""
    if result.outcome == "ignored":
        return f"test {result.name} ... ignored, {result.text}"
    text = f"test {result.name} ... {result.outcome} ({result.seconds:.1f} s)"
    if result.outcome in ("FAILED", "broken"):
        text += "\n" + textwrap.indent(result.text.rstrip(), "    ")
    return text


def summary(results):
    """The last line of cargo's harness."""
    count = collections.Counter(result.outcome for result in results)
    word = "FAILED" if count["FAILED"] else "ok"
    return (
        f"test result: {word}. {count['ok']} passed; {count['FAILED']} failed; "
        f"{count['ignored']} ignored; 0 measured; 0 filtered out"
    )
