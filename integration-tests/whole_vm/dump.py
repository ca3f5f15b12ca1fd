"""`dump-guest-memory`: a core file that debuggers read, of one moment, and a VM that goes on as it was."""

import asyncio
import re
import shutil
import signal
import struct
import subprocess

from harness.cases import Skip, case
from harness.gdb import Gdb
from harness.machine import Machine
from whole_vm.embedded import press

JOB = "dump-guest-memory"
#: What the writer does between two looks at its job, in bytes.
PIECE = 256 << 10
BUSY = "There is a dump in process, please wait."


class Dumping(Machine):
    """The embedded guest, and a directory for dumps."""

    def __init__(self, options=(), **rest):
        super().__init__(options=["--dump-dir", "dumps", *options], **rest)
        self.dumps = self.folder / "dumps"
        self.dumps.mkdir()

    async def dump(self, name="core", **arguments):
        """Has the memory written; returns where."""
        await self.execute("dump-guest-memory", paging=False, protocol=f"file:{name}", **arguments)
        return self.dumps / name

    async def dump_held(self, name="core"):
        """Begins a dump and holds it before its end.

        The second command is served in the turn after the first one's. On a host that stalls, the dump may be done by
        then, or at its last piece, which nothing holds.
        """
        while True:
            began, held = await asyncio.gather(
                self.execute("dump-guest-memory", paging=False, protocol=f"file:{name}", detach=True),
                self.execute("job-pause", id=JOB),
                return_exceptions=True,
            )
            assert not isinstance(began, Exception), began
            if isinstance(held, Exception):
                assert "Job not found" in str(held), held
            else:
                progress = await self.execute("query-dump")
                if progress["status"] == "active":
                    if progress["completed"] + PIECE < progress["total"]:
                        return
                    # It may be gone by now.
                    await asyncio.gather(self.execute("job-resume", id=JOB), return_exceptions=True)
            await self.qmp.event("RESUME")

    def names(self):
        """What is in the directory, what is not complete included."""
        return sorted(path.name for path in self.dumps.iterdir())


class Core:
    """A core file, as its headers describe it."""

    def __init__(self, path):
        self.data = path.read_bytes()
        assert self.data[:6] == b"\x7fELF\x02\x01"
        kind, machine = struct.unpack_from("<HH", self.data, 16)
        assert (kind, machine) == (4, 62)
        (start,), (count,) = struct.unpack_from("<Q", self.data, 32), struct.unpack_from("<H", self.data, 56)
        headers = [struct.unpack_from("<IIQQQQQQ", self.data, start + 56 * n) for n in range(count)]
        self.loads = [(physical, offset, size) for kind, _, offset, _, physical, size, *_ in headers if kind == 1]

    def read(self, address, length):
        """Physical memory."""
        for physical, offset, size in self.loads:
            if physical <= address and address + length <= physical + size:
                return self.data[offset + address - physical :][:length]
        raise AssertionError(f"{address:#x} is not in the dump")


