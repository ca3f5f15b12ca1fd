# Every processor writes what chance has it to the registers by which a guest resets, sleeps, powers off and panics, at random
# times, for ever. The first one moves the waking vector about meanwhile. Each start and each wakeup puts a dot on the
# debug console (port 0x402).
    .include "pvh.inc"
    .set WAKING, 0x8000         # where it is woken; real mode
    .set OTHERS, 0x9000         # where the other processors begin; real mode
    .set APIC, 0xfee00000
    .set PM1_STS, 0x600
    .set PM1_EN, 0x602
    .set PM1_CNT, 0x604
    .set S3, 0x2400             # SLP_EN, and the sleep type of S3

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
    movl %ebx, %eax             # xorshift
    shll $13, %eax
    xorl %eax, %ebx
    movl %ebx, %eax
    shrl $17, %eax
    xorl %eax, %ebx
    movl %ebx, %eax
    shll $5, %eax
    xorl %eax, %ebx
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

start:
    movl $0xe0000, %edi         # the FACS, which the firmware left below 1 MiB
1:  cmpl $0x53434146, (%edi)    # "FACS"
    je 2f
    addl $16, %edi
    cmpl $0x100000, %edi
    jb 1b
    ud2
2:  movl %edi, facs
    movl $WAKING, 12(%edi)      # the waking vector
    cld
    movl $waking, %esi
    movl $WAKING, %edi
    movl $waking_end - waking, %ecx
    rep movsb
    movl $others, %esi
    movl $OTHERS, %edi
    movl $others_end - others, %ecx
    rep movsb

awake:
    movw $0x402, %dx
    movb $'.', %al
    outb %al, %dx
    # INIT and start-up to all others.
    movl $0x000c4500, APIC + 0x300
    movl $0x000c4600 | OTHERS >> 12, APIC + 0x300
    rdtsc
    movl %eax, %ebx
    orl $1, %ebx
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

    .balign 8
gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff

    .code16
waking:                         # copied: addresses are relative to %cs
    movw %cs, %ax
    movw %ax, %ds
    lgdtl gdt_copy - waking
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $8, $protected
gdt_copy:
    .word 23
    .long gdt
waking_end:

others:
    rdtsc
    movl %eax, %ebx
    orl $1, %ebx
other_again:
    one_write
    jmp other_again
others_end:

    .code32
protected:
    movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    jmp awake

    .bss
facs:
    .skip 4
