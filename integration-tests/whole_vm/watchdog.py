"""A guest that lets its watchdog expire as fast as it can write: it is told of, acted upon, and costs nobody else anything."""

from harness.cases import case
from harness.guests import small_guest
from whole_vm.chaos import answers, retrace
from whole_vm.leaks import footprint


async def told(vm, action):
    """Waits until an expiry with this action is told of; earlier ones may still be on their way."""
    while (await vm.qmp.event("WATCHDOG"))["data"] != {"action": action}:
        pass


@case(deadline=90)
async def a_watchdog_that_expires_for_ever_starves_nobody():
    # What the guest reads at the port is 0xff, and to write that there is to ask for no time at all.
    async with small_guest("port", append="0443w", options=["-S"]) as vm:
        before = None
        for action in ("none", "debug", "shutdown", "reset", "pause"):
            await vm.execute("watchdog-set-action", action=action)
            await vm.execute("cont")
            await told(vm, action)
            for _ in range(30):
                await answers(vm.qmp, "query-status")
                await answers(vm.qmp, "stop")
                await answers(vm.qmp, "cont")
            before = before or footprint(vm)
        await vm.qmp.event("STOP")
        await vm.execute("stop")
        assert await vm.status() in ("watchdog", "paused")
        assert retrace(vm.qmp.names())[0]
        after = footprint(vm)
        assert after[0] == before[0], f"(descriptors, threads, mappings) went from {before[0]} to {after[0]}"
        assert after[1] - before[1] < 4 << 20, f"{after[1] - before[1]} bytes more"
        # The log has the beginning of the storm, and a count of the rest.
        assert "watchdog: timer fired" in vm.stderr()
        assert len(vm.stderr()) < 1 << 18, len(vm.stderr())
        await vm.execute("quit")
        assert await vm.exit_code() == 0
