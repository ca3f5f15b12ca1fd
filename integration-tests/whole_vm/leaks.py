"""After any number of resets the process is what it was: descriptors, threads, memory."""

import os

from harness.cases import SLOWNESS, case
from harness.guests import small_guest

RESETS = int(os.environ.get("RESETS", "1000"))


def footprint(vm):
    """Descriptors, threads and memory mappings of the VMM, and its resident bytes."""
    folder = f"/proc/{vm.process.pid}"
    with open(f"{folder}/maps", encoding="ascii") as maps:
        mappings = len(maps.readlines())
    with open(f"{folder}/statm", encoding="ascii") as statm:
        resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return (len(os.listdir(f"{folder}/fd")), len(os.listdir(f"{folder}/task")), mappings), resident


@case(deadline=120 + SLOWNESS * RESETS / 100)
async def a_thousand_resets_leave_nothing_behind():
    async with small_guest("spin") as vm:
        await vm.console.expect("R")
        # Whatever is made on first use has been made by then.
        for _ in range(50):
            await vm.execute("system_reset")
        before, resident_before = footprint(vm)
        for _ in range(RESETS):
            await vm.execute("system_reset")
        after, resident_after = footprint(vm)
        assert after == before, f"(descriptors, threads, mappings) went from {before} to {after}"
        assert resident_after - resident_before < 2 << 20, f"{resident_after - resident_before} bytes more after {RESETS} resets"
        assert vm.qmp.names().count("RESET") == RESETS + 50
        vm.console.skip()
        await vm.execute("system_reset")
        await vm.console.expect("R")


@case(deadline=120)
async def clients_leave_nothing_behind():
    async with small_guest("spin") as vm:
        await vm.console.expect("R")
        await vm.qmp.disconnect()
        for round_ in range(210):
            session = await vm.connect()
            await session.execute("query-status")
            if round_ == 10:
                before, resident_before = footprint(vm)
            await session.disconnect()
        session = await vm.connect()
        await session.execute("query-status")
        after, resident_after = footprint(vm)
        await session.disconnect()
        assert after == before
        assert resident_after - resident_before < 1 << 20
