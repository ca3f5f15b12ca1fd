"""gdb attaches to the guests that any KVM can run.

Single steps and hardware breakpoints work on every KVM that was tried. Whether it stops at INT3 and at accesses to memory
depends on the hardware.
"""

import asyncio
import contextlib
import socket

from harness.cases import Skip, case
from harness.gdb import Gdb, Refused
from harness.guests import assembled, small_guest
from harness.machine import PATIENCE, Machine

#: What the first processor of the guest counts in, and what the others do.
COUNTER, OTHER = "{int}&counter", "{int}&others_counter"


@contextlib.asynccontextmanager
async def debugged(options=(), **rest):
    """A machine with a guest that counts, and a gdb that has its symbols and is not attached."""
    options = ["--gdb", "unix:gdb,arch=i386", *options]
    async with small_guest("debuggee", options=options, **rest) as vm, Gdb(assembled("debuggee")) as gdb:
        vm.stub = vm.folder / "gdb"
        yield vm, gdb


async def let_run(vm, gdb):
    """Continues, and waits until the guest runs: gdb says so before it has told the stub."""
    await gdb.mi("-exec-continue")
    async with asyncio.timeout(PATIENCE):
        while await vm.status() != "running":
            await asyncio.sleep(0.02)


async def run_until(vm, gdb, changes):
    """Lets the guest run, again and again, until this number has changed."""
    before = await gdb.value(changes)
    async with asyncio.timeout(PATIENCE):
        while await gdb.value(changes) == before:
            await let_run(vm, gdb)
            await asyncio.sleep(0.1)
            await gdb.interrupt()


@case(deadline=60)
async def the_embedded_guest_is_looked_at_and_stepped():
    async with Machine(options=["--gdb", "unix:gdb", "-S"]) as vm, Gdb() as gdb:
        await gdb.attach(vm.folder / "gdb")
        assert await vm.status() == "prelaunch"
        # The entry of the image, in segment 0xf000: the program counter is linear.
        assert (await gdb.value("$pc"), await gdb.value("$cs")) == (0xFF000, 0xF000)
        assert "cli" in await gdb.run("x/i $pc")
        begin = len(vm.qmp.transcript)
        stop = await gdb.go("-exec-step-instruction")
        assert stop["reason"] == "end-stepping-range", stop
        assert await gdb.value("$pc") == 0xFF001
        assert await vm.status() == "debug"
        assert vm.qmp.names(begin) == ["RESUME", "STOP", "return"], vm.qmp.transcript[begin:]
        for _ in range(3):
            await gdb.go("-exec-step-instruction")
        assert await gdb.value("$pc") == 0xFF006
        # gdb's reset of the guest's registers and memory is what the guest goes on with.
        await gdb.run("set $eax = 0x12345678")
        await gdb.run("set {int} 0x2000 = 0x1badcafe")
        assert await gdb.value("$eax") == 0x12345678 and await gdb.value("{int} 0x2000") == 0x1BADCAFE
        await gdb.run("detach")
        await vm.console.expect("A key makes the guest")
        assert await vm.status() == "running"


@case(deadline=60)
async def a_breakpoint_stops_the_guest_in_debug():
    async with debugged(options=["-S"]) as (vm, gdb):
        await gdb.attach(vm.stub)
        await gdb.run("hbreak work")
        stop = await gdb.go()
        assert (stop["reason"], stop["func"]) == ("breakpoint-hit", "work"), stop
        assert await vm.status() == "debug"
        assert await gdb.value(COUNTER) == 0
        # Again and again: gdb steps over it each time.
        for count in range(1, 4):
            stop = await gdb.go()
            assert (stop["reason"], await gdb.value(COUNTER)) == ("breakpoint-hit", count), stop
        # A reset goes back to before the first one, and the breakpoint is still there.
        begin = len(vm.qmp.transcript)
        await vm.execute("system_reset")
        assert vm.qmp.names(begin) == ["RESET", "return"] and await vm.status() == "prelaunch"
        await gdb.run("maintenance flush register-cache")
        await gdb.go()
        assert await gdb.value(COUNTER) == 0
        # What is wrong is an error, and the session goes on.
        for expression in ("{int} 0xdead0000", "{int} 0xfffffffd"):
            try:
                raise AssertionError(await gdb.value(expression))
            except Refused as error:
                assert "Cannot access memory" in str(error), error
        try:
            raise AssertionError(await gdb.run("set $ds = 3"))
        except Refused as error:
            assert "E16" in str(error), error
        await gdb.run("delete")
        await gdb.run("detach")
        assert await vm.status() == "running"


