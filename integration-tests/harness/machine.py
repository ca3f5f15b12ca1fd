"""One VMM process under test: how it is started, its console, its QMP session, and how it ends.

The console is the process's standard input and output (`--serial stdio`), so nothing that the guest
prints can be lost. QMP is spoken by `qemu.qmp`, QEMU's own client. The same class starts
`qemu-system-x86_64`, so that a test can be proved against it and a benchmark can compare.
"""

import asyncio
import contextlib
import os
import pathlib
import re
import shutil
import signal
import tempfile
import time

from qemu.qmp import ConnectError, EventListener, ExecuteError, QMPClient

from harness import frozen
from harness.cases import LAST_WORDS, SLOWNESS, Broken

#: How long anything may take that is not a known wait. Only a hang reaches it: the machines that run
#: this stall for hundreds of milliseconds, and an emulated machine is ten times slower.
PATIENCE = float(os.environ.get("CASE_PATIENCE", "20")) * SLOWNESS


class Gone(Exception):
    """The VMM closed its console or ended while something was expected of it."""


class Console:
    """The guest's serial console: everything that it printed, and a cursor behind what was expected."""

    def __init__(self, process):
        self._process = process
        self._grown = asyncio.Event()
        self.text = ""
        self.cursor = 0
        self.ended = False
        self._reader = asyncio.create_task(self._read())

    async def _read(self):
        while chunk := await self._process.stdout.read(65536):
            self.text += chunk.decode("utf-8", "replace").replace("\r\n", "\n")
            self._grown.set()
        self.ended = True
        self._grown.set()

    def send(self, text):
        """Types `text` on the guest's console."""
        self._process.stdin.write(text.encode())

    async def expect(self, pattern, timeout=None):
        """Waits until the console shows `pattern` behind the cursor; moves the cursor past it."""
        regex = re.compile(pattern, re.MULTILINE)
        deadline = time.monotonic() + (timeout or PATIENCE)
        while True:
            if match := regex.search(self.text, self.cursor):
                self.cursor = match.end()
                return match
            if self.ended:
                raise Gone(f"console closed before {pattern!r}; behind the cursor: {self.rest()!r}")
            self._grown.clear()
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    await self._grown.wait()
            except TimeoutError:
                raise TimeoutError(f"no {pattern!r} on the console; behind the cursor: {self.rest()!r}") from None

    def rest(self):
        """The last of what is behind the cursor, for an error message."""
        return self.text[self.cursor :][-1500:]

    async def silence(self, seconds=1):
        """Waits until nothing is printed for so long: what was printed before may still be on its way.

        Returns how long the text is then. A guest that prints all the time never gets there.
        """
        async with asyncio.timeout(PATIENCE):
            while True:
                before = len(self.text)
                await asyncio.sleep(seconds)
                if len(self.text) == before:
                    return before

    def skip(self):
        """Moves the cursor to the end: what was printed until now is not expected any more."""
        self.cursor = len(self.text)


class Session(QMPClient):
    """A QMP client that keeps every message in the order of its arrival."""

    def __init__(self, name):
        super().__init__(name)
        self.transcript = []
        self.all_events = EventListener()
        self.register_listener(self.all_events)

    def _cb_inbound(self, msg):
        self.transcript.append(dict(msg))
        return msg

    def names(self, since=0):
        """The transcript as words: event names, `return` and `error`."""
        words = []
        for message in self.transcript[since:]:
            words.append(message.get("event") or ("return" if "return" in message else "error"))
        return words

    async def event(self, name, timeout=None):
        """Waits for the next event called `name`; events before it are skipped."""
        async with asyncio.timeout(timeout or PATIENCE):
            while True:
                event = await self.all_events.get()
                if event["event"] == name:
                    return event

    async def closed(self, timeout=None):
        """Waits until the server has closed the connection, and puts the session away."""
        async with asyncio.timeout(timeout or PATIENCE):
            with contextlib.suppress(EOFError, ConnectionError):
                while self.running:
                    await self.runstate_changed()
                await self.disconnect()

    @property
    def running(self):
        """Whether the connection is up."""
        return self.runstate.name == "RUNNING"


