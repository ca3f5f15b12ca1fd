"""Guests and clients that ask for everything at once. QEMU 7.2 aborts on both guests here: a suspend that was asked for
before a stop, or by one vCPU while another one panics, is served in a state from which nothing may suspend."""

import asyncio
import contextlib
import os
import random
import time

from qemu.qmp import ExecuteError

from harness.cases import case
from harness.guests import small_guest
from harness.machine import PATIENCE

SECONDS = float(os.environ.get("CHAOS_SECONDS", "4"))


async def answers(session, command, arguments=None):
    """Sends a command that may be refused; it must be answered."""
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ExecuteError):
            await session.execute(command, arguments)


def counted(vm, *names):
    """How often each of these events has come."""
    return {name: vm.qmp.names().count(name) for name in names}


def goes_on(begin, seconds, enough):
    """Whether something has not lasted that long yet; on a slow machine, also until `enough` holds."""
    lasted = time.monotonic() - begin
    return lasted < seconds or lasted < seconds + 2 * PATIENCE and not enough()


def dots(vm):
    """How often the guest has been awake."""
    return (vm.folder / "debug").stat().st_size


def retrace(names, stopped=True):
    """Follows the events from where the VM was not started, or runs: each must be possible. Returns (stopped, asleep)."""
    asleep = False
    for at, name in enumerate(names):
        possible = {
            "STOP": not stopped,
            "RESUME": stopped,
            "SUSPEND": not stopped and not asleep,
            "WAKEUP": not stopped and asleep,
        }
        assert possible.get(name, True), f"{name} after {names[max(0, at - 20):at]}"
        match name:
            case "STOP" | "RESUME":
                stopped = name == "STOP"
            case "SUSPEND" | "WAKEUP":
                asleep = name == "SUSPEND"
            case "RESET":
                # One that was not running is as before its first start.
                stopped, asleep = stopped or asleep, False
    return stopped, asleep


async def survived(vm):
    """The events make sense, and the machine still does what it is told."""
    await vm.execute("stop")
    assert not (await vm.execute("query-status"))["running"]
    await vm.execute("system_reset")
    assert await vm.status() == "prelaunch"
    assert retrace(vm.qmp.names())[0]
    before = dots(vm)
    await vm.execute("cont")
    async with asyncio.timeout(PATIENCE):
        while dots(vm) == before:
            await asyncio.sleep(0.01)
    assert "panicked at" not in vm.stderr(), vm.stderr()
    await vm.execute("quit")
    assert await vm.exit_code() == 0


@contextlib.asynccontextmanager
async def machine(cpus, *options):
    """A machine whose guest falls asleep again and again, and tells how often it was awake. No event of it is missed."""
    async with small_guest("sleep", cpus=cpus, options=["-S", "--debugcon", "file:debug", *options]) as vm:
        await vm.execute("cont")
        yield vm


@case(deadline=100 + SECONDS)
async def a_guest_that_falls_asleep_for_ever_against_stop_cont_and_wakeup():
    generator = random.Random(842)
    async with machine(1) as vm:
        begin, commands = time.monotonic(), 0
        counts = lambda: counted(vm, "SUSPEND", "WAKEUP", "STOP")
        while goes_on(begin, SECONDS, lambda: min(counts().values()) >= 10):
            for _ in range(50):
                await answers(vm.qmp, generator.choice(("stop", "cont", "system_wakeup")))
            commands += 50
        print(f"chaos: {commands} commands, {counts()}")
        assert min(counts().values()) >= 10
        assert "error" in vm.qmp.names()
        await survived(vm)


@case(deadline=100 + SECONDS)
async def a_vcpu_that_panics_while_another_falls_asleep():
    async with machine(2, "--no-shutdown") as vm:
        begin = time.monotonic()
        reply = {"STOP": "cont", "SUSPEND": "system_wakeup"}
        counts = lambda: counted(vm, "SUSPEND", "WAKEUP", "GUEST_PANICKED")
        while goes_on(begin, SECONDS, lambda: min(counts().values()) >= 10):
            try:
                async with asyncio.timeout(0.05):
                    event = await vm.qmp.all_events.get()
                if command := reply.get(event["event"]):
                    await answers(vm.qmp, command)
            except TimeoutError:
                await answers(vm.qmp, "cont")
                await answers(vm.qmp, "system_wakeup")
        print(f"chaos: {counts()}")
        assert min(counts().values()) >= 10
        await survived(vm)


@case(deadline=100 + SECONDS)
async def every_command_at_random_times():
    generator = random.Random(793)
    commands = ("stop", "cont", "system_wakeup", "system_reset", "system_powerdown", "query-status")
    async with machine(2, "--no-shutdown") as vm:
        other = await vm.connect()
        begin = time.monotonic()
        counts = lambda: counted(vm, "SUSPEND", "RESET", "STOP", "GUEST_PANICKED")
        while goes_on(begin, SECONDS, lambda: min(counts().values()) >= 5):
            for _ in range(20):
                await asyncio.gather(*(answers(client, generator.choice(commands)) for client in (vm.qmp, other)))
            await asyncio.sleep(generator.choice((0, 0, 0.001, 0.02)))
        print(f"chaos: {counts()}")
        assert min(counts().values()) >= 5
        await other.disconnect()
        await survived(vm)