@case(deadline=60)
async def software_breakpoints_and_watchpoints_stop_it_too():
    async with debugged(options=["-S"]) as (vm, gdb):
        await gdb.attach(vm.stub)
        await gdb.run("break work")
        stop = await gdb.go()
        if stop.get("reason") != "breakpoint-hit":
            raise Skip("this KVM runs guests over an INT3")
        for count in range(1, 4):
            stop = await gdb.go()
            assert (stop["reason"], await gdb.value(COUNTER)) == ("breakpoint-hit", count), stop
        assert await vm.status() == "debug"
        await gdb.run("delete")
        await gdb.run("watch *(int *) &counter")
        stop = await gdb.go()
        assert (stop["reason"], stop["new"]) == ("watchpoint-trigger", "4"), stop


@case(deadline=60)
async def a_software_breakpoint_outlives_a_reset_and_not_its_client():
    # Where the guest is only once: the breakpoint waits for a reset.
    code = "{unsigned char}&start"
    async with debugged() as (vm, gdb):
        await vm.console.expect("R")
        await gdb.attach(vm.stub)
        original = await gdb.value(code)
        await gdb.run("break *&start")
        await let_run(vm, gdb)
        gdb.process.kill()
        async with Gdb(assembled("debuggee")) as other:
            await other.attach(vm.stub)
            assert await other.value(code) == original != 0xCC
            await other.run("break *&start")
            await let_run(vm, other)
            await vm.execute("system_reset")
            # A KVM that does not stop at an INT3 cannot go on at this one: the guest has no interrupt table.
            stop = await other.stopped()
            assert stop["reason"] in ("breakpoint-hit", "signal-received"), stop
            assert await other.value("$pc") == await other.value("(int)&start")
            assert await vm.status() in ("debug", "internal-error")


@case(deadline=60)
async def ctrl_c_stops_it_as_paused_and_continue_goes_on():
    # Without symbols: those of 32-bit code are no match for 64-bit registers, which are what a kernel has.
    async with small_guest("count", options=["--gdb", "unix:gdb"]) as vm, Gdb() as gdb:
        await vm.console.expect("00000003\n")
        begin = len(vm.qmp.transcript)
        await gdb.attach(vm.folder / "gdb")
        assert await vm.status() == "paused"
        assert vm.qmp.names(begin) == ["STOP", "return"]
        await gdb.run("set $rbp = 0x1000")
        await let_run(vm, gdb)
        await vm.console.expect("00001001\n")
        stop = await gdb.interrupt()
        assert stop["signal-name"] == "SIGINT" or stop["reason"] == "signal-received", stop
        assert await vm.status() == "paused"
        await vm.console.silence()


@case(deadline=60)
async def the_monitor_stops_and_starts_it_too():
    async with debugged() as (vm, gdb):
        await vm.console.expect("R")
        await gdb.attach(vm.stub)
        await let_run(vm, gdb)
        await vm.execute("stop")
        stop = await gdb.stopped()
        assert stop["signal-name"] == "SIGINT", stop
        # gdb is not told that it runs, and stops it when it wants to know something.
        counted = await gdb.value(COUNTER)
        await vm.execute("cont")
        assert await vm.status() == "running"
        await gdb.run("maintenance flush dcache")
        assert await gdb.value(COUNTER) >= counted
        assert await vm.status() == "paused"
        # To continue what runs already is no mistake.
        await vm.execute("cont")
        await gdb.mi("-exec-continue")
        await gdb.interrupt()
        await let_run(vm, gdb)
        await vm.execute("quit")
        stop = await gdb.stopped()
        assert stop["reason"] == "exited-normally", stop
        assert await vm.exit_code() == 0


