# Every processor writes what chance has it to the registers by which a guest resets, sleeps, powers off and panics, at random
# times, for ever. The first one moves the waking vector about meanwhile. Each start and each wakeup puts a dot on the
# debug console (port 0x402).
    .include "sleeper.inc"
    .include "random.inc"
    .set PM1_STS, 0x600
    .set PM1_EN, 0x602

    .macro out16 port
    movw $\port, %dx
    outw %ax, %dx
    .endm
    .macro out8 port
    movw $\port, %dx
    outb %al, %dx
    .endm

    # One write, of the value %ax, to where the low bits of %ebx say, after a while. Only registers are used: it
    # runs anywhere, in any mode. %ebx is the generator's state.
    .macro one_write
    next_random
    movl %ebx, %ecx
    shrl $19, %ecx
    orl $1, %ecx
1:  pause
    loop 1b
    movl %ebx, %eax
    shrl $8, %eax
    movl %ebx, %ecx
    andl $15, %ecx
    cmpl $1, %ecx
    jbe 2f
    cmpl $3, %ecx
    jbe 3f
    cmpl $4, %ecx
    je 4f
    cmpl $5, %ecx
    je 5f
    cmpl $6, %ecx
    je 6f
    cmpl $8, %ecx
    jbe 7f
    cmpl $9, %ecx
    je 8f
    cmpl $10, %ecx
    je 9f
    cmpl $12, %ecx
    jbe 10f
    out8 0x70                   # the real-time clock: an alarm, or anything
    movl %ebx, %eax
    shrl $16, %eax
    out8 0x71
    jmp 11f
2:  movw $S3, %ax
3:  out16 PM1_CNT               # any sleep type, with and without SLP_EN
    jmp 11f
4:  out8 0xcf9
    jmp 11f
5:  out8 0x64
    jmp 11f
6:  out8 0x92
    jmp 11f
7:  out16 PM1_EN
    jmp 11f
8:  out8 0x505
    jmp 11f
9:  out16 0x441                 # a watchdog, where there is one
    jmp 11f
10: out16 PM1_STS
11:
    .endm

awake:
    seed
again:
    movl facs, %edi
    testl $0x00700000, %ebx     # now and then to somewhere: a vector that leads nowhere, or is none
    movl $WAKING, %eax
    jnz 3f
    movl %ebx, %eax
    testl $0x00800000, %ebx
    jnz 3f
    xorl %eax, %eax
3:  movl %eax, 12(%edi)
    one_write
    jmp again

    .code16
others:
    seed
other_again:
    one_write
    jmp other_again
others_end:
