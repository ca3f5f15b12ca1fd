"""More clients, commands and bytes than anybody needs: the monitor's memory stays bounded, a client that behaves gets
every reply and every event in their order, and the VM goes on.

`LOAD` multiplies how much there is of everything: with 16, a line has a GiB and each of 64 clients has 16,000 requests.
"""

import asyncio
import collections
import contextlib
import itertools
import json
import os
import random
import time

from harness.cases import case
from harness.guests import small_guest
from harness.machine import PATIENCE
from whole_vm.chaos import goes_on
from whole_vm.hostile_qmp import NEGOTIATE, Raw, resident

LOAD = float(os.environ.get("LOAD", "1"))
RESET_SECONDS = 3 * LOAD
#: A client that takes nothing for so long is disconnected.
STALL_LIMIT = 30
CONNECTIONS = int(1000 * LOAD)
CLIENTS = 64
REQUESTS = int(1000 * LOAD)
LINE_MIB = int(64 * LOAD)

#: What the monitor may hold at most: eight clients at once, each with a message of 3 MiB, 256 KiB of replies and 256 KiB
#: of events, and one more of each.
BOUND = 32 << 20


def load_case(function):
    """A case whose deadline grows with the load."""
    return case(deadline=90 + 90 * LOAD)(function)


class Counter:
    """A client that reads as fast as it can, and remembers the events' names and the replies' ids."""

    def __init__(self, raw):
        self.raw = raw
        self.names = []
        self.lost = collections.Counter()
        self.ids = []
        self.ended = asyncio.create_task(self._read())

    async def _read(self):
        while line := await self.raw.reader.readline():
            message = json.loads(line)
            if name := message.get("event"):
                if name == "EVENTS_LOST":
                    self.lost.update(message["data"]["events"])
                else:
                    self.names.append(name)
            else:
                assert "return" in message, message
                self.ids.append(message.get("id"))

    async def until(self, identity):
        """Waits for the reply with this id."""
        async with asyncio.timeout(PATIENCE):
            while identity not in self.ids[-1:]:
                assert not self.ended.done(), "the connection has ended"
                await asyncio.sleep(0.005)

    async def ask(self, command, identity):
        """Runs a command, whatever else comes in the meantime."""
        self.raw.writer.write(json.dumps({"execute": command, "id": identity}).encode())
        await self.until(identity)


@load_case
async def a_client_that_never_reads_while_the_guest_resets_in_a_loop():
    async with small_guest("storm", options=["-S"]) as vm, Raw.connected(vm) as deaf_raw, Raw.connected(vm) as raw:
        await vm.qmp.disconnect()
        deaf_raw.reader._transport.pause_reading()  # pylint: disable=protected-access
        before = resident(vm)
        behaved = Counter(raw)
        await behaved.ask("cont", "begin")
        asked, most, begin, enough = 0, 0, time.monotonic(), 100 * RESET_SECONDS
        while goes_on(begin, RESET_SECONDS, lambda: behaved.names.count("RESET") > enough):
            asked += 1
            await behaved.ask("query-status", asked)
            most = max(most, resident(vm) - before)
        await behaved.ask("stop", "end")
        assert behaved.ids == ["begin", *range(1, asked + 1), "end"], "a reply is missing, or in the wrong place"
        assert most < BOUND, f"{most} bytes more"
        names = collections.Counter(behaved.names)
        # One reset may have been asked for before the stop and be served after it.
        assert behaved.names[0] == "RESUME" and "STOP" in behaved.names[-2:], behaved.names[-3:]
        assert set(names) == {"RESUME", "RESET", "STOP"} and names["RESET"] > enough, names
        assert not behaved.lost, "a client that reads has lost events"
        deaf = Counter(deaf_raw)
        deaf_raw.reader._transport.resume_reading()  # pylint: disable=protected-access
        if time.monotonic() - begin < STALL_LIMIT:
            # The deaf one hears now what it has missed, and how many.
            await deaf.ask("query-status", "late")
            assert collections.Counter(deaf.names) + deaf.lost == names, (len(deaf.names), deaf.lost, names)
            assert deaf.names[0] == "RESUME"
            await deaf.ask("query-status", "again")
        else:
            # It was given up, in the middle of a line or not.
            async with asyncio.timeout(PATIENCE):
                with contextlib.suppress(ConnectionError, ValueError):
                    await deaf.ended
        # The other one is not the worse for it.
        await behaved.ask("query-status", "again")