@case(deadline=60)
async def each_vcpu_is_a_thread_and_runs_alone_if_asked():
    async with debugged(cpus=2) as (vm, gdb):
        await vm.console.expect("R")
        await gdb.attach(vm.stub)
        threads = await gdb.run("info threads")
        assert "vCPU 0" in threads and "vCPU 1 [running]" in threads, threads
        await gdb.run("set scheduler-locking on")
        for runs, stays, number in ((COUNTER, OTHER, 1), (OTHER, COUNTER, 2)):
            await gdb.run(f"thread {number}")
            before = await gdb.value(stays)
            await run_until(vm, gdb, runs)
            assert await gdb.value(stays) == before, number
        # One instruction of the second, in 16-bit code, and none of the first.
        before = await gdb.value(COUNTER), await gdb.value("$pc")
        await gdb.go("-exec-step-instruction")
        assert await gdb.value(COUNTER) == before[0] and await gdb.value("$pc") != before[1]
        # The monitor's `cont` lets all of them go.
        before = await gdb.value(COUNTER)
        async with asyncio.timeout(PATIENCE):
            # To read it is to stop the guest.
            while await gdb.value(COUNTER) == before:
                await vm.execute("cont")
                await asyncio.sleep(0.1)
                await gdb.run("maintenance flush dcache")


@case(deadline=60)
async def a_gdb_that_dies_leaves_a_guest_that_runs():
    async with debugged() as (vm, gdb):
        await vm.console.expect("R")
        await gdb.attach(vm.stub)
        await gdb.run("hbreak work")
        await gdb.go()
        assert await vm.status() == "debug"
        begin = len(vm.qmp.transcript)
        gdb.process.kill()
        await vm.qmp.event("RESUME")
        assert "STOP" not in vm.qmp.names(begin)
        # The next one finds no breakpoint, and stops what it finds.
        async with Gdb(assembled("debuggee")) as other:
            await other.attach(vm.stub)
            assert await vm.status() == "paused"
            await run_until(vm, other, COUNTER)
            # One that the monitor has stopped stays so.
            await let_run(vm, other)
            await vm.execute("stop")
            await other.stopped()
        await asyncio.sleep(0.5)
        assert await vm.status() == "paused"


@case(deadline=60)
async def kill_ends_the_vm_by_the_ordinary_way():
    async with debugged(options=["--no-shutdown"]) as (vm, gdb):
        await gdb.attach(vm.stub)
        await gdb.run("kill")
        event = await vm.qmp.event("SHUTDOWN")
        assert event["data"] == {"guest": False, "reason": "host-ui"}, event
        assert await vm.exit_code() == 0
        assert not vm.stub.exists(), "the socket was left behind"


@case(deadline=60)
async def it_waits_on_tcp_too_and_one_client_at_a_time():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with small_guest("spin", options=["--gdb", f"tcp:127.0.0.1:{port}"]) as vm, Gdb() as gdb, Gdb() as next_one:
        await vm.console.expect("R")
        await gdb.attach(f"127.0.0.1:{port}")
        waiting = asyncio.create_task(next_one.attach(f"127.0.0.1:{port}"))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await gdb.run("detach")
        await waiting
        assert await vm.status() == "paused"


@case(deadline=60)
async def what_is_not_gdb_is_disconnected():
    async with debugged() as (vm, _):
        await vm.console.expect("R")
        for said, answer in (
            (b"GET / HTTP/1.1\r\n\r\n", None),
            (b"$" + b"m" * 5000, None),
            (b"$vCont;zz#" + b"%02x" % (sum(b"vCont;zz") % 256), None),
            (b"$?#00", b"-"),
            (b"$mdead0000,4#%02x" % (sum(b"mdead0000,4") % 256), b"+$E0e#da"),
        ):
            reader, writer = await asyncio.open_unix_connection(vm.stub)
            writer.write(said)
            async with asyncio.timeout(20):
                if answer is None:
                    with contextlib.suppress(ConnectionResetError):
                        assert len(await reader.read()) < 100
                else:
                    assert await reader.readexactly(len(answer)) == answer
            writer.close()
        said = ("which is not gdb's protocol; the client is disconnected", "a packet of more than 4096 bytes")
        async with asyncio.timeout(PATIENCE):
            while not all(text in vm.stderr() for text in said) or await vm.status() != "running":
                await asyncio.sleep(0.1)
