"""In the rig: from `system_reset` to the first word of the next boot, and through a suspend to RAM and back,
`vmm-bin` beside QEMU.

The guest and the client are the same and the sides take turns; what counts is the medians' ratio. QEMU's microvm,
which boots fastest, cannot suspend, and its q35 has firmware that resumes the guest, where `vmm-bin` does it itself:
so resets are compared with the first, and suspends with the second.

    python3 -m benches.linux_cycle
"""

import asyncio
import contextlib
import statistics
import time

from harness.guests import linux_guest

RESETS = 5
#: On QEMU's q35, this guest's console often takes no input any more after a sleep.
SLEEPS = 1
#: The first that is heard of a kernel, before it unpacks itself.
FIRST_WORD = "KASLR using"
PATIENCE = 60


async def reset(vm):
    """Seconds from the command to the kernel's first word."""
    begin = time.monotonic()
    await vm.execute("system_reset")
    await vm.console.expect(FIRST_WORD, PATIENCE)
    return time.monotonic() - begin


async def sleep(vm):
    """Seconds from the guest's write to its power state, over a wakeup that waits for nothing, to its shell."""
    begin = time.monotonic()
    vm.type("echo mem >/sys/power/state && echo A''WAKE")
    await vm.qmp.event("SUSPEND", PATIENCE)
    await vm.execute("system_wakeup")
    await vm.console.expect("AWAKE", PATIENCE)
    return time.monotonic() - begin


async def measure(what, action, rounds, sides, ready, append):
    """Prints the medians of `action`, and their ratio."""
    times = {side: [] for side in sides}
    async with contextlib.AsyncExitStack() as stack:
        machines = {}
        for side in sides:
            machine = machines[side] = await stack.enter_async_context(linux_guest(vmm=side, append=append))
            await (machine.ready() if ready else machine.console.expect(FIRST_WORD, PATIENCE))
            await machine.execute("stop")
        for _ in range(rounds):
            for side, machine in machines.items():
                # Only one side runs at a time.
                await machine.execute("cont")
                machine.console.skip()
                times[side].append(await action(machine))
                await machine.execute("stop")
    medians = {side: statistics.median(values) for side, values in times.items()}
    print(what, flush=True)
    for side, seconds in medians.items():
        print(f"  {side:<20} {seconds:6.2f} s (emulated)", flush=True)
    ours, theirs = sides
    print(f"  {ours} / {theirs}  {medians[ours] / medians[theirs]:.2f}", flush=True)


async def main():
    early = "earlyprintk=ttyS0"
    await measure("reset to the next boot's first word", reset, RESETS, ("vmm-bin", "qemu-microvm"), False, early)
    await measure("suspend to RAM and back", sleep, SLEEPS, ("vmm-bin", "qemu-q35"), True, "")


asyncio.run(main())
