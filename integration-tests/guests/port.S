# Uses one port for ever, or until a flood is over. The command line says which and how: four hexadecimal digits, and a letter.
#   r   reads a byte, for ever
#   w   reads a byte and writes it back, for ever
#   f   writes as many bytes as the eight hexadecimal digits after it say, then one dot to the debug console (port
#       0x402), and halts
    .include "pvh.inc"
    .set AT_ONCE, 4096
start:
    movl $stack_top, %esp
    cld
    movl 24(%ebx), %esi         # hvm_start_info: where the command line is
    movl $4, %ecx
    call number
    movl %ebp, %edx             # %edx: the port
    lodsb
    cmpb $'r', %al
    je reads
    cmpb $'f', %al
    je flood

writes:
    inb %dx, %al
    outb %al, %dx
    jmp writes

reads:
    inb %dx, %al
    jmp reads

flood:                          # one exit may take many bytes
    movl $8, %ecx
    call number
3:  movl $AT_ONCE, %ecx
    cmpl %ecx, %ebp
    ja 4f
    movl %ebp, %ecx
4:  subl %ecx, %ebp
    movl $0x100000, %esi        # whatever is there
    rep outsb
    testl %ebp, %ebp
    jnz 3b
    movw $0x402, %dx
    movb $'.', %al
    outb %al, %dx
5:  hlt
    jmp 5b

number:                         # %ebp: what %ecx hexadecimal digits at %esi say
    xorl %ebp, %ebp
    xorl %eax, %eax
1:  lodsb
    subb $'0', %al
    cmpb $9, %al
    jbe 2f
    subb $'a' - '0' - 10, %al
2:  shll $4, %ebp
    orl %eax, %ebp
    loop 1b
    ret

    .bss
    .balign 16
    .skip 256
stack_top:
