"""The user's terminal is the guest's while the VMM runs, and as it was afterwards."""

import contextlib
import os
import pty
import select
import signal
import subprocess
import termios
import time

from harness.cases import case
from harness.machine import PATIENCE, vmm_bin


class Terminal:
    """The VMM on a terminal of its own, with a person's keyboard and eyes."""

    def __init__(self, *arguments):
        self.keyboard, theirs = pty.openpty()
        self.found = termios.tcgetattr(theirs)
        self.theirs = theirs
        self.seen = ""
        self.process = subprocess.Popen(
            [vmm_bin(), *arguments], stdin=theirs, stdout=theirs, stderr=theirs,
            # A terminal's Ctrl-C goes to those who have it as their controlling terminal.
            preexec_fn=lambda: (os.setsid(), __import__("fcntl").ioctl(0, termios.TIOCSCTTY, 0)),
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.keyboard)
        os.close(self.theirs)

    def expect(self, text):
        """Waits until the terminal shows `text`."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            assert time.monotonic() < deadline, f"no {text!r} in {self.seen!r}"
            if select.select([self.keyboard], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    self.seen += os.read(self.keyboard, 65536).decode("utf-8", "replace")

    def type(self, data):
        """Presses keys."""
        os.write(self.keyboard, data)

    def end(self):
        """Waits for the VMM's end; the terminal must be as it was. Returns the exit status."""
        status = self.process.wait(PATIENCE)
        assert termios.tcgetattr(self.theirs) == self.found, "the terminal was not given back as it was"
        return status

    def is_raw(self):
        """Whether the terminal is in raw mode."""
        return not termios.tcgetattr(self.theirs)[3] & termios.ICANON


@case(deadline=60)
async def escape_sequence_ends_it():
    with Terminal() as terminal:
        terminal.expect("guest> ")
        assert terminal.is_raw()
        terminal.type(b"\x01h")
        terminal.expect("Ctrl-A x")
        terminal.type(b"\x01x")
        assert terminal.end() == 0


@case(deadline=60)
async def ctrl_c_ends_the_embedded_guest():
    with Terminal() as terminal:
        terminal.expect("guest> ")
        terminal.type(b"\x03")
        assert terminal.end() == 0


@case(deadline=60)
async def a_signal_gives_the_terminal_back():
    for number in (signal.SIGTERM, signal.SIGHUP):
        with Terminal() as terminal:
            terminal.expect("guest> ")
            terminal.process.send_signal(number)
            assert terminal.end() == 0


@case(deadline=60)
async def the_guests_own_shutdown_gives_the_terminal_back():
    with Terminal() as terminal:
        terminal.expect("guest> ")
        terminal.type(b"s")
        assert terminal.end() == 0
