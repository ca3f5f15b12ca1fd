# For debuggers: every processor counts in a variable of its own, and the first one does so in a function.
    .include "pvh.inc"
start:
    movl $stack_top, %esp
    # The other processors start at 0x8000, in 16-bit code.
    cld
    movl $others, %esi
    movl $0x8000, %edi
    movl $(others_end - others), %ecx
    rep movsb
    movl $0xfee00300, %edi      # the interrupt command register of the local APIC
    movl $0x000c4500, (%edi)    # INIT, to all but this one
    movl $0x000c4608, (%edi)    # start-up, at page 8
    movl $0x000c4608, (%edi)
    movw $0x3f8, %dx
    movb $'R', %al
    outb %al, %dx
again:
    call work
    jmp again
    .globl work
work:
    incl counter
    nop
    ret

    .code16
others:
    xorw %ax, %ax
    movw %ax, %ds
1:  incl 0x9000                 # what `others_counter` names
    jmp 1b
others_end:

    .bss
    .globl counter
    .balign 16
counter:
    .skip 4
    .balign 16
    .skip 256
stack_top:
    .globl others_counter
    .set others_counter, 0x9000
