"""The lifecycle commands of QMP: what they do, which events they cause, and in which order."""

import asyncio
import signal

from harness.cases import case
from harness.guests import small_guest


def numbers(vm):
    """What the counting guest has counted to, line by line."""
    return [int(line, 16) for line in vm.console.text.splitlines() if len(line) == 8]


async def order(vm, command, expected, **arguments):
    """Runs a command and checks what the client reads until the reply, in order."""
    begin = len(vm.qmp.transcript)
    await vm.execute(command, **arguments)
    assert vm.qmp.names(begin) == expected, (command, vm.qmp.transcript[begin:])
    return vm.qmp.transcript[begin:]


@case(deadline=60)
async def stop_and_cont():
    async with small_guest("count") as vm:
        await vm.console.expect("00000003\n")
        assert await vm.status() == "running"
        await order(vm, "stop", ["STOP", "return"])
        assert await vm.execute("query-status") | {"singlestep": False} == {
            "status": "paused", "running": False, "singlestep": False,
        }
        await vm.console.silence()
        before = numbers(vm)
        # A stop of a stopped VM and a cont of a running one succeed and cause no event.
        await order(vm, "stop", ["return"])
        await order(vm, "cont", ["RESUME", "return"])
        await order(vm, "cont", ["return"])
        await vm.console.expect(f"{before[-1] + 3:08x}\n")
        # The last line may be on its way.
        complete = vm.console.text[: vm.console.text.rindex("\n")].splitlines()
        assert [int(n, 16) for n in complete] == list(range(len(complete))), "a number was lost or doubled"


@case(deadline=60)
async def system_reset_of_a_running_guest():
    async with small_guest("count") as vm:
        await vm.console.expect("00000003\n")
        reset, _ = await order(vm, "system_reset", ["RESET", "return"])
        assert reset["data"] == {"guest": False, "reason": "host-qmp-system-reset"}
        await vm.console.expect("00000000\n00000001\n")
        assert await vm.status() == "running"


@case(deadline=60)
async def system_reset_of_a_stopped_guest_waits_for_cont():
    async with small_guest("count") as vm:
        await vm.console.expect("00000003\n")
        await vm.execute("stop")
        await order(vm, "system_reset", ["RESET", "return"])
        assert await vm.status() == "prelaunch"
        await vm.console.silence()
        vm.console.skip()
        await order(vm, "cont", ["RESUME", "return"])
        await vm.console.expect("00000000\n00000001\n")


@case(deadline=60)
async def system_powerdown_in_each_state():
    async with small_guest("spin") as vm:
        await vm.console.expect("R")
        await order(vm, "system_powerdown", ["POWERDOWN", "return"])
        await vm.execute("stop")
        await order(vm, "system_powerdown", ["POWERDOWN", "return"])
        assert await vm.status() == "paused"


@case(deadline=60)
async def wakeup_of_a_guest_that_is_awake_is_refused():
    async with small_guest("spin") as vm:
        await vm.console.expect("R")
        supported = (await vm.execute("query-current-machine"))["wakeup-suspend-support"]
        error = await vm.refused("system_wakeup")
        expected = "Unable to wake up: guest is not in suspended state"
        if not supported:
            expected = "wake-up from suspend is not supported by this guest"
        assert error == ("GenericError", expected)


@case(deadline=60)
async def start_paused():
    async with small_guest("count", options=["-S"]) as vm:
        assert await vm.status() == "prelaunch"
        await asyncio.sleep(1)
        assert vm.console.text == ""
        await order(vm, "cont", ["RESUME", "return"])
        await vm.console.expect("00000003\n")


@case(deadline=60)
async def quit_answers_and_ends():
    async with small_guest("spin") as vm:
        await vm.console.expect("R")
        shutdown, _ = await order(vm, "quit", ["SHUTDOWN", "return"])
        assert shutdown["data"] == {"guest": False, "reason": "host-qmp-quit"}
        assert await vm.exit_code() == 0
        assert not vm.qmp_path.exists(), "the QMP socket was left behind"


@case(deadline=60)
async def quit_ends_in_spite_of_no_shutdown():
    async with small_guest("spin", options=["--no-shutdown"]) as vm:
        await vm.execute("stop")
        await vm.execute("quit")
        assert await vm.exit_code() == 0


@case(deadline=60)
async def each_terminating_signal_ends_it():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        async with small_guest("spin", options=["--no-shutdown"]) as vm:
            await vm.console.expect("R")
            vm.signal(number)
            event = await vm.qmp.event("SHUTDOWN")
            assert event["data"] == {"guest": False, "reason": "host-signal"}, event
            assert await vm.exit_code() == 0, number
            assert "terminating on signal" in vm.stderr()


@case(deadline=60)
async def two_signals_at_once_end_it_too():
    async with small_guest("spin") as vm:
        await vm.console.expect("R")
        vm.signal(signal.SIGTERM)
        vm.signal(signal.SIGTERM)
        # 0 when the orderly end was the faster one; otherwise the second signal cut it short.
        assert await vm.exit_code() in (0, -signal.SIGTERM, 128 + signal.SIGTERM)


@case(deadline=60)
async def actions_change_at_run_time():
    async with small_guest("count") as vm:
        await vm.execute("set-action", reboot="shutdown", shutdown="pause")
        await vm.console.expect("00000003\n")
        begin = len(vm.qmp.transcript)
        await vm.execute("system_reset")
        await vm.qmp.event("STOP")
        assert "RESET" not in vm.qmp.names(begin)
        assert await vm.status() == "shutdown"
        assert await vm.refused("cont") == ("GenericError", "Resetting the Virtual Machine is required")
        await vm.execute("set-action", reboot="reset")
        await vm.execute("system_reset")
        await vm.execute("cont")
        await vm.console.expect("00000000\n")
        _, text = await vm.refused("set-action", shutdown="bogus")
        assert text == "Parameter 'shutdown' does not accept value 'bogus'"


@case(deadline=60)
async def what_it_says_of_itself():
    async with small_guest("spin", cpus=2, options=["--name", "a name", "--uuid", "6c6f2d2a-7b0c-4f06-a5a3-5f5ef3b1e1f0"]) as vm:
        assert await vm.execute("query-name") == {"name": "a name"}
        assert await vm.execute("query-uuid") == {"UUID": "6c6f2d2a-7b0c-4f06-a5a3-5f5ef3b1e1f0"}
        assert await vm.execute("query-kvm") == {"enabled": True, "present": True}
        assert (await vm.execute("query-target"))["arch"] == "x86_64"
        cpus = await vm.execute("query-cpus-fast")
        assert [cpu["cpu-index"] for cpu in cpus] == [0, 1], cpus
        commands = {c["name"] for c in await vm.execute("query-commands")}
        missing = {
            "qmp_capabilities", "query-version", "query-status", "query-commands", "query-name", "query-uuid",
            "query-kvm", "query-target", "query-cpus-fast", "query-current-machine", "stop", "cont", "system_reset",
            "system_powerdown", "system_wakeup", "quit", "set-action", "inject-nmi",
        } - commands
        assert not missing, missing


@case(deadline=90)
async def a_thousand_stops():
    async with small_guest("count") as vm:
        await vm.console.expect("00000003\n")
        begin = len(vm.qmp.transcript)
        for _ in range(1000):
            await vm.execute("stop")
            await vm.execute("cont")
        assert vm.qmp.names(begin) == ["STOP", "return", "RESUME", "return"] * 1000
        vm.console.skip()
        await vm.console.expect(r"^[0-9a-f]{8}\n[0-9a-f]{8}\n")
