"""gdb and Linux: looked at, stepped and changed; breakpoints in the kernel and in a module, and watchpoints.

Stopping at INT3 and by debug registers is the processor's work, and an emulated one may not do it for a guest. QEMU
looks up an INT3 among the software interrupts that are intercepted, not among the exceptions, so the test of software
breakpoints needs a machine that runs it directly (`SCENARIOS=host`), or Bochs (`soaks/breakpoints.py`). Before version 10,
its VMRUN loads DR7 without arming what DR7 says: then the tests of debug registers are skipped (`harness/emulator.py`).
"""

import asyncio
import os

from harness.cases import Skip, case
from harness.gdb import Gdb
from harness.guests import linux_guest


async def address(vm, symbol):
    """Where the guest's kernel has a symbol; it must run without address space randomisation."""
    line = await vm.shell(f"grep -E '[tTdDbBrR] {symbol}(\t|$)' /proc/kallsyms")
    return int(line.split()[0], 16)


def debugged():
    """Linux on two processors, and a stub that waits."""
    return linux_guest(cpus=2, append="nokaslr", options=["--gdb", "unix:gdb"])


def needs_software_breakpoints():
    """Skips a test where INT3 does not stop a guest."""
    if os.environ.get("CASE_EMULATED"):
        raise Skip("the emulated processor stops no guest at INT3")


def needs_debug_registers():
    """Skips a test where debug registers do not stop a guest."""
    if int(os.environ.get("CASE_EMULATED", "10")) < 10:
        raise Skip("the emulated processor stops no guest by debug registers, as QEMU does from version 10 on")


async def let_run(vm, gdb):
    """Continues, and waits until the guest runs."""
    await gdb.mi("-exec-continue")
    while await vm.status() != "running":
        await asyncio.sleep(0.1)


async def hit_again_and_again(vm, gdb, opens):
    """Has the guest come by a breakpoint in its driver of input events: gdb steps over it, one processor at a time."""
    for _ in range(3):
        await let_run(vm, gdb)
        vm.type("head -c 0 </dev/input/event0")
        stop = await gdb.stopped()
        assert stop["reason"] == "breakpoint-hit" and int(stop["addr"], 16) == opens, stop
        assert await vm.status() == "debug"
    await let_run(vm, gdb)


@case(deadline=90)
async def linux_is_looked_at_stepped_and_changed():
    async with debugged() as vm, Gdb() as gdb:
        await vm.ready()
        banner, timeout = await address(vm, "linux_banner"), await address(vm, "panic_timeout")
        module = await address(vm, "evdev_open")
        # A processor that is in user space at times.
        vm.type("while :; do :; done &")
        await gdb.attach(vm.folder / "gdb")
        assert await vm.status() == "paused"
        assert "vCPU 1" in await gdb.run("info threads")
        # Memory of the kernel and of a module, by the guest's page tables; and none.
        assert "Linux version" in await gdb.run(f"x/s {banner}")
        assert await gdb.value(f"{{char}}{module}") is not None
        await gdb.run(f"set {{int}}{timeout} = 17")
        for thread in (1, 2):
            await gdb.run(f"thread {thread}")
            assert await gdb.value("$cs") in (0x10, 0x33)
            before = await gdb.value("$pc")
            stop = await gdb.go("-exec-step-instruction")
            assert stop["reason"] == "end-stepping-range" and stop["thread-id"] == str(thread), stop
            assert await vm.status() == "debug"
            # An instruction may be a string operation or a jump to itself, but not ten of them.
            for _ in range(10):
                await gdb.go("-exec-step-instruction")
            assert await gdb.value("$pc") != before
        await let_run(vm, gdb)
        assert await vm.shell("cat /proc/sys/kernel/panic") == "17"
        await gdb.interrupt()
        assert await vm.status() == "paused"
        await gdb.run("detach")
        assert await vm.shell("dmesg | grep -ciE 'soft lockup|self-detected stall|Oops'") == "0"


@case(deadline=120)
async def software_breakpoints_in_a_module():
    needs_software_breakpoints()
    async with debugged() as vm, Gdb() as gdb:
        await vm.ready()
        opens, probed = await address(vm, "evdev_open"), await address(vm, "do_sys_openat2")
        await gdb.attach(vm.folder / "gdb")
        # The kernel itself puts an INT3 behind a function's entry: a probe, and no breakpoint.
        lines = (await gdb.run(f"x/6i {probed}")).splitlines()
        places = [int(line.split()[0].rstrip(":"), 16) - probed for line in lines]
        offset = next(place for place in places if place >= 9)
        await gdb.run(f"break *{opens}")
        await hit_again_and_again(vm, gdb, opens)
        await vm.shell("mount -t tracefs none /sys/kernel/tracing; echo 0 >/proc/sys/debug/kprobes-optimization")
        await vm.shell(f"echo 'p:mine do_sys_openat2+{offset}' >/sys/kernel/tracing/kprobe_events")
        await vm.shell("echo 1 >/sys/kernel/tracing/events/kprobes/mine/enable")
        await vm.shell("for i in 1 2 3 4 5; do cat /proc/uptime; done")
        _, hits, missed = (await vm.shell("cat /sys/kernel/tracing/kprobe_profile")).split()
        assert int(hits) >= 5 and missed == "0", (hits, missed)
        assert await vm.status() == "running"


@case(deadline=120)
async def hardware_breakpoints_in_a_module_and_watchpoints():
    needs_debug_registers()
    async with debugged() as vm, Gdb() as gdb:
        await vm.ready()
        opens, timeout = await address(vm, "evdev_open"), await address(vm, "panic_timeout")
        await gdb.attach(vm.folder / "gdb")
        await gdb.run(f"hbreak *{opens}")
        await hit_again_and_again(vm, gdb, opens)
        await gdb.interrupt()
        await gdb.run("delete")
        await gdb.run(f"watch *(int *) {timeout}")
        await let_run(vm, gdb)
        vm.type("echo 17 >/proc/sys/kernel/panic")
        stop = await gdb.stopped()
        assert stop["reason"] == "watchpoint-trigger" and stop["new"] == "17", stop
        await gdb.run("delete")
        await gdb.run("detach")
        assert await vm.shell("cat /proc/sys/kernel/panic") == "17"


@case(deadline=120)
async def start_kernel_is_stopped_at_after_a_reset():
    needs_debug_registers()
    async with debugged() as vm, Gdb() as gdb:
        await vm.ready()
        entry = await address(vm, "start_kernel")
        await gdb.attach(vm.folder / "gdb")
        await gdb.run(f"hbreak *{entry}")
        await let_run(vm, gdb)
        vm.console.skip()
        await vm.execute("system_reset")
        stop = await gdb.stopped(timeout=60)
        assert stop["reason"] == "breakpoint-hit" and int(stop["addr"], 16) == entry, stop
        assert await vm.status() == "debug"
        # A client that goes without a word.
        gdb.process.kill()
        await vm.qmp.event("RESUME")
        await vm.ready()
