"""Linux suspends to RAM (ACPI S3) and is woken up."""

import asyncio
import os
import time

from harness.cases import Skip, case
from harness.guests import linux_guest

#: What the guest's kernel says when something went wrong.
COMPLAINTS = "dmesg | grep -E 'soft lockup|self-detected stall|WARNING:|BUG:'"


def sleeping_guest(**rest):
    """A Linux guest on a machine that has S3."""
    if os.environ.get("CASE_VMM", "vmm-bin") != "vmm-bin":
        raise Skip("QEMU's microvm has no S3")
    return linux_guest(**rest)


async def fall_asleep(vm):
    """The guest suspends to RAM; its shell says so when it is awake again."""
    vm.type("echo mem >/sys/power/state && echo A''WAKE")
    await vm.qmp.event("SUSPEND")
    assert await vm.status() == "suspended"


async def wake(vm):
    """The monitor wakes the guest, and its shell goes on."""
    await vm.execute("system_wakeup")
    await vm.qmp.event("WAKEUP")
    await awake(vm)


async def awake(vm):
    assert await vm.status() == "running"
    await vm.console.expect("AWAKE")


async def wall_clock(vm):
    """How far the guest's clock is ahead of ours, in seconds: at least and at most."""
    before = time.time()
    seconds = float(await vm.shell("date +%s"))
    return seconds - time.time(), seconds + 1 - before


@case(deadline=90)
async def the_monitor_wakes_linux():
    async with sleeping_guest(cpus=2) as vm:
        await vm.ready()
        assert (await vm.execute("query-current-machine"))["wakeup-suspend-support"]
        assert "[deep]" in await vm.shell("cat /sys/power/mem_sleep")
        # What the boot had to say is another test's business.
        await vm.shell("dmesg -c >/dev/null")
        ahead, before = await wall_clock(vm), await vm.uptime()
        slept = 10.0
        await fall_asleep(vm)
        await asyncio.sleep(slept)
        await wake(vm)
        assert await vm.shell("nproc") == "2"
        for cpu in ("1", "2"):
            assert await vm.shell(f"taskset {cpu} echo here") == "here"
        # Its clock is right again: it has not lost the time that it slept.
        now = await wall_clock(vm)
        assert now[0] - ahead[1] < slept / 2 and ahead[0] - now[1] < slept / 2, (ahead, now)
        assert await vm.uptime() >= before
        assert await vm.shell("cat /sys/power/suspend_stats/success /sys/power/suspend_stats/fail") == "1\n0"
        assert await vm.shell(COMPLAINTS) == ""
        # It can sleep more than once.
        await fall_asleep(vm)
        await wake(vm)
        vm.type("poweroff -f")
        await vm.qmp.event("SHUTDOWN")
        assert await vm.exit_code() == 0


@case(deadline=100)
async def linux_sleeps_fifty_times():
    async with sleeping_guest(cpus=2) as vm:
        await vm.ready()
        for _ in range(50):
            await fall_asleep(vm)
            await wake(vm)
        assert await vm.shell("cat /sys/power/suspend_stats/success /sys/power/suspend_stats/fail") == "50\n0"
        assert await vm.shell("nproc") == "2"


@case(deadline=90)
async def the_alarm_wakes_linux():
    async with sleeping_guest() as vm:
        await vm.ready()
        assert (await vm.shell("cat /sys/class/rtc/rtc0/name")).startswith("rtc_cmos")
        assert abs(float(await vm.shell("cat /sys/class/rtc/rtc0/since_epoch")) - time.time()) < 30
        await vm.shell("echo +10 >/sys/class/rtc/rtc0/wakealarm")
        vm.type("echo mem >/sys/power/state && echo A''WAKE")
        await vm.qmp.event("SUSPEND")
        await vm.qmp.event("WAKEUP")
        await awake(vm)
        assert await vm.shell("cat /sys/power/suspend_stats/success") == "1"


@case(deadline=90)
async def a_key_wakes_linux_but_not_while_it_is_stopped():
    async with sleeping_guest(options=["--serial", "stdio,wakeup=on"]) as vm:
        await vm.ready()
        await fall_asleep(vm)
        await vm.execute("stop")
        assert await vm.status() == "paused"
        vm.type("")
        assert (await vm.refused("system_wakeup"))[0] == "GenericError"
        await vm.execute("cont")
        assert await vm.status() == "suspended"
        vm.type("")
        await vm.qmp.event("WAKEUP")
        await awake(vm)


@case(deadline=60)
async def a_reset_while_linux_sleeps_boots_it_anew():
    async with sleeping_guest() as vm:
        await vm.ready()
        await fall_asleep(vm)
        await vm.execute("system_reset")
        assert await vm.status() == "prelaunch"
        await vm.execute("cont")
        await vm.ready()
        assert await vm.shell("cat /sys/power/suspend_stats/success") == "0"
