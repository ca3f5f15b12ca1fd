"""The machine is stopped whatever its guest is doing, and whatever signals its threads get meanwhile."""

import asyncio
import contextlib
import ctypes
import os
import signal
import threading

from harness.cases import SLOWNESS, case
from harness.guests import small_guest
from harness.machine import PATIENCE
from whole_vm.hostile_qmp import Raw

#: How often the machine is stopped at each port.
PAUSES = int(os.environ.get("PORT_PAUSES", "50"))

#: A port of each device, and whether what it says can be written back without ending the guest.
PORTS = (
    (0x21, "w"), (0x42, "w"), (0x60, "w"), (0x64, "r"), (0x71, "w"), (0x80, "w"), (0x92, "w"), (0x3F8, "w"), (0x3FD, "r"),
    (0x402, "w"), (0x501, "r"), (0x505, "w"), (0x600, "w"), (0x602, "w"), (0x604, "w"), (0x608, "r"), (0xCF9, "w"), (0x1234, "r"),
)


async def stops_and_conts(vm, count):
    """Stops the machine and lets it go on, `count` times, as fast as it answers."""
    async with Raw.connected(vm) as raw:
        raw.writer.write(b'{"execute":"stop"}{"execute":"cont"}' * count)
        for _ in range(2 * count):
            reply = await raw.reply()
            assert reply == {"return": {}}, reply


@case(deadline=60 + SLOWNESS * len(PORTS) * (1 + PAUSES / 50))
async def stops_while_the_guest_uses_each_port():
    options = ["--action", "panic=none", "--debugcon", "file:debug"]
    for port, how in PORTS:
        async with small_guest("port", append=f"{port:04x}{how}", options=options) as vm:
            await stops_and_conts(vm, PAUSES)
            assert await vm.status() == "running", hex(port)
            await vm.execute("quit")
            assert await vm.exit_code() == 0


@contextlib.contextmanager
def storm(pid):
    """Every thread of a process gets the signal that a vCPU is kicked with, a thousand times a second."""
    tgkill, number, over = 234, signal.SIGRTMIN, threading.Event()
    libc = ctypes.CDLL(None)

    def send():
        while not over.wait(0.001):
            with contextlib.suppress(FileNotFoundError):
                for thread in os.listdir(f"/proc/{pid}/task"):
                    libc.syscall(tgkill, pid, int(thread), int(number))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join()


@case(deadline=90)
async def a_storm_of_signals_changes_nothing():
    async with small_guest("count", cpus=2) as vm:
        await vm.console.expect("00000003\n")
        with storm(vm.process.pid):
            await stops_and_conts(vm, 300)
            for _ in range(20):
                await vm.execute("system_reset")
            vm.console.skip()
            await vm.console.expect(r"^[0-9a-f]{8}\n[0-9a-f]{8}\n")
            await vm.execute("quit")
            assert await vm.exit_code() == 0
        assert vm.qmp.names().count("RESET") == 20
        assert "panicked at" not in vm.stderr()


@case(deadline=90)
async def a_program_that_is_stopped_and_continued_itself_answers_every_command():
    async with small_guest("count", cpus=2) as vm:
        await vm.console.expect("00000003\n")
        commands = asyncio.create_task(stops_and_conts(vm, 300))
        while not commands.done():
            vm.signal(signal.SIGSTOP)
            await asyncio.sleep(0.005)
            vm.signal(signal.SIGCONT)
            await asyncio.sleep(0.005)
        async with asyncio.timeout(PATIENCE):
            await commands
        assert await vm.status() == "running"
        complete = vm.console.text[: vm.console.text.rindex("\n")].splitlines()
        assert [int(n, 16) for n in complete] == list(range(len(complete))), "a number was lost or doubled"
