"""A stopped guest does nothing, and goes on as if nothing had been."""

import asyncio
import re
import time

from harness.cases import case
from harness.guests import linux_guest


def counted(vm):
    """The last number that the guest counted to on its console."""
    numbers = re.findall(r"^count (\d+)$", vm.console.text, re.MULTILINE)
    return int(numbers[-1]) if numbers else 0


async def _counting(vm):
    """The guest counts on its console, about ten times a second."""
    await vm.ready()
    vm.type("n=0; while :; do n=$((n+1)); echo count $n; usleep 100000; done &")
    await vm.console.expect(r"^count 3$")


async def _still(vm):
    """Waits until what was on its way to us has arrived and the guest counts no further; returns how far it has."""
    await vm.console.silence(3)
    return counted(vm)


@case(deadline=60)
async def stopped_guest_does_not_count_and_goes_on_after():
    async with linux_guest() as vm:
        await _counting(vm)
        for _ in range(2):
            await vm.execute("stop")
            assert await vm.status() == "paused"
            number = await _still(vm)
            await vm.execute("cont")
            # Not one number is lost or said twice.
            for following in range(number + 1, number + 6):
                await vm.console.expect(rf"^count {following}$")
            assert await vm.status() == "running"
        numbers = [int(n) for n in re.findall(r"^count (\d+)$", vm.console.text, re.MULTILINE)]
        assert numbers == list(range(1, len(numbers) + 1)), numbers


@case(deadline=60)
async def both_vcpus_stop():
    async with linux_guest(cpus=2) as vm:
        await vm.ready()
        for cpu in (1, 2):
            vm.type(f"taskset {cpu} sh -c 'n=0; while :; do n=$((n+1)); echo count $n; usleep 100000; done' &")
        await vm.console.expect(r"^count 5$")
        await vm.execute("stop")
        await _still(vm)
        await vm.execute("cont")
        vm.console.skip()
        await vm.console.expect(r"^count \d+$")


@case(deadline=90)
async def the_guests_clock_does_not_jump_over_a_stop():
    async with linux_guest() as vm:
        await vm.ready()
        stopped = 12.0
        begin, before = time.monotonic(), await vm.uptime()
        await vm.execute("stop")
        await asyncio.sleep(stopped)
        await vm.execute("cont")
        after, end = await vm.uptime(), time.monotonic()
        # It cannot have run for longer than we let it, and half a stop would be a jump.
        ran = end - begin - stopped
        assert 0 <= after - before <= ran + stopped / 2, f"the guest's clock moved {after - before} s in {ran} s"
        # Nor may it believe that it hung, and its timers must go on.
        assert await vm.shell("dmesg | grep -ciE 'soft lockup|self-detected stall'") == "0"
        await vm.shell("sleep 1")


@case(deadline=60)
async def start_paused_runs_on_cont():
    async with linux_guest(options=["-S"]) as vm:
        assert await vm.status() == "prelaunch"
        await asyncio.sleep(2)
        assert vm.console.text == ""
        await vm.execute("cont")
        await vm.ready()


@case(deadline=90)
async def a_hundred_stops_lose_nothing():
    async with linux_guest() as vm:
        await _counting(vm)
        for _ in range(100):
            await vm.execute("stop")
            await vm.execute("cont")
        number = counted(vm)
        await vm.console.expect(rf"^count {number + 5}$")
        names = [n for n in vm.qmp.names() if n in ("STOP", "RESUME")]
        # The machine's own start may or may not have been seen.
        assert names[-200:] == ["STOP", "RESUME"] * 100
