# Prints one byte on COM1, then spins. The byte tells that the guest runs; a benchmark waits for it.
    .include "pvh.inc"
start:
    movw $0x3f8, %dx
    movb $'R', %al
    outb %al, %dx
1:  pause
    jmp 1b
