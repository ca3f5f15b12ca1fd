# Counts on COM1: eight hexadecimal digits and a line feed for each number, from 0, with a pause between.
# Memory is not relied on: a guest that was reset begins at 0 again.
    .include "pvh.inc"
start:
    movl $stack_top, %esp
    xorl %ebp, %ebp
next_number:
    movl %ebp, %ebx
    movl $8, %ecx
next_digit:
    roll $4, %ebx
    movl %ebx, %eax
    andb $15, %al
    addb $'0', %al
    cmpb $'9', %al
    jbe 1f
    addb $'a' - '9' - 1, %al
1:  call put
    loop next_digit
    movb $10, %al
    call put
    movl $3000, %ecx
2:  pause
    loop 2b
    incl %ebp
    jmp next_number

put:                            # waits for the transmitter, then sends %al
    movb %al, %ah
    movw $0x3fd, %dx
3:  inb %dx, %al
    testb $0x20, %al
    jz 3b
    movb %ah, %al
    movw $0x3f8, %dx
    outb %al, %dx
    ret

    .bss
    .balign 16
    .skip 256
stack_top:
