"""Drives a server with qemu.qmp, the client library of the QEMU project. Argument: the socket."""

import asyncio
import sys

from qemu.qmp import ConnectError, EventListener, ExecuteError, QMPClient


async def refused(client, text, command, arguments=None):
    try:
        await client.execute(command, arguments)
    except ExecuteError as error:
        assert str(error) == text, f"{command}: {error!s} instead of {text}"
        return
    raise AssertionError(f"{command} was not refused")


async def main(path):
    client = QMPClient("first")
    order = []
    listener = EventListener()
    client.register_listener(listener)
    await client.connect(path)
    assert client.greeting.QMP.version["qemu"]["major"] == 7, client.greeting

    async def call(command, arguments=None):
        result = await client.execute(command, arguments)
        seen = [event["event"] for event in listener.clear()]
        order.append((command, seen))
        return result

    assert (await call("query-status"))["status"] == "prelaunch"
    await call("cont")
    assert (await call("query-status")) == {"running": True, "status": "running"}
    await call("stop")
    await call("system_reset")
    await call("system_powerdown")
    await call("set-action", {"panic": "none", "reboot": "reset"})
    assert len(await call("query-cpus-fast")) == 2
    await refused(client, "The command bogus has not been found", "bogus")
    await refused(client, "Parameter 'foo' is unexpected", "stop", {"foo": 1})
    await refused(
        client, "Unable to wake up: guest is not in suspended state", "system_wakeup"
    )

    # A second client at the same time, and a third that leaves in the middle of a command.
    second = QMPClient("second")
    await second.connect(path)
    reader, writer = await asyncio.open_unix_connection(path)
    await reader.readline()
    writer.write(b'{"execute": "qmp_')
    writer.close()
    names = {entry["name"] for entry in await second.execute("query-commands")}
    assert {"stop", "cont", "quit"} <= names, names
    await second.disconnect()

    # The library has enabled out-of-band execution, as it does whenever it is offered.
    assert await client.execute("x-ping", oob=True) == "pong"
    await client.execute("x-ping")
    results = await asyncio.gather(*[client.execute("query-name") for _ in range(50)])
    assert results == [{"name": "soft"}] * 50

    await call("quit")
    for _ in range(100):
        if client.runstate.name == "IDLE":
            break
        try:
            await asyncio.wait_for(client.disconnect(), 10)
        except EOFError:
            break
    expected = [
        ("query-status", []),
        ("cont", ["RESUME"]),
        ("query-status", []),
        ("stop", ["STOP"]),
        ("system_reset", ["RESET"]),
        ("system_powerdown", ["POWERDOWN"]),
        ("set-action", []),
        ("query-cpus-fast", []),
        ("quit", ["SHUTDOWN"]),
    ]
    assert order == expected, order
    try:
        await QMPClient("late").connect(path)
    except ConnectError:
        print("qemu.qmp: all as expected")
        return
    raise AssertionError("the server still listens")


asyncio.run(asyncio.wait_for(main(sys.argv[1]), 60))
