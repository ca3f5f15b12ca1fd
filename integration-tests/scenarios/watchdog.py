"""Linux starves its watchdog, and the action follows; an NMI reaches Linux.

The drivers are modules of Debian's generic kernel.
"""

import os

from harness.cases import Skip, case
from harness.guests import linux_guest

#: Seconds of the guest's time.
TIMEOUT = 2


def guarded_guest(watchdog, **rest):
    """The generic kernel on a machine with this watchdog."""
    if os.environ.get("CASE_VMM", "vmm-bin") != "vmm-bin":
        raise Skip("QEMU's microvm has no watchdog")
    return linux_guest(image="generic", options=["--watchdog", watchdog], **rest)


async def start(vm, driver):
    """Loads the driver and starts its watchdog: an open device counts, and only a write to it starts it over."""
    await vm.shell(f"insert {driver} timeout={TIMEOUT}")
    assert await vm.shell("exec 3>/dev/watchdog && echo open") == "open", await vm.shell("dmesg | tail")


async def starve(vm, action):
    """Starts the watchdog over, with this action, and waits until it has expired."""
    await vm.execute("watchdog-set-action", action=action)
    # It may expire before the shell has got any further.
    vm.type("echo >&3")
    event = await vm.qmp.event("WATCHDOG")
    assert event["data"] == {"action": action}, event


@case(deadline=90)
async def linux_starves_its_ib700():
    async with guarded_guest("ib700") as vm:
        await vm.ready()
        await vm.execute("watchdog-set-action", action="debug")
        await start(vm, "ib700wdt")
        await vm.qmp.event("WATCHDOG")
        await starve(vm, "inject-nmi")
        await vm.console.expect("NMI received for unknown reason")
        await starve(vm, "pause")
        await vm.qmp.event("STOP")
        assert await vm.status() == "watchdog"
        await vm.execute("cont")
        await starve(vm, "poweroff")
        event = await vm.qmp.event("SHUTDOWN")
        assert event["data"] == {"guest": True, "reason": "guest-reset"}, event
        assert await vm.exit_code() == 0


@case(deadline=90)
async def linux_starves_its_wdat():
    async with guarded_guest("wdat") as vm:
        await vm.ready()
        await vm.execute("watchdog-set-action", action="none")
        await start(vm, "wdat_wdt")
        await vm.qmp.event("WATCHDOG")
        await starve(vm, "shutdown")
        await vm.qmp.event("POWERDOWN")
        await vm.console.expect("POWER BUTTON")
        await starve(vm, "reset")
        event = await vm.qmp.event("RESET")
        assert event["data"] == {"guest": True, "reason": "guest-reset"}, event
        await vm.ready()
        # The next boot can tell why it happened: WDIOF_CARDRESET.
        await vm.shell("insert wdat_wdt")
        assert await vm.shell("cat /sys/class/watchdog/watchdog0/bootstatus") == "32"


@case(deadline=60)
async def an_nmi_panics_linux_if_it_is_told_so():
    async with linux_guest(cpus=2, options=["--action", "panic=pause"]) as vm:
        await vm.ready()
        await vm.execute("inject-nmi")
        await vm.console.expect("NMI received for unknown reason")
        assert await vm.status() == "running"
        await vm.shell("echo 1 >/proc/sys/kernel/unknown_nmi_panic")
        await vm.execute("inject-nmi")
        event = await vm.qmp.event("GUEST_PANICKED")
        assert event["data"] == {"action": "pause"}, event
        await vm.qmp.event("STOP")
        assert await vm.status() == "guest-panicked"
