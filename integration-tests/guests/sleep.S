# Falls asleep (ACPI S3), and when it is woken again at once, for ever. Each time a dot goes to the debug console (port 0x402).
# With a second processor the first one says meanwhile that the guest has panicked (port 0x505), and the second one falls
# asleep: the two requests race.
    .include "pvh.inc"
    .set PM1_CNT, 0x604
    .set S3, 0x2400             # SLP_EN, and the sleep type of S3
    .set WAKING, 0x8000         # where it is woken; real mode
    .set SECOND, 0x9000         # where the second processor begins; real mode
    .set APIC, 0xfee00000
start:
    movl $0xe0000, %edi         # the FACS, which the firmware left below 1 MiB
1:  cmpl $0x53434146, (%edi)    # "FACS"
    je 2f
    addl $16, %edi
    cmpl $0x100000, %edi
    jb 1b
    ud2
2:  movl $WAKING, 12(%edi)      # the waking vector
    cld
    movl $waking, %esi
    movl $WAKING, %edi
    movl $waking_end - waking, %ecx
    rep movsb
    movl $second, %esi
    movl $SECOND, %edi
    movl $second_end - second, %ecx
    rep movsb

awake:
    movw $0x402, %dx
    movb $'.', %al
    outb %al, %dx
    # INIT and start-up to all others. Without any, this one falls asleep itself.
    movl $0x000c4500, APIC + 0x300
    movl $0x000c4600 | SECOND >> 12, APIC + 0x300
    rdtsc
    movl %eax, %ebx
3:  pause
    rdtsc
    subl %ebx, %eax
    cmpl $200000, %eax          # time for the second one to come up
    jb 3b
    cmpb $0, present - second + SECOND
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

second:
    movw %cs, %ax
    movw %ax, %ds
    movb $1, present - second
    movw $PM1_CNT, %dx
    movw $S3, %ax
7:  outw %ax, %dx
    jmp 7b
present:
    .byte 0
second_end:

    .code32
protected:
    movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    jmp awake
