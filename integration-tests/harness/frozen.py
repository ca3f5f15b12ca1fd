"""Recognises a guest whose processor the rig's emulator has broken.

QEMU's emulated VMRUN leaves the number of the interrupt that it has injected behind as a pending exception. A kick of
the emulated processor's thread that comes before the guest is left again delivers it once more, though the guest may
have turned interrupts off: Linux then waits for ever for a lock that the interrupted code holds. More rarely the outer
kernel's registers are stored as the guest's. It happens to every VMM in the rig, to QEMU too (`CASE_VMM=qemu-microvm`),
and the busier this machine, the more often. Both leave a mark that a look at the registers shows:

    own      a 64-bit kernel that stays at one instruction, on one stack, with interrupts off
    foreign  an instruction pointer in the function by which the outer kernel enters a guest

A panicked kernel stands still for reasons of its own: whoever asks looks at the console first.
"""

import re

#: `info registers -a`, as QEMU prints it: one block for each vCPU.
_BLOCK = re.compile(r"^CPU#(\d+)\n(.*?)(?=^CPU#|\Z)", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"\b(RIP|RSP|RFL|CPL|EFER)=\s*([0-9a-f]+)")
_INTERRUPTS_ON = 0x200
_LONG_MODE_ACTIVE = 0x400
#: How far behind its first instruction the function that enters a guest is left again, in bytes: more than it is long.
_ENTRY_LENGTH = 0x400


def vcpus(registers):
    """The registers that matter here of each vCPU in 64-bit mode, by its number.

    >>> text = "CPU#0\\nRSP=ff00\\nRIP=ffffffff81000010 RFL=00000046 [---Z-P-] CPL=0 HLT=1\\nEFER=0000000000000d01\\n"
    >>> vcpus(text + "\\nCPU#1\\nEIP=0000fff0 EFL=00000002 CPL=0\\nEFER=0000000000000000\\n")
    {0: {'RSP': 65280, 'RIP': 18446744071578845200, 'RFL': 70, 'CPL': 0, 'EFER': 3329}}
    """
    found = {}
    for number, block in _BLOCK.findall(registers.replace("\r", "")):
        fields = {name: int(value, 16) for name, value in _FIELD.findall(block)}
        if "RIP" in fields and fields.get("EFER", 0) & _LONG_MODE_ACTIVE:
            found[int(number)] = fields
    return found


def verdict(before, after, entries=()):
    """Why the guest cannot go on, or `None`; from two looks at it, a while apart, while it should have run.

    `entries` are the addresses of the outer kernel's functions that enter a guest.

    >>> def look(rip, flags=0x46, rsp=0xff00, cpl=0):
    ...     return f"CPU#0\\nRSP={rsp:x}\\nRIP={rip:x} RFL={flags:x} CPL={cpl}\\nEFER=d01\\n"
    >>> verdict(look(0x1000), look(0x1000))
    'vCPU 0 stands at 0x1000 with interrupts off'
    >>> verdict(look(0x1000, flags=0x246), look(0x1000, flags=0x246))  # idle
    >>> verdict(look(0x1000), look(0x1010))  # on its way
    >>> verdict(look(0x1000, cpl=3), look(0x1000, cpl=3))
    >>> verdict(look(0x4d9c, flags=0x246), look(0x4d9c, flags=0x246), entries=[0x4d30])
    'vCPU 0 has the registers of the outer kernel, instruction pointer 0x4d9c'
    """
    first, second = vcpus(before), vcpus(after)
    for number in sorted(first.keys() & second.keys()):
        was, is_now = first[number], second[number]
        rip = is_now["RIP"]
        if any(entry <= rip < entry + _ENTRY_LENGTH for entry in entries):
            return f"vCPU {number} has the registers of the outer kernel, instruction pointer {rip:#x}"
        if was == is_now and is_now["CPL"] == 0 and not is_now["RFL"] & _INTERRUPTS_ON:
            return f"vCPU {number} stands at {rip:#x} with interrupts off"
    return None


def outer_entries(symbols="/proc/kallsyms"):
    """Where the kernel that this runs on has the functions by which it enters a guest on AMD's processors."""
    with open(symbols, encoding="ascii") as lines:
        found = [line.split() for line in lines if "svm_vcpu_run" in line]
    return [int(fields[0], 16) for fields in found if fields[2] in ("svm_vcpu_run", "__svm_vcpu_run")]
