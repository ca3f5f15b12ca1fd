"""Every command in every state that a guest and a client can bring about: each is answered, and so is any other one that comes
at the same time."""

import asyncio
import itertools

from harness.cases import case
from harness.guests import small_guest
from harness.machine import PATIENCE
from whole_vm.chaos import answers, retrace

COMMANDS = (
    "stop", "cont", "system_reset", "system_powerdown", "system_wakeup", "inject-nmi", "query-status", "query-cpus-fast",
    "query-current-machine",
)


async def until(vm, status):
    """Waits for a state."""
    async with asyncio.timeout(PATIENCE):
        while await vm.status() != status:
            await asyncio.sleep(0.001)


async def start_over(vm):
    """Brings the machine to before its first start, from wherever it is."""
    await vm.execute("set-action", reboot="reset", shutdown="poweroff", panic="pause", watchdog="pause")
    await vm.execute("stop")
    await vm.execute("system_reset")
    await until(vm, "prelaunch")


async def let_shut_down(vm):
    """Has a reset stop the machine for good."""
    await vm.execute("cont")
    await vm.execute("set-action", reboot="shutdown", shutdown="pause")
    await vm.execute("system_reset")


#: How each state comes about: the guest, its command line, and what the client does.
STATES = {
    "prelaunch": ("spin", None, lambda vm: asyncio.sleep(0)),
    "running": ("spin", None, lambda vm: vm.execute("cont")),
    "paused": ("spin", None, lambda vm: asyncio.gather(vm.execute("cont"), vm.execute("stop"))),
    "suspended": ("sleep", None, lambda vm: vm.execute("cont")),
    "guest-panicked": ("port", "0505w", lambda vm: vm.execute("cont")),
    # What it reads there is 0xff, and to write that is to let the watchdog expire at once.
    "watchdog": ("port", "0443w", lambda vm: vm.execute("cont")),
    "shutdown": ("spin", None, let_shut_down),
}


async def in_state(state):
    """Tries every pair of commands of two clients in this state."""
    guest, append, bring_about = STATES[state]
    async with small_guest(guest, append=append, cpus=2 if guest == "spin" else 1, options=["-S"]) as vm:
        other = await vm.connect()
        for one, two in itertools.product(COMMANDS, repeat=2):
            await start_over(vm)
            await bring_about(vm)
            await until(vm, state)
            await asyncio.gather(answers(vm.qmp, one), answers(other, two))
            # Once more, now that it may be in another state.
            await answers(vm.qmp, one)
        retrace(vm.qmp.names())
        assert vm.qmp.names().count("RESET") >= len(COMMANDS) ** 2
        assert "panicked at" not in vm.stderr()
        await start_over(vm)
        await bring_about(vm)
        await until(vm, state)
        await other.disconnect()
        await vm.execute("quit")
        assert await vm.exit_code() == 0


@case(deadline=120)
async def every_command_before_the_start():
    await in_state("prelaunch")


@case(deadline=120)
async def every_command_while_it_runs():
    await in_state("running")


@case(deadline=120)
async def every_command_while_it_is_paused():
    await in_state("paused")


@case(deadline=120)
async def every_command_while_it_sleeps():
    await in_state("suspended")


@case(deadline=120)
async def every_command_after_a_panic():
    await in_state("guest-panicked")


@case(deadline=120)
async def every_command_after_the_watchdog():
    await in_state("watchdog")


@case(deadline=120)
async def every_command_after_the_shutdown():
    await in_state("shutdown")
