"""What a whole-VM test stands on.

    cases     finds the tests, runs each in a process of its own, reports as cargo's harness does
    machine   one VMM process: its console, its QMP socket, its end
    guests    what a machine can boot: our assembler guests, Debian's kernel with busybox
    linux     Debian's kernel, taken apart, and the inner guest's initramfs
    rig       a machine with a working /dev/kvm, emulated: builds it, boots it, runs tests in it

A test never guesses when something is over: it waits for what it expects, under a deadline that only a
hang can reach.
"""
