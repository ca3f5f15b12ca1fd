"""Guests that say far too much: nobody waits for whom they say it to, nothing grows, and what is lost is counted."""

import asyncio
import contextlib
import os
import pathlib
import re
import subprocess
import tempfile
import types

from harness.cases import SLOWNESS, case
from harness.guests import assembled
from harness.machine import PATIENCE, vmm_bin
from whole_vm.leaks import footprint

#: More than the program and a pipe keep for a reader, which is 64 KiB each.
BYTES = int(os.environ.get("FLOOD_BYTES", "200000"))
#: A machine that is busy gets through some 10,000 accesses a second, and one whose processors are taken away through fewer.
TIME = SLOWNESS * (30 + BYTES / 2_000)


async def until(condition, process):
    """Waits until `condition` holds; the process must not end."""
    async with asyncio.timeout(TIME):
        while not condition():
            assert process.poll() is None, "it ended"
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def flooded(port):
    """The VMM after its guest wrote `BYTES` bytes to a port, while nobody read its standard output."""
    with tempfile.TemporaryDirectory(prefix="vm-") as name:
        folder = pathlib.Path(name)
        console, debug = folder / "console", folder / "debug"
        command = [vmm_bin(), "--kernel", assembled("port"), "--append", f"{port:04x}f{BYTES:08x}", "--memory", "64"]
        process = subprocess.Popen(
            [*command, "--debugcon", f"file:{debug}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, bufsize=0,
        )
        try:
            await until(lambda: debug.exists(), process)
            before = footprint(types.SimpleNamespace(process=process))
            await until(lambda: debug.stat().st_size == 1, process)
            after = footprint(types.SimpleNamespace(process=process))
            yield process
        finally:
            process.kill()
            process.wait()
    # The ring, and the first touch of what a machine that runs needs.
    assert after[1] - before[1] < 2 << 20, f"from {before} to {after}"


async def ended(process):
    """Ends it; returns what its standard output and standard error had."""
    process.terminate()
    output, errors = await asyncio.to_thread(process.communicate, timeout=PATIENCE)
    assert process.returncode == 0, errors
    return output, errors


@case(deadline=30 + 2 * TIME)
async def a_flood_on_the_console_costs_what_does_not_fit():
    async with flooded(0x3F8) as process:
        output, errors = await ended(process)
        lost = re.search(rb"(\d+) bytes of the guest's output are lost", errors)
        assert lost, errors
        assert len(output) + int(lost[1]) == BYTES, (len(output), lost)


@case(deadline=30 + 2 * TIME)
async def accesses_to_nobody_write_no_log():
    async with flooded(0x1234) as process:
        output, errors = await ended(process)
        assert output == b"" and len(errors) < 4096, errors
