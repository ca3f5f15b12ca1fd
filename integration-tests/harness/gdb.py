"""gdb itself, driven by its machine interface (MI), with a VMM's stub at the other end.

What gdb shows is what a person sees: the tests speak to the stub through it and by no protocol of their own.
"""

import asyncio
import contextlib
import re
import shutil

from harness.cases import Skip
from harness.machine import PATIENCE


class Refused(Exception):
    """gdb answered a command with an error; the text is gdb's."""


class Gdb:
    """An `async with` for one gdb. Leaving it kills gdb, which is what a crash of it would look like."""

    def __init__(self, *arguments):
        self.arguments = ["gdb", "-q", "-nx", "-i=mi", *map(str, arguments)]
        self.process = None
        self.transcript = []
        self._stops = asyncio.Queue()
        self._results = asyncio.Queue()
        self._console = []
        self._reader = None

    async def __aenter__(self):
        if not shutil.which("gdb"):
            raise Skip("there is no gdb")
        self.process = await asyncio.create_subprocess_exec(
            *self.arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, limit=1 << 20,
        )
        self._reader = asyncio.create_task(self._read())
        for setting in ("mi-async on", "confirm off", "pagination off", "width 0", "tcp connect-timeout 60",
                        f"remotetimeout {int(PATIENCE)}"):
            await self.mi(f"-gdb-set {setting}")
        return self

    async def __aexit__(self, kind, error, trace):
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        if error is not None:
            error.add_note("gdb: " + "\n".join(self.transcript[-60:]))

    async def _read(self):
        with contextlib.suppress(ConnectionError):
            while line := (await self.process.stdout.readline()).decode("utf-8", "replace").rstrip():
                self.transcript.append(line)
                if line.startswith("*stopped"):
                    self._stops.put_nowait(dict(re.findall(r'([\w-]+)="([^"]*)"', line)))
                elif line.startswith("^"):
                    self._results.put_nowait(line)
                elif line.startswith("~"):
                    self._console.append(line[2:-1].encode().decode("unicode_escape"))
        self._results.put_nowait('^error,msg="gdb has ended"')

    async def mi(self, command):
        """Runs one command of MI; returns the result record."""
        self.transcript.append(command)
        self._console.clear()
        self.process.stdin.write(command.encode() + b"\n")
        async with asyncio.timeout(PATIENCE):
            result = await self._results.get()
        if result.startswith("^error"):
            raise Refused(result)
        return result

    async def run(self, command):
        """Runs one command as a person types it; returns what gdb prints."""
        quoted = command.replace("\\", "\\\\").replace('"', '\\"')
        await self.mi(f'-interpreter-exec console "{quoted}"')
        return "".join(self._console)

    async def value(self, expression):
        """What gdb says that an expression of the target is, as a number."""
        text = await self.run(f"print/x {expression}")
        return int(re.search(r"= (0x[0-9a-f]+)", text).group(1), 16)

    async def attach(self, where):
        """Connects to a stub; returns when the guest has stopped."""
        await self.mi(f"-target-select remote {where}")
        return await self.stopped()

    async def stopped(self, timeout=None):
        """Waits until the guest stops; returns why, as MI says it."""
        async with asyncio.timeout(timeout or PATIENCE):
            return await self._stops.get()

    async def go(self, command="-exec-continue"):
        """Lets the guest run, and returns why it has stopped."""
        await self.mi(command)
        return await self.stopped()

    async def interrupt(self):
        """Ctrl-C; returns why the guest has stopped."""
        return await self.go("-exec-interrupt")
