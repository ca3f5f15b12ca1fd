# Jumps to where no memory is. (A guest that is reset does it again.)
    .include "pvh.inc"
start:
    movw $0x402, %dx
    movb $'.', %al
    outb %al, %dx
    movl $0xd0000000, %eax
    jmp *%eax
