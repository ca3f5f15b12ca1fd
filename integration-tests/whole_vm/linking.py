"""What is in a release's file: the C library, as far as that is installed as an archive."""

import shutil
import subprocess

from harness.cases import Skip, case
from harness.machine import vmm_bin

from .command_line import empty_folder, refused, run


def static_program():
    """The program, if it is linked statically."""
    if not shutil.which("readelf"):
        raise Skip("there is no readelf: apt-get install binutils")
    headers = subprocess.run(["readelf", "-Wl", vmm_bin()], capture_output=True, text=True, check=True).stdout
    if "INTERP" in headers:
        raise Skip("the program is linked with the shared C library")
    return vmm_bin()


@case(deadline=60)
async def a_static_program_lacks_no_function_that_it_calls():
    # The linker makes a call of address 0 where a weak function is not found. The C library's own weak uses begin with
    # an underscore, and it looks before it calls.
    symbols = subprocess.run(["readelf", "-Ws", static_program()], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in symbols.splitlines() if " UND " in line]
    lacking = {row[7] for row in rows if len(row) > 7}
    assert not [name for name in lacking if not name.startswith("_")], lacking


@case(deadline=60)
async def a_static_program_looks_names_up():
    static_program()
    with empty_folder() as folder:
        known = ["--qmp", "tcp:localhost:0", "--kernel", "missing"]
        _, _, errors = await run(*known, folder=folder)
        assert "localhost" not in errors and "missing" in errors, errors
        await refused("--qmp", "tcp:no.such.host.invalid:0", folder=folder, says=["no.such.host.invalid"])
