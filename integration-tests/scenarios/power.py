"""The guest ends or restarts itself, and the power button reaches it."""

from harness.cases import case
from harness.guests import linux_guest


async def _powered_off(vm):
    """The guest powered off: QMP says who did it, then the VMM ends with status 0."""
    event = await vm.qmp.event("SHUTDOWN")
    assert event["data"] == {"guest": True, "reason": "guest-shutdown"}, event
    assert await vm.exit_code() == 0


@case(deadline=60)
async def poweroff_ends_the_vmm():
    async with linux_guest() as vm:
        await vm.ready()
        vm.type("poweroff -f")
        await _powered_off(vm)


@case(deadline=60)
async def poweroff_with_no_shutdown_keeps_the_vmm():
    async with linux_guest(options=["--no-shutdown"]) as vm:
        await vm.ready()
        vm.type("poweroff -f")
        await vm.qmp.event("SHUTDOWN")
        await vm.qmp.event("STOP")
        assert await vm.status() == "shutdown"
        assert (await vm.refused("cont")) == ("GenericError", "Resetting the Virtual Machine is required")
        # A reset makes it a fresh machine that the client can start.
        await vm.execute("system_reset")
        await vm.execute("cont")
        await vm.console.expect("USERSPACE REACHED")


@case(deadline=60)
async def powerdown_reaches_the_guests_button_driver():
    async with linux_guest() as vm:
        await vm.ready()
        await vm.execute("system_powerdown")
        await vm.console.expect("POWER BUTTON")
        # The machine is still the guest's to end.
        assert await vm.status() == "running"
        assert vm.qmp.names().count("SHUTDOWN") == 0
        await vm.shell("echo 'poweroff -f' >/run-on-button")
        await vm.execute("system_powerdown")
        await _powered_off(vm)


@case(deadline=60)
async def powerdown_while_stopped_is_seen_after_cont():
    async with linux_guest() as vm:
        await vm.ready()
        await vm.execute("stop")
        await vm.execute("system_powerdown")
        await vm.qmp.event("POWERDOWN")
        assert await vm.status() == "paused"
        await vm.execute("cont")
        await vm.console.expect("POWER BUTTON")
