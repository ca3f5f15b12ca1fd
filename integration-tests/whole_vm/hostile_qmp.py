"""Clients that do everything wrong, on raw sockets: each gets a clear error, and the VM is not affected.

What the VM does in the meantime is watched by a well-behaved session, and by the guest that counts.
"""

import asyncio
import contextlib
import json
import os
import random

from harness.cases import case
from harness.guests import small_guest
from harness.machine import PATIENCE

NEGOTIATE = b'{"execute": "qmp_capabilities"}'


class Raw:
    """A client that speaks bytes."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, vm, negotiate=True):
        """A raw client of `vm` behind its greeting (and, by default, its negotiation)."""
        reader, writer = await asyncio.open_unix_connection(str(vm.qmp_path), limit=1 << 26)
        raw = cls(reader, writer)
        try:
            assert "QMP" in await raw.answer()
            if negotiate:
                assert await raw.ask(NEGOTIATE) == {"return": {}}
            yield raw
        finally:
            writer.close()

    async def answer(self):
        """The next message; None at the end of the connection."""
        async with asyncio.timeout(PATIENCE):
            line = await self.reader.readline()
        if not line:
            return None
        assert line.endswith(b"\r\n"), line
        return json.loads(line)

    async def ask(self, data):
        """Sends bytes and returns the next message that is no event."""
        self.writer.write(data)
        return await self.reply()

    async def reply(self):
        """The next message that is no event."""
        while (message := await self.answer()) is not None and "event" in message:
            pass
        return message

    async def error(self, data):
        """Sends bytes that must cause an error; returns its class and text."""
        message = await self.ask(data)
        assert message and "error" in message, (data[:80], message)
        return message["error"]["class"], message["error"]["desc"]

    async def sane(self):
        """The connection still serves: a correct command is answered correctly."""
        self.writer.write(b'{"execute": "query-name", "id": "sane"}\n')
        # What a broken message before it was worth comes first.
        for _ in range(10):
            message = await self.reply()
            if message.get("id") == "sane":
                assert "return" in message, message
                return
        raise AssertionError("no answer to a correct command")


def resident(vm):
    """The VMM's resident memory, in bytes."""
    with open(f"/proc/{vm.process.pid}/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.asynccontextmanager
async def counting(**rest):
    """A machine with a counting guest whose only QMP clients are the test's raw ones."""
    async with small_guest("count", **rest) as vm:
        await vm.console.expect("00000002\n")
        await vm.qmp.disconnect()
        yield vm
        # The guest went on all the time, and the machine still obeys.
        vm.console.skip()
        await vm.console.expect(r"^[0-9a-f]{8}\n[0-9a-f]{8}\n")
        vm.qmp = await vm.connect()
        assert await vm.status() == "running"
        await vm.execute("stop")
        await vm.execute("cont")


@case(deadline=60)
async def commands_before_negotiation_are_refused():
    async with counting() as vm, Raw.connected(vm, negotiate=False) as raw:
        wanted = ("CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'")
        assert await raw.error(b'{"execute": "quit"}') == wanted
        assert await raw.error(b'{"execute": "no-such-thing"}') == wanted
        assert await raw.ask(NEGOTIATE) == {"return": {}}
        wanted = ("CommandNotFound", "Capabilities negotiation is already complete, command ignored")
        assert await raw.error(NEGOTIATE) == wanted
        await raw.sane()


@case(deadline=60)
async def malformed_messages_get_their_errors():
    async with counting() as vm, Raw.connected(vm) as raw:
        wrong = {
            b'[]': "QMP input must be a JSON object",
            b'17 ': "QMP input must be a JSON object",
            b'{}': "QMP input lacks member 'execute'",
            b'{"execute": 1}': "QMP input member 'execute' must be a string",
            b'{"execute": "stop", "arguments": 3}': "QMP input member 'arguments' must be an object",
            b'{"execute": "stop", "extra": 3}': "QMP input member 'extra' is unexpected",
            b'{"execute": "stop", "arguments": {"foo": 1}}': "Parameter 'foo' is unexpected",
            b'{"execute": "set-action", "arguments": {"reboot": "bogus"}}': "Parameter 'reboot' does not accept value 'bogus'",
        }
        for data, text in wrong.items():
            assert await raw.error(data) == ("GenericError", text), data
        assert await raw.error(b'{"execute": "no-such-thing"}') == (
            "CommandNotFound", "The command no-such-thing has not been found",
        )
        for data in (b'{"execute": foo}\n', b'{"execute": }\n', b'{"execute" "stop"}\n', b'{"execute": "stop",}\n', b'{1: 2}\n'):
            kind, text = await raw.error(data)
            assert kind == "GenericError" and text.startswith("JSON parse error"), (data, text)
            # There may be more than one error for a bad line.
            await raw.sane()


@case(deadline=60)
async def ids_of_every_type_come_back():
    async with counting() as vm, Raw.connected(vm) as raw:
        for given in (1, -7, "text", None, True, [1, [2]], {"a": {"b": []}}, 1.5):
            answer = await raw.ask(json.dumps({"execute": "query-name", "id": given}).encode())
            assert answer["id"] == given and "return" in answer, answer


@case(deadline=60)
async def truncated_commands_do_nothing():
    command = b'{"execute": "quit", "id": "caf\xc3\xa9"}'
    async with counting() as vm:
        for length in range(len(command)):
            async with Raw.connected(vm) as raw:
                raw.writer.write(command[:length])
                await raw.writer.drain()
    # `counting` saw that the VM was not told to quit.


@case(deadline=60)
async def a_command_byte_by_byte_is_one_command():
    async with counting() as vm, Raw.connected(vm) as raw:
        for byte in b'{"execute": "query-name", "id": "slow"}':
            raw.writer.write(bytes([byte]))
            await raw.writer.drain()
        assert (await raw.reply())["id"] == "slow"


@case(deadline=60)
async def many_commands_in_one_write_are_answered_in_order():
    async with counting() as vm, Raw.connected(vm) as raw:
        count = 500
        raw.writer.write(b"".join(b'{"execute":"query-name","id":%d}' % n for n in range(count)))
        assert [(await raw.reply())["id"] for _ in range(count)] == list(range(count))


@case(deadline=60)
async def deep_nesting_is_refused():
    async with counting() as vm:
        for opening in (b"[", b'{"a":'):
            async with Raw.connected(vm) as raw:
                # The rest of so broken a message may be worth more than one error.
                _, text = await raw.error(opening * 5000 + b"\n")
                assert text.startswith("JSON"), text
        async with Raw.connected(vm) as raw:
            await raw.sane()


@case(deadline=90)
async def a_message_without_end_is_refused_and_forgotten():
    async with counting() as vm:
        before = resident(vm)
        async with Raw.connected(vm) as raw:
            raw.writer.write(b'{"execute": "')
            chunk = b"a" * (1 << 20)
            # QEMU takes 64 MiB; whoever reads more than twice that has no limit.
            answer = asyncio.create_task(raw.answer())
            for _ in range(130):
                if answer.done():
                    break
                raw.writer.write(chunk)
                with contextlib.suppress(ConnectionError):
                    await raw.writer.drain()
            message = await answer
            assert message is None or "error" in message, message
        async with Raw.connected(vm) as raw:
            await raw.sane()
        await asyncio.sleep(0.5)
        assert resident(vm) - before < 16 << 20, "the memory of a refused message was kept"


@case(deadline=60)
async def bytes_that_are_no_utf8_are_refused():
    async with counting() as vm, Raw.connected(vm) as raw:
        for data in (b'{"execute": "\xff\xfe"}\n', b'{"execute": "\xc1\x80"}\n', b'{"execute": "\xed\xa0\x80"}\n', b"\xf8\x88\x80\x80\x80\n"):
            kind, text = await raw.error(data)
            assert kind == "GenericError" and text.startswith("JSON parse error"), (data, text)
            await raw.sane()


@case(deadline=90)
async def random_bytes_never_hurt():
    generator = random.Random(20260901)
    pieces = [b'{', b'}', b'[', b']', b'"', b':', b',', b'execute', b'"stop"', b"\\u", b"\xff", b"\x00", b"1e999", b"-", b"\n", b"null"]
    async with counting() as vm:
        for _ in range(50):
            async with Raw.connected(vm) as raw:
                noise = b"".join(generator.choice(pieces + [generator.randbytes(3)]) for _ in range(400))
                # `quit` cannot come out of it: it is not among the pieces, and three bytes do not spell it.
                raw.writer.write(noise)
                with contextlib.suppress(ConnectionError):
                    await raw.writer.drain()


@case(deadline=90)
async def a_client_that_never_reads_delays_nobody():
    async with counting() as vm:
        before = resident(vm)
        reader, writer = await asyncio.open_unix_connection(str(vm.qmp_path), limit=1)
        # It negotiates and asks for a lot, but takes nothing: not one byte is read by this side.
        reader._transport.pause_reading()  # pylint: disable=protected-access
        writer.write(NEGOTIATE + b'{"execute":"query-commands"}' * 20000)
        other = await vm.connect()
        for _ in range(2000):
            async with asyncio.timeout(PATIENCE):
                await other.execute("stop")
                await other.execute("cont")
        assert [n for n in other.names() if n != "return"][-4000:] == ["STOP", "RESUME"] * 2000
        assert resident(vm) - before < 32 << 20, "what the client does not read is kept without a bound"
        await other.disconnect()
        writer.transport.abort()


@case(deadline=90)
async def a_hundred_clients_come_and_go():
    async with counting() as vm:
        descriptors = lambda: len(os.listdir(f"/proc/{vm.process.pid}/fd"))
        before = descriptors()
        async with contextlib.AsyncExitStack() as stack:
            greetings = []
            for _ in range(100):
                raw = Raw(*await asyncio.open_unix_connection(str(vm.qmp_path)))
                stack.callback(raw.writer.transport.abort)
                greetings.append(asyncio.create_task(raw.reader.readline()))
            # One that is over the limit may be told so and closed, or wait for its turn.
            answered, waiting = await asyncio.wait(greetings, timeout=2)
            for task in waiting:
                task.cancel()
            served = sum(task.exception() is None and task.result().startswith(b'{"QMP"') for task in answered)
            assert served >= 1
            vm.console.skip()
            await vm.console.expect(r"^[0-9a-f]{8}\n[0-9a-f]{8}\n")
        for _ in range(200):
            if descriptors() <= before:
                break
            await asyncio.sleep(0.05)
        assert descriptors() <= before, "connections were left open"


@case(deadline=60)
async def a_client_that_vanishes_takes_its_queue_along():
    async with counting() as vm:
        for _ in range(20):
            reader, writer = await asyncio.open_unix_connection(str(vm.qmp_path))
            await reader.readline()
            writer.write(NEGOTIATE + b'{"execute":"stop"}{"execute":"cont"}' * 10)
            await writer.drain()
            writer.transport.abort()
        vm.qmp = await vm.connect()
        await vm.execute("cont")
        await vm.qmp.disconnect()
