"""The program is ended at any time, from before it listens to signals to the middle of its work."""

import asyncio
import os
import pathlib
import random
import signal
import tempfile

from harness.cases import SLOWNESS, case
from harness.machine import PATIENCE, vmm_bin

ROUNDS = int(os.environ.get("ENDINGS", "40"))


async def ended(process):
    """What the program has said when it has ended. If it does not end: what each of its threads is at."""
    said = asyncio.create_task(process.stderr.read())
    try:
        async with asyncio.timeout(PATIENCE):
            await process.wait()
            return await asyncio.shield(said)
    except TimeoutError:
        threads = [thread_at(task) for task in pathlib.Path(f"/proc/{process.pid}/task").glob("*")]
        process.kill()
        raise AssertionError("\n".join(["it does not end", *threads, (await said).decode()])) from None


def thread_at(task):
    """A thread's name, its state, and where it is in the kernel."""
    name, state = (task / "comm").read_text().strip(), (task / "stat").read_text().rpartition(")")[2].split()[0]
    try:
        where = [(task / file).read_text().strip() for file in ("syscall", "stack")]
    except PermissionError:
        where = [(task / "wchan").read_text()]
    return "\n".join([f"{task.name} {name}: {state}", *where])


@case(deadline=60 + SLOWNESS * ROUNDS)
async def a_signal_at_any_time_ends_it_and_leaves_nothing():
    generator = random.Random(6086)
    before, in_order = 0, 0
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in numbers:
        # Who starts the tests in the background, or with nohup, has them ignored: the program inherits that, and a
        # signal that comes before it listens would be lost.
        signal.signal(number, signal.SIG_DFL)
    for round_ in range(ROUNDS):
        number = generator.choice(numbers)
        with tempfile.TemporaryDirectory(prefix="vm-") as folder:
            process = await asyncio.create_subprocess_exec(
                vmm_bin(), "--cpus", "2", "--qmp", "unix:qmp", "--serial", "unix:serial", "--pidfile", "pid", cwd=folder,
                stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            )
            try:
                if round_ % 2:
                    # Its PID file is the first thing that it makes when it listens, however long it takes to get there.
                    async with asyncio.timeout(PATIENCE):
                        while "pid" not in os.listdir(folder):
                            await asyncio.sleep(0.001)
                await asyncio.sleep(generator.random() ** 4 * 0.15)
                process.send_signal(number)
                errors = await ended(process)
            finally:
                if process.returncode is None:
                    process.kill()
            assert os.listdir(folder) == [], (os.listdir(folder), errors)
        if process.returncode == -number:
            # Before it listened to signals, it had made nothing.
            assert errors == b"", errors
            before += 1
        else:
            assert process.returncode == 0, (process.returncode, errors)
            assert b"SHUTDOWN: the machine is shut down, cause: host-signal" in errors, errors
            in_order += 1
    print(f"endings: {before} before it listened, {in_order} in order")
    assert in_order >= ROUNDS // 2
