"""A hostile guest that reads and writes everything at random: the VMM neither dies, nor grows, nor stops
answering."""

import asyncio
import os
import time

from harness.cases import case
from harness.guests import small_guest
from harness.machine import PATIENCE
from whole_vm.chaos import answers, goes_on
from whole_vm.leaks import footprint

SECONDS = float(os.environ.get("HAMMER_SECONDS", "20"))


def accesses(vm):
    """How many accesses the guest has told of."""
    return (vm.folder / "debug").stat().st_size * 1024


@case(deadline=100 + SECONDS)
async def random_ports_and_memory():
    # A guest that powers off or panics is started again: the test is about the VMM.
    options = ["--no-shutdown", "--action", "panic=none", "--debugcon", "file:debug"]
    if os.environ.get("CASE_VMM", "vmm-bin") != "vmm-bin":
        options = options[:-2] + ["-debugcon", "file:debug", "-global", "isa-debugcon.iobase=0x402"]
    async with small_guest("hammer", cpus=2, options=options) as vm:
        begin = looked = time.monotonic()
        slowest, dots, starts, warm = 0.0, 0, 0, None
        while goes_on(begin, SECONDS, lambda: accesses(vm) > 20_000):
            now = time.monotonic()
            async with asyncio.timeout(PATIENCE):
                state = await vm.status()
            slowest = max(slowest, time.monotonic() - now)
            stuck = False
            if now - looked > 0.4:
                # It may have sent itself an INIT, or masked what would wake it: that is its own affair.
                stuck, looked = accesses(vm) == dots, now
                dots = accesses(vm)
            if state != "running" or stuck:
                starts += 1
                await vm.execute("system_reset")
                # It may have powered itself off again by now: then the next look finds it so.
                await answers(vm.qmp, "cont")
            if warm is None and now - begin > SECONDS / 4:
                warm = footprint(vm)
            await asyncio.sleep(0.02)
        end = footprint(vm)
        assert accesses(vm) > 20_000, f"the guest got through {accesses(vm)} accesses only"
        assert end[0] == warm[0], f"(descriptors, threads, mappings) went from {warm[0]} to {end[0]}"
        assert end[1] - warm[1] < 4 << 20, f"{end[1] - warm[1]} bytes more"
        assert len(vm.stderr()) < 1 << 20, "the guest can flood the log"
        assert "panicked at" not in vm.stderr(), vm.stderr()
        resets = vm.qmp.names().count("RESET")
        print(
            f"hammer: {accesses(vm)} accesses, {resets} resets ({starts} by the test), "
            f"slowest query-status {slowest * 1000:.0f} ms"
        )
        # A guest that runs may end the machine first, by the debug-exit port, with a code of its own.
        await vm.execute("stop")
        await vm.execute("quit")
        assert await vm.exit_code() == 0
