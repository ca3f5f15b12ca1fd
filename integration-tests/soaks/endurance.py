"""One VM for hours, under everything at once: its memory has no slope, it keeps no descriptor and no thread, and it answers."""

import asyncio
import collections
import contextlib
import os
import random
import time

from harness.cases import case
from harness.gdb import Gdb, Refused
from harness.machine import PATIENCE, Machine
from harness.trend import grows, interval
from whole_vm.chaos import answers, retrace
from whole_vm.embedded import PROMPT
from whole_vm.hostile_qmp import NEGOTIATE
from whole_vm.leaks import footprint

SECONDS = float(os.environ.get("ENDURANCE_SECONDS", "7200"))
#: The share of the time after which whatever is made on first use has been made.
WARM_UP = 0.1
#: How often what was seen until then is said, in seconds.
REPORT = 300

#: What the guest is told to do. Not to exit (`e`), which ends the program, nor to try all ports (`x`), one of which does that.
KEYS = "r9ctsuav4plogwnbhd?"
COMMANDS = (
    "stop", "stop", "cont", "cont", "cont", "system_wakeup", "system_wakeup", "system_reset", "system_powerdown",
    "query-status", "query-cpus-fast", "query-commands", "query-jobs", "query-dump", "inject-nmi", "no-such-command",
)
VISITS = (b"", NEGOTIATE[:9], NEGOTIATE + b'{"execute": "query-commands"}' * 20, b"\xff" * 100, b"[" * 10000)


def resident(vm):
    """The VMM's resident bytes, page by page and not as the kernel estimates them, without the guest's memory, a memory file."""
    total, counts = 0, False
    with open(f"/proc/{vm.process.pid}/smaps", encoding="ascii") as smaps:
        for line in smaps:
            if line.startswith("Rss:") and counts:
                total += int(line.split()[1]) << 10
            elif "-" in line.split(maxsplit=1)[0]:
                counts = "memfd:" not in line
    return total


