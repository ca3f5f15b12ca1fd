"""How a client or a signal ends a VMM whose guest runs."""

import signal

from harness.cases import case
from harness.guests import linux_guest


@case(deadline=60)
async def quit_ends_it_orderly():
    async with linux_guest() as vm:
        await vm.ready()
        begin = len(vm.qmp.transcript)
        await vm.execute("quit")
        assert await vm.exit_code() == 0
        # The event, then the reply, then the end.
        assert vm.qmp.names(begin) == ["SHUTDOWN", "return"], vm.qmp.transcript[begin:]
        assert vm.qmp.transcript[begin]["data"] == {"guest": False, "reason": "host-qmp-quit"}


@case(deadline=60)
async def sigterm_ends_it_orderly():
    async with linux_guest() as vm:
        await vm.ready()
        vm.signal(signal.SIGTERM)
        event = await vm.qmp.event("SHUTDOWN")
        assert event["data"] == {"guest": False, "reason": "host-signal"}, event
        assert await vm.exit_code() == 0
        assert not vm.qmp_path.exists(), "the QMP socket was left behind"


@case(deadline=60)
async def sigterm_ends_a_stopped_guest():
    async with linux_guest() as vm:
        await vm.ready()
        await vm.execute("stop")
        vm.signal(signal.SIGTERM)
        await vm.qmp.event("SHUTDOWN")
        assert await vm.exit_code() == 0


@case(deadline=60)
async def replies_follow_their_events():
    async with linux_guest() as vm:
        await vm.ready()
        for command, event in (
            ("stop", "STOP"), ("cont", "RESUME"), ("system_powerdown", "POWERDOWN"), ("system_reset", "RESET"),
        ):
            begin = len(vm.qmp.transcript)
            await vm.execute(command)
            assert vm.qmp.names(begin) == [event, "return"], (command, vm.qmp.transcript[begin:])


@case(deadline=60)
async def sigterm_asks_linux_to_power_off():
    async with linux_guest(options=["--shutdown-timeout", "1h"]) as vm:
        await vm.ready()
        await vm.shell("echo 'poweroff -f' >/run-on-button")
        vm.signal(signal.SIGTERM)
        event = await vm.qmp.event("SHUTDOWN")
        assert event["data"] == {"guest": True, "reason": "guest-shutdown"}, event
        assert await vm.exit_code() == 0
        assert vm.qmp.names().count("POWERDOWN") == 1
