"""gdb and Linux: breakpoints in the kernel and in a module, watchpoints, and what is the kernel's own."""

import asyncio

from harness.cases import case
from harness.gdb import Gdb
from harness.guests import linux_guest


async def address(vm, symbol):
    """Where the guest's kernel has a symbol; it must run without address space randomisation."""
    line = await vm.shell(f"grep -E '[tTdDbB] {symbol}(\t|$)' /proc/kallsyms")
    return "0x" + line.split()[0]


def debugged():
    """Linux on two processors, and gdb."""
    return linux_guest(cpus=2, append="nokaslr", options=["--gdb", "unix:gdb"])


@case(deadline=120)
async def breakpoints_in_a_module_and_watchpoints():
    async with debugged() as vm, Gdb() as gdb:
        await vm.ready()
        opens = await address(vm, "evdev_open")
        timeout = await address(vm, "panic_timeout")
        await gdb.attach(vm.folder / "gdb")
        assert await vm.status() == "paused"
        assert "vCPU 1" in await gdb.run("info threads")

        # A software breakpoint, hit again and again: gdb steps over it, one processor at a time.
        await gdb.run(f"break *{opens}")
        for _ in range(3):
            await gdb.mi("-exec-continue")
            vm.type("head -c 0 </dev/input/event0")
            stop = await gdb.stopped()
            assert stop["reason"] == "breakpoint-hit" and int(stop["addr"], 16) == int(opens, 16), stop
            assert await vm.status() == "debug"
        stop = await gdb.go("-exec-step-instruction")
        assert stop["reason"] == "end-stepping-range", stop
        await gdb.run("delete")

        await gdb.run(f"watch *(int *) {timeout}")
        await gdb.mi("-exec-continue")
        vm.type("echo 17 >/proc/sys/kernel/panic")
        stop = await gdb.stopped()
        assert stop["reason"] == "watchpoint-trigger" and stop["new"] == "17", stop
        await gdb.run("delete")
        await gdb.run("detach")
        assert await vm.shell("cat /proc/sys/kernel/panic") == "17"
        assert await vm.shell("dmesg | grep -ciE 'soft lockup|self-detected stall|int3'") == "0"


@case(deadline=120)
async def the_kernels_own_int3_is_no_breakpoint():
    async with debugged() as vm, Gdb() as gdb:
        await vm.ready()
        opens, probed = await address(vm, "evdev_open"), await address(vm, "do_sys_openat2")
        await gdb.attach(vm.folder / "gdb")
        # Behind the function's entry, where the kernel itself puts an INT3 for a probe.
        lines = (await gdb.run(f"x/6i {probed}")).splitlines()
        begins = [int(line.split()[0].rstrip(":"), 16) - int(probed, 16) for line in lines]
        offset = next(place for place in begins if place >= 9)
        await gdb.run(f"break *{opens}")
        await gdb.mi("-exec-continue")
        await vm.shell("mount -t tracefs none /sys/kernel/tracing; echo 0 >/proc/sys/debug/kprobes-optimization")
        await vm.shell(f"echo 'p:mine do_sys_openat2+{offset}' >/sys/kernel/tracing/kprobe_events")
        await vm.shell("echo 1 >/sys/kernel/tracing/events/kprobes/mine/enable; for i in 1 2 3 4 5; do cat /proc/uptime; done")
        _, hits, missed = (await vm.shell("cat /sys/kernel/tracing/kprobe_profile")).split()
        assert int(hits) >= 5 and missed == "0", (hits, missed)
        assert await vm.status() == "running"
        # gdb's own breakpoint works all the while.
        vm.type("head -c 0 </dev/input/event0")
        assert (await gdb.stopped())["reason"] == "breakpoint-hit"


@case(deadline=120)
async def start_kernel_is_stopped_at_after_a_reset():
    async with debugged() as vm, Gdb() as gdb:
        await vm.ready()
        entry = await address(vm, "start_kernel")
        await gdb.attach(vm.folder / "gdb")
        await gdb.run(f"hbreak *{entry}")
        await gdb.mi("-exec-continue")
        await vm.qmp.event("RESUME")
        vm.console.skip()
        await vm.execute("system_reset")
        stop = await gdb.stopped()
        assert stop["reason"] == "breakpoint-hit" and int(stop["addr"], 16) == int(entry, 16), stop
        assert await vm.status() == "debug"
        await asyncio.sleep(1)
        assert "USERSPACE" not in vm.console.rest()
        # A client that goes without a word.
        gdb.process.kill()
        await vm.qmp.event("RESUME")
        await vm.ready()
