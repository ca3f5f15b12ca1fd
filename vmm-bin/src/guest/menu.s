// The embedded guest: a firmware image of one page, in 16-bit code. This file has
// its constants, its start and the loop of its menu. The others follow it in the
// image, in the order of `../sys.rs`.
//
// It is entered at its first byte, or as a PC's firmware is: at the reset vector,
// 16 bytes below its end. It prints a menu on COM1 and does what the keys say. It
// needs an 8259, a UART, and for single entries the PIT, the i8042, the real-time
// clock, the ACPI PM1 block, pvpanic, isa-debug-exit and the ib700 watchdog. It
// never needs the 32-bit address space.
//
// To sleep it needs to say where it wants to be woken. It finds the ACPI tables
// as an operating system does: the RSDP on a 16-byte boundary from 0xe0000 on,
// the XSDT, the FADT, the FACS, all of them below 1 MiB.
//
// On a KVM that emulates 16-bit code an instruction costs about a microsecond:
// a loop that is not one of the menu's own is kept to a few instructions.
//
// Labels begin with `.L`, which keeps them out of the symbol table: this text is
// assembled together with the program's code, and a label `shutdown` would be
// what its call of shutdown(2) finds.

.set SIZE,      0x1000
.set LOAD,      0x10000 - SIZE          // offset of the image in segment 0xf000

.set COM1,      {com1}
.set I8042,     {i8042_command}
.set PORT92,    {port92}
.set CF9,       {reset_control}
.set DEBUGEXIT, {debug_exit}
.set PVPANIC,   {pvpanic}
.set IB700,     {ib700}                 // its second pair of ports starts it
.set PM1_STS,   {pm1_base}
.set PM1_EN,    {pm1_base} + 2
.set PM1_CNT,   {pm1_base} + 4
.set SLP_EN,    0x2000
.set RTC,       {rtc}
.set PIC1,      0x20
.set PIC2,      0xa0

// Vectors of the interrupts in use.
.set NMI,       0x02
.set TIMER,     0x08                    // IRQ 0
.set SERIAL,    0x0c                    // IRQ 4
.set SCI,       0x71                    // IRQ 9

// Variables, in the first kilobytes of RAM, segment 0.
.set TICKS,     0x500                   // timer interrupts so far, 16 bits
.set MARK,      0x502                   // 0 at power-on, for the guest writes it
.set SEED,      0x504                   // state of the port hammer, 16 bits
.set STACK,     0x7000

.macro say text
        movw $(\text - .Limage + LOAD), %si
        call .Lprint
.endm

// `reset_vector.s` ends the section.
.pushsection .rodata.embedded_guest, "a"
.balign 16
.code16
.globl embedded_guest_image
.globl embedded_guest_image_end
embedded_guest_image:
.Limage:
.Lstart:
        cli
        cld
        xorw %ax, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        movw $STACK, %sp
        movw %ax, TICKS
        call .Lsetup
        say .Lbanner
        // A reset leaves memory as at power-on, and this tells.
        cmpw $0, MARK
        jne 1f
        movw $0x5aa5, MARK
        say .Lfresh
        jmp 2f
1:      say .Lstale
2:
        say .Lentries

.Lmenu:
        say .Lprompt
        call .Lkey
        movw $(.Ltable - .Limage + LOAD), %bx
1:      movb %cs:(%bx), %ah
        testb %ah, %ah
        jz 2f
        cmpb %al, %ah
        je 3f
        addw $3, %bx
        jmp 1b
2:      say .Ls_unknown
        jmp .Lmenu
3:      jmpw *%cs:1(%bx)

// Makes the UART, the interrupt vectors and both 8259 ready.
.Lsetup:
        // Without a local APIC the 8259 reaches the processor directly.
        movl $0x1b, %ecx                // IA32_APIC_BASE
        rdmsr
        andb $0xf7, %ah                 // bit 11: enabled
        wrmsr

        // UART: 8N1, FIFO on with what it holds, DTR, RTS and OUT2, interrupt on input.
        movw $(COM1 + 3), %dx
        movb $0x03, %al
        outb %al, %dx
        movw $(COM1 + 2), %dx
        movb $0x01, %al
        outb %al, %dx
        movw $(COM1 + 4), %dx
        movb $0x0b, %al
        outb %al, %dx
        movw $(COM1 + 1), %dx
        movb $0x01, %al
        outb %al, %dx

        // Interrupt vectors: offset, segment.
        movw $(.Lnmi - .Limage + LOAD), NMI * 4
        movw %cs, NMI * 4 + 2
        movw $(.Ltimer - .Limage + LOAD), TIMER * 4
        movw %cs, TIMER * 4 + 2
        movw $(.Lserial - .Limage + LOAD), SERIAL * 4
        movw %cs, SERIAL * 4 + 2
        movw $(.Lsci - .Limage + LOAD), SCI * 4
        movw %cs, SCI * 4 + 2

        // Both 8259: edge, cascade on 2, 8086 mode; open are 2, 4 and 9.
        movb $0x11, %al
        outb %al, $PIC1
        outb %al, $PIC2
        movb $0x08, %al
        outb %al, $(PIC1 + 1)
        movb $0x70, %al
        outb %al, $(PIC2 + 1)
        movb $0x04, %al
        outb %al, $(PIC1 + 1)
        movb $0x02, %al
        outb %al, $(PIC2 + 1)
        movb $0x01, %al
        outb %al, $(PIC1 + 1)
        outb %al, $(PIC2 + 1)
        movb $0xeb, %al
        outb %al, $(PIC1 + 1)
        movb $0xfd, %al
        outb %al, $(PIC2 + 1)
        ret
