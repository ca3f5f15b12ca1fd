# A hostile guest: reads and writes random ports and random device memory with every width, for ever.
# The numbers are others after each reset.
# Every 1024 accesses one dot goes to the debug console (port 0x402): it tells that the guest still runs.
    .include "pvh.inc"
    .include "random.inc"
start:
    movl $stack_top, %esp
    seed                        # %ebx: the generator's state
    xorl %ebp, %ebp             # %ebp: how many accesses

again:
    incl %ebp
    testl $1023, %ebp
    jnz 1f
    movw $0x402, %dx
    movb $'.', %al
    outb %al, %dx
1:  call random
    movl %eax, %edi             # what to do: bit 0 write, bits 1 and 2 width, bits 3 to 5 where
    call random
    movl %eax, %esi             # where
    call random                 # %eax: the value
    movl %edi, %ecx
    shrl $3, %ecx
    andl $7, %ecx
    jz device_memory            # one access in eight

    movl %esi, %edx
    cmpl $1, %ecx
    je 2f                       # one in eight goes to any port, the others to where the devices are
    andl $0x7ff, %edx
2:  testl $1, %edi
    jz port_read
    testl $4, %edi
    jz 3f
    outl %eax, %dx
    jmp again
3:  testl $2, %edi
    jz 4f
    outw %ax, %dx
    jmp again
4:  outb %al, %dx
    jmp again
port_read:
    testl $4, %edi
    jz 5f
    inl %dx, %eax
    jmp again
5:  testl $2, %edi
    jz 6f
    inw %dx, %ax
    jmp again
6:  inb %dx, %al
    jmp again

device_memory:                  # from 0xfe000000 up: beside and behind the interrupt controllers
    orl $0xfe000000, %esi
    testl $1, %edi
    jz memory_read
    testl $4, %edi
    jz 7f
    movl %eax, (%esi)
    jmp again
7:  testl $2, %edi
    jz 8f
    movw %ax, (%esi)
    jmp again
8:  movb %al, (%esi)
    jmp again
memory_read:
    testl $4, %edi
    jz 9f
    movl (%esi), %eax
    jmp again
9:  movb (%esi), %al
    jmp again

random:                         # the next value, in %eax
    next_random
    movl %ebx, %eax
    ret

    .bss
    .balign 16
    .skip 256
stack_top:
