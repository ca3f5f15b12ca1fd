# Falls asleep (ACPI S3), and when it is woken again at once, for ever. Each time a dot goes to the debug console (port 0x402).
# With a second processor the first one says meanwhile that the guest has panicked (port 0x505), and the second one falls
# asleep: the two requests race.
    .include "sleeper.inc"
awake:                          # without a second processor this one falls asleep itself
    rdtsc
    movl %eax, %ebx
3:  pause
    rdtsc
    subl %ebx, %eax
    cmpl $200000, %eax          # time for the second one to come up
    jb 3b
    cmpb $0, present - others + OTHERS
    je fall_asleep
    movw $0x505, %dx
    movb $1, %al
4:  outb %al, %dx
    rdtsc
    movl %eax, %ecx             # a pause that is never the same
    andl $0x3fff, %ecx
5:  pause
    loop 5b
    jmp 4b
fall_asleep:
    movw $PM1_CNT, %dx
    movw $S3, %ax
6:  outw %ax, %dx
    jmp 6b

    .code16
others:
    movw %cs, %ax
    movw %ax, %ds
    movb $1, present - others
    movw $PM1_CNT, %dx
    movw $S3, %ax
7:  outw %ax, %dx
    jmp 7b
present:
    .byte 0
others_end:
