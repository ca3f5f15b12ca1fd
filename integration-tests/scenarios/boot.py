"""Debian's cloud kernel reaches userspace, from each kind of image, on one and on two processors."""

from harness.cases import case
from harness.guests import linux_guest


@case(deadline=60)
async def bzimage_reaches_userspace():
    async with linux_guest() as vm:
        match = await vm.console.expect(r"USERSPACE REACHED cpus=(\d+)")
        assert match.group(1) == "1"
        assert await vm.status() == "running"


@case(deadline=60)
async def vmlinux_reaches_userspace():
    async with linux_guest(image="vmlinux") as vm:
        await vm.console.expect("USERSPACE REACHED")


@case(deadline=60)
async def two_vcpus_both_run():
    async with linux_guest(cpus=2) as vm:
        await vm.ready()
        assert await vm.shell("nproc") == "2"
        # Each answers an interrupt of its own: a process pinned to it gets its turn.
        assert await vm.shell("taskset 1 echo first; taskset 2 echo second") == "first\nsecond"
        cpus = await vm.execute("query-cpus-fast")
        assert [cpu["cpu-index"] for cpu in cpus] == [0, 1], cpus


@case(deadline=60)
async def memory_is_what_was_asked_for():
    async with linux_guest(memory=384) as vm:
        await vm.ready()
        total = int(await vm.shell("awk '/MemTotal/ {print $2}' /proc/meminfo"))
        # The kernel keeps some for itself, and never finds more than there is.
        assert 384 * 1024 * 0.7 < total <= 384 * 1024, total
