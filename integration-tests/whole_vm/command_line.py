"""What a person does wrong when starting the VMM: one clear line, a status that says so, nothing left behind."""

import asyncio
import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile

from harness.cases import Skip, case
from harness.guests import assembled
from harness.machine import PATIENCE, vmm_bin


@contextlib.contextmanager
def empty_folder():
    """A folder that is empty, and must be empty again of everything that the test did not make."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vm-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


async def run(*arguments, folder, program=None, **rest):
    """Runs the VMM to its end; returns its status and what it wrote to standard error."""
    process = await asyncio.create_subprocess_exec(
        program or vmm_bin(), *map(str, arguments), cwd=folder, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, **rest,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode, output.decode(), errors.decode()


async def refused(*arguments, folder, says=(), **rest):
    """The VMM must refuse to start, in one line that contains each word of `says`, and leave nothing."""
    before = sorted(os.listdir(folder))
    status, output, errors = await run(*arguments, folder=folder, **rest)
    assert 1 <= status < 100, f"{arguments}: status {status}: {errors}"
    lines = [line for line in errors.splitlines() if line.strip()]
    assert len(lines) == 1, f"{arguments}: {errors}"
    for word in says:
        assert word in errors, f"{arguments}: no {word!r} in {errors}"
    assert output == ""
    assert sorted(os.listdir(folder)) == before, os.listdir(folder)
    return status


@case(deadline=60)
async def wrong_options_are_named():
    with empty_folder() as folder:
        for arguments, says in (
            (["--no-such-option"], ["--no-such-option", "--help"]),
            (["--cpus", "0"], ["--cpus", "0"]),
            (["--cpus", "many"], ["--cpus", "many"]),
            (["--memory", "-5"], ["--memory", "-5"]),
            (["--memory", "lots"], ["--memory", "lots"]),
            (["--memory"], ["--memory"]),
            (["--action", "panic=explode"], ["--action", "explode"]),
            (["--action", "frobnicate=pause"], ["--action", "frobnicate"]),
            (["--serial", "carrier-pigeon:x"], ["--serial", "carrier-pigeon"]),
            (["--qmp", "nowhere"], ["--qmp", "nowhere"]),
            (["--uuid", "42"], ["--uuid", "42"]),
            (["stray-word"], ["stray-word"]),
        ):
            assert await refused(*arguments, folder=folder, says=says) == 2


@case(deadline=60)
async def help_and_version_are_not_errors():
    with empty_folder() as folder:
        status, output, errors = await run("--help", folder=folder)
        assert (status, errors) == (0, "") and "--kernel" in output and "EXIT CODES" in output
        status, output, errors = await run("--version", folder=folder)
        assert (status, errors) == (0, "") and output.startswith("vmm-bin ")


@case(deadline=60)
async def files_that_will_not_do_are_named():
    with empty_folder() as folder:
        (folder / "text").write_text("This is no kernel.\n" * 1000)
        (folder / "empty").write_bytes(b"")
        whole = assembled("spin").read_bytes()
        (folder / "half").write_bytes(whole[: len(whole) // 2])
        for arguments, says in (
            (["--kernel", "missing"], ["missing"]),
            (["--kernel", "text"], ["text"]),
            (["--kernel", "empty"], ["empty"]),
            (["--kernel", "half"], ["half"]),
            (["--kernel", "."], []),
            (["--firmware", "missing"], ["missing"]),
            (["--firmware", "empty"], ["empty"]),
            (["--kernel", str(assembled("spin")), "--initrd", "missing"], ["missing"]),
            (["--kernel", str(assembled("spin")), "--memory", "1M"], []),
            (["--serial", "file:no/such/folder/x"], ["no/such/folder"]),
            (["--qmp", "unix:no/such/folder/x"], ["no/such/folder"]),
            (["--pidfile", "no/such/folder/x"], ["no/such/folder"]),
            (["--qmp", "unix:" + "long" * 40], []),
        ):
            await refused(*arguments, folder=folder, says=says)


@case(deadline=60)
async def a_socket_in_use_is_left_to_its_owner():
    with empty_folder() as folder:
        path = str(folder / "taken")
        with socket.socket(socket.AF_UNIX) as owner:
            owner.bind(path)
            owner.listen()
            await refused("--qmp", f"unix:{path}", folder=folder, says=["taken"])
            await refused("--serial", f"unix:{path}", folder=folder, says=["taken"])
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)


@case(deadline=60)
async def a_file_is_not_taken_for_a_stale_socket():
    with empty_folder() as folder:
        precious = folder / "precious"
        precious.write_text("not a socket")
        await refused("--qmp", f"unix:{precious}", folder=folder, says=["precious"])
        assert precious.read_text() == "not a socket"


@case(deadline=60)
async def without_permission_for_kvm_it_says_what_to_do():
    if os.geteuid() != 0:
        raise Skip("only root can run it as somebody who may not open /dev/kvm")
    if os.stat("/dev/kvm").st_mode & 0o006:
        raise Skip("everybody may open /dev/kvm here")
    with empty_folder() as folder:
        program = shutil.copy(vmm_bin(), folder / "vmm-bin")
        folder.chmod(0o777)
        await refused(folder=folder, says=["/dev/kvm"], program=program, user=65534, group=65534, extra_groups=[])


@case(deadline=60)
async def without_kvm_it_says_what_to_do():
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        raise Skip("only root can take /dev/kvm away")
    with empty_folder() as folder:
        hide = 'mount -t tmpfs none /dev && exec "$0" "$@"'
        status, _, errors = await run("-m", "sh", "-c", 'mount -t tmpfs none /dev', folder=folder, program="unshare")
        if status != 0:
            raise Skip(f"no mount namespace here: {errors.strip()}")
        await refused("-m", "sh", "-c", hide, vmm_bin(), folder=folder, says=["/dev/kvm"], program="unshare")


def refuses(path, user):
    """Whether a connection to a socket fails for this user."""
    program = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    command = [sys.executable, "-c", program, path]
    result = subprocess.run(command, user=user, group=user, extra_groups=[], capture_output=True, text=True, check=False)
    return "PermissionError" in result.stderr


@case(deadline=60)
async def sockets_are_for_their_owner_only():
    # What a file may be used for is not left to the umask.
    for umask in (0o000, 0o022, 0o077):
        with empty_folder() as folder:
            folder.chmod(0o755)
            process = await asyncio.create_subprocess_exec(
                vmm_bin(), "--qmp", "unix:qmp", "--serial", "unix:serial", "-S", "--pidfile", "pid", cwd=folder,
                stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, umask=umask,
            )
            try:
                async with asyncio.timeout(PATIENCE):
                    while not all((folder / name).exists() for name in ("qmp", "serial", "pid")):
                        await asyncio.sleep(0.02)
                for name in ("qmp", "serial"):
                    assert (folder / name).stat().st_mode & 0o777 == 0o600, (name, oct(umask))
                    if os.geteuid() == 0:
                        assert refuses(folder / name, 65534), name
                assert (folder / "pid").stat().st_mode & 0o177 == 0, oct(umask)
                assert int((folder / "pid").read_text()) == process.pid
                process.terminate()
                async with asyncio.timeout(PATIENCE):
                    assert await process.wait() == 0
                assert os.listdir(folder) == []
            finally:
                if process.returncode is None:
                    process.kill()


@case(deadline=60)
async def numbers_at_the_edges_are_taken_or_named():
    edges = (0, 1, 254, 255, 256, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -1)
    with empty_folder() as folder:
        for number in edges:
            if not 1 <= number <= 254:
                assert await refused("--cpus", number, folder=folder, says=["--cpus", str(number)]) == 2
            # What is possible on a machine with much memory is not tried.
            if number == 0 or number < 0 or number >= 2**63:
                for unit in ("", "K", "M", "G"):
                    value = f"{number}{unit}"
                    assert await refused("--memory", value, folder=folder, says=["--memory", value]) == 2
            elif number >= 2**31:
                await refused("--memory", f"{number}G", folder=folder)