@case(deadline=90)
async def a_running_guest_is_dumped_and_goes_on():
    async with Dumping(options=["--gdb", "unix:gdb,arch=i386"], cpus=2, memory=64) as vm:
        await press(vm, "n", "counting")
        begin = len(vm.qmp.transcript)
        path = await vm.dump()
        assert vm.qmp.names(begin) == ["STOP", "DUMP_COMPLETED", "RESUME", "return"], vm.qmp.transcript[begin:]
        done = {"status": "completed", "completed": 64 << 20, "total": 64 << 20}
        assert vm.qmp.transcript[begin + 1]["data"] == {"result": done}
        assert await vm.execute("query-dump") == done
        assert await vm.execute("query-dump-guest-memory-capability") == {"formats": ["elf"]}
        assert "Status: completed" in await vm.execute("human-monitor-command", command_line="info dump")
        assert await vm.status() == "running"
        vm.console.skip()
        await vm.console.expect(r"\n[^\n]+\n")
        core = Core(path)
        assert core.loads[0][0] == 0 and sum(size for _, _, size in core.loads) == 64 << 20
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.stat().st_blocks * 512 < 32 << 20, "what is zero takes place"

        # What debuggers find in it.
        if shutil.which("readelf"):
            notes = subprocess.run(["readelf", "-hnW", path], capture_output=True, text=True, check=True).stdout
            assert "CORE (Core file)" in notes and notes.count("NT_PRSTATUS") == 2 and notes.count("QEMU ") == 2, notes
        await vm.execute("stop")
        path = await vm.dump("second")
        assert await vm.status() == "paused"
        core = Core(path)
        async with Gdb() as gdb:
            await gdb.attach(vm.folder / "gdb")
            here = await gdb.value("$pc")
            # The guest's code and what it works with: the same bytes as over the stub.
            for address in (0xFF000, 0xFF800, 0x500, 0x8000):
                text = await gdb.run(f"x/64xb {address:#x}")
                seen = bytes(int(byte, 16) for line in text.splitlines() for byte in line.split(":")[-1].split())
                assert seen == core.read(address, 64), f"{address:#x}"
        async with Gdb() as gdb:
            await gdb.run(f"core-file {path}")
            threads = await gdb.run("info threads")
            assert len(re.findall(r"\bLWP [12]\b", threads)) == 2, threads
            text = await gdb.run("x/16xb 0xff000")
            seen = bytes(int(byte, 16) for line in text.splitlines() for byte in line.split(":")[-1].split())
            assert seen == core.read(0xFF000, 16), text
            await gdb.run("thread 1")
            # The stub counts from the base of the code segment on.
            assert await gdb.value("$rip") + 16 * await gdb.value("$cs") == here


@case(deadline=60)
async def a_sleeping_guest_sleeps_on():
    async with Dumping() as vm:
        await press(vm, "u", "suspend")
        await vm.qmp.event("SUSPEND")
        begin = len(vm.qmp.transcript)
        await vm.dump(begin=0xFF000, length=0x1000)
        assert vm.qmp.names(begin) == ["STOP", "DUMP_COMPLETED", "RESUME", "return"], vm.qmp.transcript[begin:]
        assert await vm.status() == "suspended"
        assert Core(vm.dumps / "core").loads[0][::2] == (0xFF000, 0x1000)
        await vm.execute("system_wakeup")
        await vm.console.expect("awake")


@case(deadline=60)
async def everybody_is_served_while_a_detached_dump_is_a_job():
    async with Dumping(memory=512) as vm:
        await press(vm, "n", "counting")
        await vm.dump_held()
        status = await vm.execute("query-status")
        assert (status["status"], status["running"]) == ("save-vm", False)
        progress = await vm.execute("query-dump")
        assert progress["status"] == "active" and progress["total"] == 512 << 20 > progress["completed"]
        shown = await vm.execute("human-monitor-command", command_line="info dump")
        assert re.fullmatch(r"Status: active\r\nFinished: \d+\.\d\d %\r\n", shown), shown
        (job,) = await vm.execute("query-jobs")
        assert (job["id"], job["type"], job["total-progress"]) == (JOB, JOB, 512 << 20), job
        arguments = {"paging": False, "protocol": "file:other"}
        for command, given in (("stop", {}), ("cont", {}), ("system_reset", {}), ("dump-guest-memory", arguments)):
            assert await vm.refused(command, **given) == ("GenericError", BUSY)
        assert vm.names() != ["core"]
        # Who asked for it may go.
        other = await vm.connect()
        await vm.qmp.disconnect()
        vm.qmp = other
        await vm.execute("job-resume", id=JOB)
        event = await vm.qmp.event("DUMP_COMPLETED")
        assert event["data"]["result"]["status"] == "completed", event
        await vm.qmp.event("RESUME")
        assert await vm.status() == "running" and vm.names() == ["core"]
        assert await vm.execute("query-jobs") == []

        # The next one is cancelled, and leaves nothing but the first one.
        await vm.dump_held()
        await vm.execute("job-cancel", id=JOB)
        event = await vm.qmp.event("DUMP_COMPLETED")
        assert event["data"]["result"]["status"] == "failed" and event["data"]["error"] == "Operation canceled", event
        await vm.qmp.event("RESUME")
        assert vm.names() == ["core"]
        assert await vm.status() == "running"


