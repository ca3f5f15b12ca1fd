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


@case(deadline=60 + SLOWNESS * ROUNDS)
async def a_signal_at_any_time_ends_it_and_leaves_nothing():
    generator = random.Random(6086)
    before, in_order = 0, 0
    for _ in range(ROUNDS):
        number = generator.choice((signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        with tempfile.TemporaryDirectory(prefix="vm-") as folder:
            process = await asyncio.create_subprocess_exec(
                vmm_bin(), "--cpus", "2", "--qmp", "unix:qmp", "--serial", "unix:serial", "--pidfile", "pid", cwd=folder,
                stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            )
            try:
                await asyncio.sleep(generator.random() ** 4 * 0.15)
                process.send_signal(number)
                async with asyncio.timeout(PATIENCE):
                    _, errors = await process.communicate()
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
    assert in_order > ROUNDS // 4