class Machine:
    """An `async with` for one VMM process; leaving it ends the process and removes its files.

    `kernel`, `initrd`, `append`, `memory` (MiB) and `cpus` mean the same to each VMM. `options` are
    passed on as they are. `vmm` is `vmm-bin` or `qemu-microvm`; `CASE_VMM` overrides the default.
    """

    def __init__(self, kernel=None, initrd=None, append=None, memory=None, cpus=None, options=(), vmm=None, qmp=True):
        self.vmm = vmm or os.environ.get("CASE_VMM", "vmm-bin")
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="vm-"))
        self.qmp_path = self.folder / "qmp" if qmp else None
        self.arguments = self._command(kernel, initrd, append, memory, cpus) + [str(o) for o in options]
        self.process = None
        self.console = None
        self.qmp = None
        self.registers = ""

    def _command(self, kernel, initrd, append, memory, cpus):
        if self.vmm == "vmm-bin":
            command, dash = [vmm_bin(), "--serial", "stdio"], "--"
            names = {"memory": "--memory", "cpus": "--cpus"}
            if self.qmp_path:
                command += ["--qmp", f"unix:{self.qmp_path}"]
            if traces := os.environ.get("LIFECYCLE_TRACES"):
                command += ["--trace", f"{traces}/{self.folder.name}.trace"]
        else:
            machine = {"qemu-microvm": "microvm,rtc=on", "qemu-microvm-bare": "microvm", "qemu-q35": "q35"}[self.vmm]
            command, dash = ["qemu-system-x86_64", "-accel", "kvm", "-M", machine, "-nodefaults", "-no-user-config"], "-"
            command += ["-display", "none", "-serial", "stdio", "-cpu", "host,arch-capabilities=off"]
            names = {"memory": "-m", "cpus": "-smp"}
            if self.qmp_path:
                command += ["-qmp", f"unix:{self.qmp_path},server=on,wait=off"]
        for name, value in (("kernel", kernel), ("initrd", initrd), ("append", append)):
            if value is not None:
                command += [dash + name, str(value)]
        for name, value in (("memory", memory), ("cpus", cpus)):
            if value is not None:
                command += [names[name], str(value)]
        return command

    async def __aenter__(self):
        with open(self.folder / "stderr", "wb") as stderr:
            self.process = await asyncio.create_subprocess_exec(
                *self.arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                cwd=self.folder,
            )
        self.console = Console(self.process)
        try:
            if self.qmp_path:
                self.qmp = await self.connect()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(self, kind, error, trace):
        broken = None
        if error is not None and self.qmp and self.process.returncode is None:
            # What the vCPUs are at says more of a test that waited in vain than all else.
            with contextlib.suppress(Exception):
                broken = await self._look()
        if self.qmp:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(2):
                    await self.qmp.disconnect()
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        if error is not None:
            error.add_note(self.account())
        shutil.rmtree(self.folder, ignore_errors=True)
        if broken:
            raise Broken(broken) from error

    def account(self):
        """What a person wants to see of a machine whose test failed."""
        parts = ["command: " + " ".join(self.arguments), f"exit status: {self.process.returncode}"]
        parts.append("stderr: " + self.stderr()[-3000:])
        parts.append("console: " + (self.console.text[-4000:] if self.console else ""))
        if self.qmp:
            parts.append("qmp: " + repr(self.qmp.transcript[-30:]))
        if self.registers:
            parts.append("registers: " + self.registers)
        return "\n".join(parts)

    async def _look(self):
        """Notes the vCPUs' registers; says why the guest cannot go on if the rig's emulator has broken it."""
        looks = []
        async with asyncio.timeout(LAST_WORDS - 1):
            for _ in range(2):
                looks.append(await self.qmp.execute("human-monitor-command", {"command-line": "info registers -a"}))
                await asyncio.sleep(1)
            runs = (await self.qmp.execute("query-status"))["running"]
        self.registers = re.sub(r"^(FPR|XMM|FCW|DR).*\n", "", looks[-1].replace("\r", ""), flags=re.MULTILINE)
        if not os.environ.get("CASE_EMULATED") or not runs or "Kernel panic" in self.console.text:
            return None
        return frozen.verdict(*looks, frozen.outer_entries())

    def stderr(self):
        """What the process wrote to its standard error until now."""
        return (self.folder / "stderr").read_text("utf-8", "replace")

    async def connect(self):
        """A negotiated QMP session with this machine."""
        deadline = time.monotonic() + PATIENCE
        while True:
            session = Session("test")
            try:
                async with asyncio.timeout(PATIENCE):
                    await session.connect(str(self.qmp_path))
                return session
            except ConnectError:
                if self.process.returncode is not None:
                    raise Gone(f"the VMM ended with {self.process.returncode}: {self.stderr()[-800:]}") from None
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.02)

    async def execute(self, command, **arguments):
        """Runs one QMP command; QMP spells `_` in arguments as `-`."""
        spelled = {name.replace("_", "-"): value for name, value in arguments.items()}
        async with asyncio.timeout(PATIENCE):
            return await self.qmp.execute(command, spelled or None)

    async def refused(self, command, **arguments):
        """Runs one QMP command that must be refused; returns (class, description)."""
        try:
            answer = await self.execute(command, **arguments)
        except ExecuteError as error:
            return error.error_class, str(error)
        raise AssertionError(f"{command} was not refused but answered {answer!r}")

    async def status(self):
        """The state that `query-status` names."""
        return (await self.execute("query-status"))["status"]

    async def exit_code(self, timeout=None):
        """Waits for the process to end by itself; negative for a signal."""
        async with asyncio.timeout(timeout or PATIENCE):
            return await self.process.wait()

    def signal(self, number=signal.SIGTERM):
        """Sends a signal to the VMM."""
        self.process.send_signal(number)


def vmm_bin():
    """The path of the `vmm-bin` under test, from the environment variable `VMM_BIN`."""
    path = os.environ.get("VMM_BIN")
    if not path:
        raise RuntimeError("VMM_BIN is not set: run the tests by integration-tests/run, which sets it")
    return path
