"""Guests that do with the power registers what they can, and reset for ever: the VMM is not stuck, not starved, not killed."""

import asyncio
import os
import random
import statistics
import time

from harness.cases import case
from harness.guests import small_guest
from harness.machine import PATIENCE
from whole_vm.chaos import answers, counted, dots, goes_on, retrace, survived
from whole_vm.leaks import footprint

SECONDS = float(os.environ.get("POWERS_SECONDS", "15"))


async def round_trips(vm, count):
    """How long `query-status` takes, in the middle, with the guest at work."""
    times = []
    for _ in range(count):
        begin = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            await vm.status()
        times.append(time.monotonic() - begin)
    return statistics.median(times)


@case(deadline=90)
async def a_guest_that_resets_for_ever_starves_nobody():
    async with small_guest("spin") as vm:
        await vm.console.expect("R")
        quiet = await round_trips(vm, 200)
    async with small_guest("storm", options=["-S"]) as vm:
        await vm.execute("cont")
        await vm.qmp.event("RESET")
        before = vm.qmp.names().count("RESET")
        storm = await round_trips(vm, 200)
        resets = vm.qmp.names().count("RESET") - before
        # It goes on in between, and every one of its resets is told of.
        assert resets > 0
        print(
            f"storm: query-status waits for {resets / 200:.1f} resets in the mean, and takes {storm / quiet:.1f} times "
            "what it takes in a quiet VM"
        )
        for _ in range(20):
            async with asyncio.timeout(PATIENCE):
                await vm.execute("stop")
            # A reset that was asked for before the stop is served with it.
            state = await vm.status()
            assert state in ("paused", "prelaunch")
            stopped = len(vm.qmp.transcript)
            assert await vm.status() == state
            assert vm.qmp.names(stopped) == ["return"], "it was reset while it was stopped"
            await vm.execute("cont")
            async with asyncio.timeout(PATIENCE):
                while "RESET" not in vm.qmp.names(stopped):
                    await asyncio.sleep(0.001)
        assert retrace(vm.qmp.names()) == (False, False)
        await vm.execute("quit")
        assert await vm.exit_code() == 0


@case(deadline=90)
async def a_guest_that_resets_for_ever_is_ended_by_a_signal():
    async with small_guest("storm") as vm:
        await vm.qmp.event("RESET")
        vm.signal()
        async with asyncio.timeout(PATIENCE):
            assert await vm.exit_code() == 0


@case(deadline=100 + SECONDS)
async def any_value_in_any_power_register_from_all_vcpus_at_any_time():
    generator = random.Random(604)
    commands = ("stop", "cont", "cont", "system_wakeup", "system_reset", "system_powerdown", "query-status")
    options = ["-S", "--no-shutdown", "--action", "panic=none", "--debugcon", "file:debug"]
    async with small_guest("powers", cpus=4, options=options) as vm:
        other = await vm.connect()
        await vm.execute("cont")
        begin, warm = time.monotonic(), None
        counts = lambda: counted(vm, "SUSPEND", "WAKEUP", "RESET", "SHUTDOWN", "STOP")
        while goes_on(begin, SECONDS, lambda: min(counts().values()) >= 5):
            for _ in range(20):
                await asyncio.gather(*(answers(client, generator.choice(commands)) for client in (vm.qmp, other)))
            async with asyncio.timeout(PATIENCE):
                state = await vm.status()
            if state not in ("running", "suspended") or generator.random() < 0.1:
                await vm.execute("system_reset")
                await answers(vm.qmp, "cont")
            if warm is None and time.monotonic() - begin > SECONDS / 4:
                warm = footprint(vm)
            await asyncio.sleep(generator.choice((0, 0.001, 0.01, 0.05)))
        end = footprint(vm)
        print(f"powers: {counts()}, the guest was up {dots(vm)} times")
        assert min(counts().values()) >= 5
        assert end[0] == warm[0], f"(descriptors, threads, mappings) went from {warm[0]} to {end[0]}"
        assert end[1] - warm[1] < 4 << 20, f"{end[1] - warm[1]} bytes more"
        await other.disconnect()
        await survived(vm)


@case(deadline=60)
async def a_guest_that_jumps_to_nowhere_is_an_internal_error_or_runs():
    options = ["-S", "--debugcon", "file:debug"]
    async with small_guest("nowhere", options=options) as vm:
        for begun in range(1, 4):
            await vm.execute("cont")
            async with asyncio.timeout(PATIENCE):
                while dots(vm) < begun:
                    await asyncio.sleep(0.01)
            # What KVM makes of it is KVM's own affair: it cannot emulate it, or shuts the processor down and the guest resets.
            async with asyncio.timeout(PATIENCE):
                while not {"STOP", "RESET"} & set(vm.qmp.names()):
                    await asyncio.sleep(0.01)
            if "STOP" in vm.qmp.names():
                assert await vm.status() == "internal-error"
                assert await vm.refused("cont") == ("GenericError", "Resetting the Virtual Machine is required")
                assert "KVM" in vm.stderr()
            else:
                await vm.execute("stop")
            await vm.execute("system_reset")
            assert await vm.status() == "prelaunch"
            vm.qmp.transcript.clear()
        await vm.execute("quit")
        assert await vm.exit_code() == 0