@load_case
async def clients_that_are_cut_off_in_the_middle_of_a_command():
    generator = random.Random(1958)
    request = NEGOTIATE + b'{"execute":"query-status","id":1}{"execute":"stop","id":2}{"execute":"cont","id":3}'
    async with small_guest("spin") as vm, Raw.connected(vm) as raw:
        await vm.console.expect("R")
        await vm.qmp.disconnect()
        folder = f"/proc/{vm.process.pid}/fd"
        before, descriptors = resident(vm), len(os.listdir(folder))
        behaved = Counter(raw)

        async def cut(_):
            reader, writer = await asyncio.open_unix_connection(str(vm.qmp_path))
            writer.write(request[: generator.randrange(len(request))])
            if generator.random() < 0.5:
                with contextlib.suppress(ConnectionError):
                    await reader.readline()
            writer.transport.abort()

        for begin in range(0, CONNECTIONS, 20):
            await asyncio.gather(*map(cut, range(20)))
            await behaved.ask("query-status", begin)
        assert behaved.ids == list(range(0, CONNECTIONS, 20))
        # A `stop` that came through is followed by its `cont`, or by nothing: the events alternate.
        assert behaved.names == ["STOP", "RESUME"] * (len(behaved.names) // 2) + ["STOP"] * (len(behaved.names) % 2)
        assert not behaved.lost
        async with asyncio.timeout(PATIENCE):
            while len(os.listdir(folder)) > descriptors:
                await asyncio.sleep(0.01)
        assert resident(vm) - before < BOUND
        await behaved.ask("cont", "end")


@load_case
async def sixty_four_clients_each_with_all_its_requests_at_once():
    requests = b"".join(b'{"execute":"query-status","id":%d}' % number for number in range(REQUESTS))
    async with small_guest("spin") as vm:
        await vm.console.expect("R")
        before, most = resident(vm), 0

        async def client():
            nonlocal most
            reader, writer = await asyncio.open_unix_connection(str(vm.qmp_path), limit=1 << 20)
            # Those over the limit wait until another one has left.
            assert b"QMP" in await reader.readline()
            writer.write(NEGOTIATE + requests)
            assert json.loads(await reader.readline()) == {"return": {}}
            expected = 0
            while expected < REQUESTS:
                message = json.loads(await reader.readline())
                assert message["id"] == expected and message["return"]["status"] == "running", message
                expected += 1
            most = max(most, resident(vm) - before)
            writer.close()

        async with asyncio.timeout(PATIENCE + 60 * LOAD):
            await asyncio.gather(*(client() for _ in range(CLIENTS)))
        assert most < BOUND, f"{most} bytes more"
        assert await vm.status() == "running"


@load_case
async def a_line_that_does_not_end():
    """Of a string, and of a list: neither is kept."""
    async with small_guest("spin") as vm, Raw.connected(vm) as other:
        await vm.console.expect("R")
        behaved = Counter(other)
        for opening, chunk in ((b'{"execute": "', b"a" * (1 << 20)), (b'{"execute": [', b"1," * (1 << 19))):
            before, most = resident(vm), 0
            async with Raw.connected(vm) as raw:
                answer = asyncio.create_task(raw.answer())
                raw.writer.write(opening)
                for sent in range(LINE_MIB):
                    raw.writer.write(chunk)
                    await raw.writer.drain()
                    if sent % 16 == 0:
                        most = max(most, resident(vm) - before)
                        await behaved.ask("query-status", f"{chunk[:1]} {sent}")
                assert "limit exceeded" in (await answer)["error"]["desc"]
                # A line feed ends what is skipped.
                raw.writer.write(b'"\n\xff')
                await raw.sane()
            assert most < BOUND, f"{most} bytes more"


@load_case
async def people_and_programs_byte_by_byte():
    async with small_guest("spin", options=["--monitor", "unix:people"]) as vm, Raw.connected(vm) as raw:
        await vm.console.expect("R")
        reader, writer = await asyncio.open_unix_connection(str(vm.folder / "people"))
        person = lambda: asyncio.wait_for(reader.readuntil(b"(qemu) "), PATIENCE)
        await person()
        for number in range(int(20 * LOAD)):
            for program, human in itertools.zip_longest(b'{"execute": "query-status", "id": %d}' % number, b"info status\n"):
                raw.writer.write(bytes([program]))
                writer.write(b"" if human is None else bytes([human]))
                # As bytes that come one by one, and not as one write.
                await asyncio.sleep(0)
            assert (await raw.reply())["id"] == number
            assert b"VM status: running\r\n" in await person()
        writer.close()


@load_case
async def sockets_that_are_removed_while_they_are_in_use():
    async with small_guest("spin", options=["--monitor", "unix:people"]) as vm:
        await vm.console.expect("R")
        vm.qmp_path.unlink()
        people = vm.folder / "people"
        people.unlink()
        # What somebody else puts there is not ours.
        people.write_text("somebody's")
        # Who was there before goes on.
        assert await vm.status() == "running"
        await vm.execute("quit")
        assert await vm.exit_code() == 0
        assert people.read_text() == "somebody's"
        assert "panicked" not in vm.stderr()
