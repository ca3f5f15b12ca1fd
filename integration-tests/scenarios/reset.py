"""Every way to a reset, and what comes after one."""

import os

from harness.cases import case
from harness.guests import linux_guest

def descriptors(vm):
    """How many descriptors and threads the VMM has."""
    folder = f"/proc/{vm.process.pid}"
    return len(os.listdir(f"{folder}/fd")), len(os.listdir(f"{folder}/task"))


async def _reboots(*ways):
    """The guest reboots in each of these ways, by its own names for them: what `reboot=` of its command line is for."""
    async with linux_guest() as vm:
        await vm.ready()
        for way in ways:
            assert await vm.shell(f"echo {way} >/sys/kernel/reboot/type && cat /sys/kernel/reboot/type") == way
            vm.type("reboot -f")
            event = await vm.qmp.event("RESET")
            assert event["data"] == {"guest": True, "reason": "guest-reset"}, (way, event)
            await vm.ready()
            assert await vm.status() == "running"
        assert vm.qmp.names().count("RESET") == len(ways)


@case(deadline=90)
async def reboot_by_acpi_and_the_keyboard_controller():
    await _reboots("acpi", "kbd")


@case(deadline=90)
async def reboot_by_a_triple_fault_and_the_reset_control_register():
    await _reboots("triple", "pci")


@case(deadline=90)
async def reboot_by_the_reset_vector():
    # Without EFI, `efi` ends like `bios`: it jumps to the reset vector in real mode.
    await _reboots("bios", "efi")


@case(deadline=60)
async def system_reset_restarts_the_guest_in_the_same_process():
    async with linux_guest() as vm:
        await vm.ready()
        await vm.shell("echo survived >/left-behind")
        before, pid = descriptors(vm), vm.process.pid
        await vm.execute("system_reset")
        event = await vm.qmp.event("RESET")
        assert event["data"] == {"guest": False, "reason": "host-qmp-system-reset"}, event
        await vm.ready()
        assert await vm.shell("cat /left-behind 2>&1 || true") != "survived"
        assert (descriptors(vm), vm.process.pid) == (before, pid)


@case(deadline=60)
async def reset_in_the_middle_of_boot():
    async with linux_guest(append="loglevel=6") as vm:
        await vm.console.expect("Linux version")
        await vm.execute("system_reset")
        await vm.console.expect("Linux version")
        await vm.ready()


@case(deadline=60)
async def reset_while_stopped_waits_for_cont():
    async with linux_guest() as vm:
        await vm.ready()
        await vm.execute("stop")
        await vm.execute("system_reset")
        assert await vm.status() == "prelaunch"
        await vm.execute("cont")
        await vm.ready()


@case(deadline=60)
async def no_reboot_turns_the_guests_reset_into_the_end():
    async with linux_guest(options=["--no-reboot"]) as vm:
        await vm.ready()
        vm.type("reboot -f")
        event = await vm.qmp.event("SHUTDOWN")
        assert event["data"] == {"guest": True, "reason": "guest-reset"}, event
        assert "RESET" not in vm.qmp.names()
        assert await vm.exit_code() == 0


@case(deadline=60)
async def no_reboot_turns_system_reset_into_the_end():
    async with linux_guest(options=["--no-reboot"]) as vm:
        await vm.ready()
        await vm.execute("system_reset")
        event = await vm.qmp.event("SHUTDOWN")
        assert event["data"] == {"guest": False, "reason": "host-qmp-system-reset"}, event
        assert await vm.exit_code() == 0
