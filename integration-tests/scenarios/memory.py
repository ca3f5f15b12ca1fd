"""Linux in memory of huge pages that the host has set aside, and a reset of it."""

import contextlib
import pathlib
import re

from harness.cases import Skip, case
from harness.guests import linux_guest

HUGE_PAGES = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
#: The guest's memory, in MiB.
MEMORY = 128


@contextlib.contextmanager
def huge_pages(count):
    """The host has `count` more huge pages set aside."""
    file = HUGE_PAGES / "nr_hugepages"
    before = int(file.read_text())
    try:
        file.write_text(str(before + count))
        if int(file.read_text()) < before + count:
            raise Skip(f"this host has no {count} huge pages")
        yield
    except PermissionError:
        raise Skip("only root can set huge pages aside") from None
    finally:
        with contextlib.suppress(PermissionError):
            file.write_text(str(before))


def resident(vm, kind):
    """KiB of a kind that the VMM has resident."""
    rollup = pathlib.Path(f"/proc/{vm.process.pid}/smaps_rollup").read_text()
    return int(re.search(rf"^{kind}:\s+(\d+)", rollup, re.MULTILINE).group(1))


@case(deadline=90)
async def linux_in_huge_pages():
    with huge_pages(MEMORY // 2):
        async with linux_guest(memory=f"{MEMORY}M,hugepages=on") as vm:
            await vm.ready()
            await vm.shell("echo survived >/left-behind")
            await vm.execute("system_reset")
            await vm.ready()
            assert await vm.shell("cat /left-behind 2>&1 || true") != "survived"
            assert resident(vm, "Shared_Hugetlb") + resident(vm, "Private_Hugetlb") > 16 << 10
