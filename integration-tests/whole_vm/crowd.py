"""Far more monitor clients than there is room for: each is served or waits, nobody is forgotten, and nothing is left of them."""

import asyncio
import os

from harness.cases import case
from harness.guests import small_guest
from harness.machine import PATIENCE
from whole_vm.hostile_qmp import NEGOTIATE, Raw

CONNECTS = int(os.environ.get("CONNECTS", "1000"))


@case(deadline=60 + CONNECTS / 20)
async def a_thousand_connects_beside_some_that_say_nothing():
    async with small_guest("spin") as vm:
        await vm.console.expect("R")
        await vm.qmp.disconnect()
        descriptors = lambda: len(os.listdir(f"/proc/{vm.process.pid}/fd"))
        before = descriptors()
        # They keep their places until they have said nothing for too long; others are left.
        silent = [Raw(*await asyncio.open_unix_connection(str(vm.qmp_path))) for _ in range(5)]
        served, at_once = 0, asyncio.Semaphore(50)

        async def connect(number):
            nonlocal served
            async with at_once, asyncio.timeout(PATIENCE):
                raw = Raw(*await asyncio.open_unix_connection(str(vm.qmp_path)))
                # Some go at once, some after the greeting, some in the middle of a word.
                if number % 4 and await raw.answer():
                    served += 1
                    raw.writer.write(NEGOTIATE[: number % len(NEGOTIATE)])
                raw.writer.transport.abort()

        async with asyncio.TaskGroup() as group:
            for number in range(CONNECTS):
                group.create_task(connect(number))
        assert served == CONNECTS - (CONNECTS + 3) // 4, f"{served} greetings"
        for raw in silent:
            raw.writer.transport.abort()
        vm.qmp = await vm.connect()
        assert await vm.status() == "running"
        await vm.qmp.disconnect()
        async with asyncio.timeout(PATIENCE):
            while descriptors() > before:
                await asyncio.sleep(0.05)
        vm.qmp = await vm.connect()
        await vm.execute("quit")
        assert await vm.exit_code() == 0