class Endurance:
    """A VM, those who want something of it, and what was seen of it."""

    def __init__(self, vm):
        self.vm = vm
        self.random = random.Random(2026)
        self.did = collections.Counter()
        self.events = collections.Counter()

    async def guest(self):
        """Chooses from the guest's menu, and then presses any key."""
        for _ in range(2):
            self.vm.console.send(self.random.choice(KEYS))
            self.did["keys"] += 1
            await asyncio.sleep(self.random.choice((0, 0.05, 0.3)))

    async def client(self, session):
        """Asks for anything."""
        for _ in range(30):
            await answers(session, self.random.choice(COMMANDS))
            self.did["requests"] += 1
            await asyncio.sleep(self.random.choice((0, 0, 0, 0.002, 0.02)))

    async def subscriber(self):
        """Comes, hears the events for a while, and goes."""
        session = await self.vm.connect()
        await answers(session, "query-events")
        await asyncio.sleep(self.random.random() / 4)
        await answers(session, "human-monitor-command", {"command-line": "info status"})
        self.did["requests"] += 2
        self.did["events heard by visitors"] += len(session.all_events.clear())
        await session.disconnect()

    async def visitor(self):
        """Says something, right or wrong, and goes without a word."""
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_unix_connection(str(self.vm.qmp_path), limit=1 << 20)
            await reader.readline()
            writer.write(self.random.choice(VISITS))
            await asyncio.sleep(self.random.choice((0, 0.02)))
            writer.transport.abort()
        self.did["visits"] += 1

    async def dump(self):
        """Has the guest's memory written, and removed."""
        await answers(self.vm.qmp, "dump-guest-memory", {"paging": False, "protocol": "file:core"})
        with contextlib.suppress(FileNotFoundError):
            (self.vm.folder / "dumps/core").unlink()
            self.did["dumps"] += 1

    async def debugger(self):
        """Stops the guest, looks at it, and detaches or dies."""
        async with Gdb() as gdb:
            await gdb.attach(self.vm.folder / "gdb")
            with contextlib.suppress(Refused):
                await gdb.value("$pc")
                await gdb.run("x/16xb 0xff000")
                if self.random.random() < 0.5:
                    await gdb.run("detach")
        self.did["debuggers"] += 1

    async def crowd(self, turn, other):
        """Everything at once."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.guest())
            for session in (self.vm.qmp, other):
                group.create_task(self.client(session))
            for _ in range(2):
                group.create_task(self.subscriber())
                group.create_task(self.visitor())
            if turn % 10 == 3:
                group.create_task(self.dump())

    async def recover(self):
        """Resets the guest until it is at its menu: it may first take to heart a key that was pressed while it could not listen."""
        for _ in range(10):
            for command in ("stop", "system_reset"):
                await self.vm.execute(command)
            self.vm.console.skip()
            await self.vm.execute("cont")
            self.did["requests"] += 3
            with contextlib.suppress(TimeoutError):
                await self.vm.console.expect("Memory is as at power-on", PATIENCE / 4)
                await self.vm.console.expect(PROMPT, PATIENCE / 4)
                if await self.vm.status() == "running":
                    return
        raise AssertionError("ten resets did not bring the guest to its menu")

    def look_back(self):
        """The events of a turn, which began with a VM that ran, make sense; nothing that was heard is kept."""
        vm = self.vm
        names = vm.qmp.names()
        assert retrace(names, stopped=False) == (False, False), names
        self.events.update(name for name in names if name not in ("return", "error"))
        for kept in (vm.qmp.transcript, vm.qmp.all_events):
            kept.clear()
        vm.console.text, vm.console.cursor = "", 0


async def quiet(vm, most):
    """Waits until what was there for those who have left is gone: no more than `most` descriptors and threads."""
    end = time.monotonic() + PATIENCE
    while any(now > before for now, before in zip(footprint(vm)[0], most)):
        assert time.monotonic() < end, f"(descriptors, threads) stay at {footprint(vm)[0][:2]}: they were {most}"
        await asyncio.sleep(0.05)


def verdict(samples):
    """What the samples of (seconds, bytes) say, and whether that is a leak."""
    slope = interval(samples)
    said = (
        f"{samples[0][1] >> 10} to {samples[-1][1] >> 10} KiB resident, {len(samples)} samples, "
        "slope {:.2f} bytes/s ({:.2f} to {:.2f} with 99 % confidence)".format(*slope)
    )
    return said, grows(slope)


@case(deadline=SECONDS + 300)
async def hours_under_everything_leave_nothing_behind():
    options = ["--gdb", "unix:gdb", "--dump-dir", "dumps", "--action", "panic=pause,shutdown=pause"]
    vm = Machine(memory="32M,shared=on", cpus=2, options=options)
    (vm.folder / "dumps").mkdir()
    async with vm:
        await vm.console.expect(PROMPT)
        other = await vm.connect()
        endurance, samples, most, turn = Endurance(vm), [], None, 0
        begin = said = time.monotonic()
        vm.qmp.transcript.clear()
        while (now := time.monotonic()) < begin + SECONDS:
            turn += 1
            await endurance.crowd(turn, other)
            if turn % 10 == 6:
                await endurance.debugger()
            await endurance.recover()
            endurance.look_back()
            for kept in (other.transcript, other.all_events):
                kept.clear()
            if most:
                await quiet(vm, most)
            elif turn == 20:
                await asyncio.sleep(1)
                most = footprint(vm)[0][:2]
            elapsed = time.monotonic() - begin
            if elapsed > WARM_UP * SECONDS:
                samples.append((elapsed, resident(vm)))
            if now - said > REPORT:
                said = now
                assert "panicked at" not in vm.stderr(), vm.stderr()
                print(f"after {elapsed:.0f} s: {turn} turns, {resident(vm) >> 10} KiB, {most}, {dict(endurance.did)}", flush=True)
        assert most, "too short: there were not 20 turns"
        found, leaks = verdict(samples)
        did = ", ".join(f"{count} {name}" for name, count in (endurance.did + endurance.events).items())
        print(f"endurance: {turn} turns: {did}; {most[0]} descriptors and {most[1]} threads as in turn 20; {found}", flush=True)
        assert not leaks, found
        assert footprint(vm)[0][:2] == most, (footprint(vm)[0], most)
        await vm.execute("quit")
        assert await vm.exit_code() == 0
        assert "panicked at" not in vm.stderr(), vm.stderr()