@case(deadline=60)
async def the_end_of_the_program_ends_a_dump_and_leaves_nothing():
    for end in ("quit", "signal"):
        async with Dumping(memory=512) as vm:
            await vm.console.expect("guest> $")
            await vm.dump_held()
            if end == "quit":
                await vm.execute("quit")
            else:
                vm.signal(signal.SIGTERM)
            assert await vm.exit_code() == 0
            assert vm.names() == []


@case(deadline=60)
async def what_cannot_be_is_refused_and_changes_nothing():
    async with Dumping() as vm:
        await vm.console.expect("guest> $")
        begin = len(vm.qmp.transcript)
        wrong = [
            ({"paging": True}, "'paging' must be false"),
            ({"format": "kdump-zlib"}, "kdump-zlib is not available now; there is elf"),
            ({"format": "kdump-lzo", "begin": 0, "length": 1}, "doesn't support paging or filter"),
            ({"format": "core"}, "does not accept value 'core'"),
            ({"begin": 0}, "'length' is missing"),
            ({"begin": 0xD0000000, "length": 4096}, "no memory in that range"),
            ({"protocol": "fd:core"}, "no 'getfd'"),
            ({"protocol": "core"}, "Invalid parameter 'protocol'"),
            ({"protocol": "file:/etc/core"}, "--dump-dir"),
            ({"protocol": "file:../core"}, "--dump-dir"),
            ({"protocol": "file:none/core"}, "Could not open 'none/core': No such file or directory"),
            ({"protocol": "file:" + 300 * "x"}, "File name too long"),
        ]
        for arguments, text in wrong:
            kind, error = await vm.refused("dump-guest-memory", **({"paging": False, "protocol": "file:core"} | arguments))
            assert kind == "GenericError" and text in error, (arguments, error)
        for line, text in (("dump-guest-memory", "filename expected"), ("dump-guest-memory -z a", "kdump-zlib")):
            assert text in await vm.execute("human-monitor-command", command_line=line)
        assert {"STOP", "DUMP_COMPLETED"}.isdisjoint(vm.qmp.names(begin)) and vm.names() == []
        assert (await vm.execute("query-dump"))["status"] == "none"
        assert await vm.execute("human-monitor-command", command_line="dump-guest-memory dumped 0 0x1000") == ""
        assert vm.names() == ["dumped"]
    async with Machine() as vm:
        _, error = await vm.refused("dump-guest-memory", paging=False, protocol="file:core")
        assert "--dump-dir" in error, error
        assert await vm.status() == "running"


@case(deadline=60)
async def a_full_disk_fails_the_dump_and_not_the_vm():
    if not shutil.which("prlimit"):
        raise Skip("there is no prlimit")
    vm = Dumping()
    # The image of the guest is behind the first MiB.
    vm.arguments = ["prlimit", f"--fsize={1 << 19}", *vm.arguments]
    async with vm:
        await press(vm, "n", "counting")
        begin = len(vm.qmp.transcript)
        kind, error = await vm.refused("dump-guest-memory", paging=False, protocol="file:core")
        assert (kind, error) == ("GenericError", "dump: failed to save memory: File too large (os error 27)")
        assert vm.qmp.names(begin) == ["STOP", "DUMP_COMPLETED", "RESUME", "error"], vm.qmp.transcript[begin:]
        data = vm.qmp.transcript[begin + 1]["data"]
        assert data["result"]["status"] == "failed" and data["error"] == error, data
        assert vm.names() == []
        vm.console.skip()
        await vm.console.expect(r"\n[^\n]+\n")
        await vm.execute("quit")
        assert await vm.exit_code() == 0
