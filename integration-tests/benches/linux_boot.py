"""In the rig: from exec to Linux userspace, `vmm-bin` beside QEMU's microvm.

The same kernel, initramfs, command line and number of processors; the sides take turns. Emulation inflates
times and does so unevenly, so the medians' ratio is what this is for. QEMU is measured twice: as it is, and with the
CMOS clock that `vmm-bin` has, without which the kernel's driver waits for one in vain.

    python3 -m benches.linux_boot vmlinux|bzImage [SIDE...]
"""

import asyncio
import statistics
import sys
import time

from harness.guests import linux_guest

ROUNDS = 3
SIDES = ("vmm-bin", "qemu-microvm", "qemu-microvm-bare")


async def boot(vmm, image):
    """Seconds from exec to the first line of the guest's /init."""
    guest = linux_guest(image=image, vmm=vmm, qmp=False)
    begin = time.monotonic()
    async with guest as vm:
        await vm.console.expect("USERSPACE REACHED", 60)
        return time.monotonic() - begin


async def main():
    image, *sides = sys.argv[1:]
    sides = sides or list(SIDES)
    times = {side: [] for side in sides}
    for _ in range(ROUNDS):
        for side in sides:
            times[side].append(await boot(side, image))
    medians = {side: statistics.median(values) for side, values in times.items()}
    print(f"exec to userspace, {image}", flush=True)
    for side, seconds in medians.items():
        print(f"  {side:<20} {seconds:6.2f} s (emulated)", flush=True)
    for side in sides[1:]:
        print(f"  {sides[0]} / {side}  {medians[sides[0]] / medians[side]:.2f}", flush=True)


asyncio.run(main())
