"""A core file of Linux: gdb finds the processors' registers in it, and the kernel's memory where the kernel has it."""

import asyncio
import re

from harness.cases import case
from harness.guests import linux_guest

#: Where the kernel's own addresses begin; without address space randomisation, physical memory begins there.
KERNEL_MAP = 0xFFFFFFFF80000000


async def gdb_on(core, *commands):
    """What gdb prints when it runs the commands on a core file."""
    words = [word for command in ("set width 0", *commands) for word in ("-ex", command)]
    gdb = await asyncio.create_subprocess_exec(
        "gdb", "-nx", "-batch", *words, "--core", core,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await gdb.communicate()
    return output.decode("utf-8", "replace")


@case(deadline=120)
async def gdb_reads_a_core_of_linux():
    async with linux_guest(cpus=2, memory=128, append="nokaslr", options=["--dump-dir", "."]) as vm:
        await vm.ready()
        banner = await vm.shell("grep ' linux_banner$' /proc/kallsyms")
        banner = int(banner.split()[0], 16) - KERNEL_MAP
        version = await vm.shell("uname -r")
        begin = len(vm.qmp.transcript)
        await vm.execute("dump-guest-memory", paging=False, protocol="file:core")
        assert vm.qmp.names(begin) == ["STOP", "DUMP_COMPLETED", "RESUME", "return"], vm.qmp.transcript[begin:]
        text = await gdb_on(vm.folder / "core", f"x/s {banner}", "thread apply all info registers rip")
        assert f"Linux version {version}" in text, text
        # A processor that idles is in the kernel; the other one may still be in the shell, for no other program runs.
        assert len(re.findall(r"^rip +0x", text, re.MULTILINE)) == 2, text
        assert re.search(r"^rip +0xffffffff[89a-f]", text, re.MULTILINE), text
        assert await vm.shell("echo alive") == "alive"
