// The embedded guest: a firmware image of one page, in 16-bit code.
//
// The processor starts it at the reset vector, 16 bytes below the end of the
// image. It prints a menu on COM1 and does what the keys say. It needs an 8259,
// a UART, and for single entries the PIT, the i8042, the real-time clock, the ACPI
// PM1 block, pvpanic, isa-debug-exit and the ib700 watchdog. It never needs the 32-bit address space.
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

// ---- the entries ------------------------------------------------------------

.Lhelp:
        say .Lentries
        jmp .Lmenu

.Lreset_i8042:
        say .Ls_i8042
        movb $0xfe, %al
        movw $I8042, %dx
        outb %al, %dx
        jmp .Lstill_here

.Lreset_port92:
        say .Ls_port92
        movw $PORT92, %dx
        inb %dx, %al
        andb $0xfe, %al
        outb %al, %dx
        orb $0x01, %al                  // the rising edge of bit 0 resets
        outb %al, %dx
        jmp .Lstill_here

.Lreset_cf9:
        say .Ls_cf9
        movw $CF9, %dx
        movb $0x02, %al
        outb %al, %dx
        movb $0x06, %al
        outb %al, %dx
        jmp .Lstill_here

// An interrupt without a vector, in protected mode: the third fault is the end.
.Ltriple_fault:
        say .Ls_triple
        cli
        lidtl %cs:(.Lno_vectors - .Limage + LOAD)
        movl %cr0, %eax
        orb $1, %al
        movl %eax, %cr0
        int3
        jmp .Loff

.Lshutdown:
        say .Ls_shutdown
        cli
        movw $PM1_CNT, %dx
        movw $0x2000, %ax               // SLP_EN, type 0: S5
        outw %ax, %dx
        jmp .Loff

// The vector is the last thing to be written before the guest sleeps, and in the
// FACS, which outlives the sleep.
.Lsuspend:
        say .Ls_suspend
        call .Lfacs
        jnz .Lno_facs
        movl $(0xf0000 + .Lwaking - .Limage + LOAD), %es:12
.Lsleep:
        cli
        movw $PM1_CNT, %dx
        movw $(SLP_EN | 1 << 10), %ax   // S3 is type 1
        outw %ax, %dx
        jmp .Loff

.Lsuspend_no_vector:
        say .Ls_nowhere
        call .Lfacs
        jnz .Lno_facs
        movl $0, %es:12
        jmp .Lsleep

.Lno_facs:
        xorw %ax, %ax
        movw %ax, %es
        say .Ls_no_facs
        jmp .Lmenu

// The alarm: in two seconds, whatever hour and minute that is.
.Lsuspend_alarm:
        say .Ls_alarm
        movw $PM1_EN, %dx
        movw $0x0400, %ax               // the alarm may wake the machine
        outw %ax, %dx
        movw $0xff05, %ax               // any hour
        call .Lrtc_write
        movw $0xff03, %ax               // any minute
        call .Lrtc_write
        movw $0x260b, %ax               // alarm interrupt, binary, 24 hours
        call .Lrtc_write
        movb $0x00, %al                 // the second that it is
        call .Lrtc_read
        addb $2, %al
        cmpb $60, %al
        jb 1f
        subb $60, %al
1:      movb %al, %ah
        movb $0x01, %al
        call .Lrtc_write
        movb $0x0c, %al                 // reading the flags clears them
        call .Lrtc_read
        jmp .Lsuspend

.Lsave_to_disk:
        say .Ls_disk
        cli
        movw $PM1_CNT, %dx
        movw $(SLP_EN | 2 << 10), %ax   // S4 is type 2
        outw %ax, %dx
        jmp .Loff

// Where the guest is woken: in real mode, its registers are those of a reset.
.Lwaking:
        ljmpw $0xf000, $(.Lwoken - .Limage + LOAD)
.Lwoken:
        cli
        cld
        xorw %ax, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        movw $STACK, %sp
        call .Lsetup
        cmpw $0x5aa5, MARK
        je 1f
        say .Ls_forgot
1:      say .Ls_awake
        movw $PM1_STS, %dx
        inw %dx, %ax
        pushw %ax
        call .Lhex
        say .Ls_end
        popw %ax
        outw %ax, %dx                   // writing the bits clears them
        jmp .Lmenu

.Lpanic:
        say .Ls_panic
        movb $1, %al
        jmp .Lpvpanic
.Lcrashload:
        say .Ls_crash
        movb $2, %al
        jmp .Lpvpanic
.Lpvshutdown:
        say .Ls_pvshut
        movb $4, %al
.Lpvpanic:
        movw $PVPANIC, %dx
        outb %al, %dx
        jmp .Lstill_here

// Nobody pets it: it expires after 30 - 2 * 14 seconds.
.Lwatchdog:
        say .Ls_dog
        movb $14, %al
        movw $(IB700 + 2), %dx
        outb %al, %dx
        jmp .Lmenu

.Ldebug_exit:
        say .Ls_exit
        call .Lkey
        call .Lput
        subb $'0', %al
        cmpb $9, %al
        ja 1f
        movw $DEBUGEXIT, %dx
        outb %al, %dx                   // the exit code is 2 * digit + 1
        jmp .Lstill_here
1:      say .Ls_digit
        jmp .Lmenu

.Lpower_button:
        movw $PM1_EN, %dx
        movw $0x0100, %ax
        outw %ax, %dx
        say .Ls_button
1:      cli
        movw $PM1_STS, %dx
        inw %dx, %ax
        testw $0x0100, %ax
        jnz 2f
        call .Ltyped
        jnz 3f
        sti
        hlt
        jmp 1b
2:      movw $0x0100, %ax               // writing the bit clears it
        outw %ax, %dx
        sti
        say .Ls_pressed
        jmp 4f
3:      call .Lkey
4:      movw $PM1_EN, %dx
        xorw %ax, %ax
        outw %ax, %dx
        jmp .Lmenu

// A number at each tick of the timer (18.2 a second), until a key comes.
.Lcount:
        say .Ls_count
        movw $0, TICKS
        movb $0x36, %al                 // channel 0, both bytes, square wave
        outb %al, $0x43
        xorb %al, %al
        outb %al, $0x40
        outb %al, $0x40
        movb $0xea, %al                 // the timer's interrupt is open, too
        outb %al, $(PIC1 + 1)
        xorw %cx, %cx
1:      cli
        call .Ltyped
        jnz 3f
        cmpw %cx, TICKS
        jne 2f
        sti
        hlt
        jmp 1b
2:      sti
        incw %cx
        movw %cx, %ax
        call .Lnumber
        movb $'\n', %al
        call .Lputline
        jmp 1b
3:      movb $0xeb, %al
        outb %al, $(PIC1 + 1)
        call .Lkey
        jmp .Lmenu

.Lbusy:
        say .Ls_busy
1:      jmp 1b

.Lhalt:
        say .Ls_halt
        call .Lkey
        say .Ls_woken
        jmp .Lmenu

.Lhalt_for_good:
        say .Ls_deaf
.Loff:
        cli
        hlt
        jmp .Loff

// Random values of one, two and four bytes at ports that the table names, and
// reads at random ports. None of them is meant to end the machine.
.Lhammer:
        say .Ls_hammer
        movw SEED, %ax
        orw $1, %ax
        movw %ax, SEED
        cli
        movw $1000, %cx
1:      movw SEED, %ax                  // xorshift: 7, 9, 8
        movw %ax, %dx
        shlw $7, %dx
        xorw %dx, %ax
        movw %ax, %dx
        shrw $9, %dx
        xorw %dx, %ax
        movw %ax, %dx
        shlw $8, %dx
        xorw %dx, %ax
        movw %ax, SEED
        movw %ax, %dx
        inb %dx, %al
        inw %dx, %ax
        inl %dx, %eax
        movw SEED, %bx
        andw $0x0f, %bx
        addw %bx, %bx
        movw %cs:.Lports - .Limage + LOAD(%bx), %dx
        movw SEED, %ax
        outb %al, %dx
        outw %ax, %dx
        shll $13, %eax
        outl %eax, %dx
        decw %cx
        jnz 1b
        say .Ls_hammered
        movw $0, MARK                   // as the start below will look for it
        jmp .Lstart

.Lstill_here:
        say .Ls_still
        jmp .Lmenu

// ---- input and output -------------------------------------------------------

// Waits for a key; returns it in %al. Halts meanwhile: a key that comes after
// the look ends the halt.
.Lkey:
        cli
        call .Ltyped
        jnz 1f
        sti
        hlt
        jmp .Lkey
1:      movw $COM1, %dx
        inb %dx, %al
        sti
        ret

// Whether a key waits in the UART: not zero.
.Ltyped:
        movw $(COM1 + 5), %dx
        inb %dx, %al
        testb $0x01, %al
        ret

// Prints the string at %cs:%si.
.Lprint:
1:      movb %cs:(%si), %al
        incw %si
        testb %al, %al
        jz 2f
        call .Lputline
        jmp 1b
2:      ret

// Prints %al; a line feed gets its carriage return.
.Lputline:
        cmpb $'\n', %al
        jne .Lput
        movb $'\r', %al
        call .Lput
        movb $'\n', %al
.Lput:
        pushw %dx
        pushw %ax
        movw $(COM1 + 5), %dx
1:      inb %dx, %al
        testb $0x20, %al
        jz 1b
        popw %ax
        movw $COM1, %dx
        outb %al, %dx
        popw %dx
        ret

// Has %es:0 be the FACS. Not zero: there is none.
.Lfacs:
        movw $0xdfff, %ax
1:      incw %ax
        jz 9f
        movw %ax, %es
        cmpl $0x20445352, %es:0         // "RSD "
        jne 1b
        movl %es:24, %eax
        shrl $4, %eax
        movw %ax, %es                   // the XSDT
        movw $36, %bx
2:      cmpw %es:4, %bx
        jae 9f
        movl %es:(%bx), %eax
        shrl $4, %eax
        movw %ax, %fs
        addw $8, %bx
        cmpl $0x50434146, %fs:0         // "FACP": the FADT
        jne 2b
        movl %fs:36, %eax
        shrl $4, %eax
        movw %ax, %es
        xorw %ax, %ax
        ret
9:      orw $1, %ax
        ret

// Reads the clock's register %al, and writes %ah to it.
.Lrtc_read:
        outb %al, $RTC
        inb $(RTC + 1), %al
        ret
.Lrtc_write:
        outb %al, $RTC
        movb %ah, %al
        outb %al, $(RTC + 1)
        ret

// Prints %ax in four hexadecimal digits.
.Lhex:
        movw $4, %cx
1:      rolw $4, %ax
        pushw %ax
        andb $0x0f, %al
        addb $'0', %al
        cmpb $'9', %al
        jbe 2f
        addb $39, %al                   // from there to 'a'
2:      call .Lput
        popw %ax
        decw %cx
        jnz 1b
        ret

// Prints %ax as a decimal number.
.Lnumber:
        movw $10, %bx
        xorw %dx, %dx
        divw %bx
        pushw %dx
        testw %ax, %ax
        jz 1f
        call .Lnumber
1:      popw %ax
        addb $'0', %al
        jmp .Lput

// ---- interrupts -------------------------------------------------------------

.Ltimer:
        incw TICKS
        pushw %ax
        jmp .Leoi

.Lnmi:
        pushaw
        say .Ls_nmi
        popaw
        iretw

// Whoever waits for a key looks into the UART itself.
.Lserial:
        pushw %ax
.Leoi:    movb $0x20, %al
        outb %al, $PIC1
        popw %ax
        iretw

// Whoever waits for the power button looks at PM1_STS itself.
.Lsci:
        pushw %ax
        movb $0x20, %al
        outb %al, $PIC2
        jmp .Leoi

// ---- data -------------------------------------------------------------------

.macro entry letter, target
        .byte \letter
        .word \target - .Limage + LOAD
.endm

.Ltable:
        entry '?', .Lhelp
        entry 'r', .Lreset_i8042
        entry '9', .Lreset_port92
        entry 'c', .Lreset_cf9
        entry 't', .Ltriple_fault
        entry 's', .Lshutdown
        entry 'u', .Lsuspend
        entry 'a', .Lsuspend_alarm
        entry 'v', .Lsuspend_no_vector
        entry '4', .Lsave_to_disk
        entry 'p', .Lpanic
        entry 'l', .Lcrashload
        entry 'o', .Lpvshutdown
        entry 'g', .Lwatchdog
        entry 'e', .Ldebug_exit
        entry 'w', .Lpower_button
        entry 'n', .Lcount
        entry 'b', .Lbusy
        entry 'h', .Lhalt
        entry 'd', .Lhalt_for_good
        entry 'x', .Lhammer
        .byte 0

// The UART's scratch, the CMOS index and data, debug console, command-less
// i8042 data, chip-select holes: where any value may be written.
.Lports:  .word COM1 + 7, 0x70, 0x71, 0x402, 0x60, 0x80, 0xed, 0x170
        .word 0x1f0, 0x278, 0x3e8, 0x2f8, 0xc000, 0x500, 0x4d0, 0xfff0

.Lno_vectors:
        .word 0
        .long 0

.Lbanner: .asciz "\nvmm-bin: the embedded guest\n"
.Lfresh:  .asciz "Memory is as at power-on.\n"
.Lstale:  .asciz "Memory was not cleared.\n"
.Lentries:
        .ascii "\nA key makes the guest\n"
        .ascii "  r  reset through the keyboard controller (port 0x64)\n"
        .ascii "  9  reset through port 0x92\n"
        .ascii "  c  reset through port 0xcf9\n"
        .ascii "  t  reset by a triple fault\n"
        .ascii "  s  shut down (ACPI S5)\n"
        .ascii "  u  suspend (ACPI S3)\n"
        .ascii "  a  suspend, with an alarm in 2 seconds\n"
        .ascii "  v  suspend, without a waking vector\n"
        .ascii "  4  suspend to disk (ACPI S4)\n"
        .ascii "  p  panic (pvpanic)\n"
        .ascii "  l  load its crash kernel (pvpanic)\n"
        .ascii "  o  ask to be shut down (pvpanic)\n"
        .ascii "  g  start a watchdog and forget it (ib700, 2 seconds)\n"
        .ascii "  e  exit with a code (isa-debug-exit)\n"
        .ascii "  w  wait for the power button\n"
        .ascii "  n  count until a key is pressed\n"
        .ascii "  b  spin for ever\n"
        .ascii "  h  halt until a key is pressed\n"
        .ascii "  d  halt for ever, interrupts off\n"
        .ascii "  x  hammer the I/O ports\n"
        .asciz "  ?  show these keys again\n"
.Lprompt: .asciz "\nguest> "
.Ls_unknown: .asciz "no such key; ? shows those that are\n"
.Ls_i8042: .asciz "reset: keyboard controller\n"
.Ls_port92: .asciz "reset: port 0x92\n"
.Ls_cf9:  .asciz "reset: port 0xcf9\n"
.Ls_triple: .asciz "triple fault\n"
.Ls_shutdown: .asciz "shutdown: S5\n"
.Ls_suspend: .asciz "suspend: S3\n"
.Ls_alarm: .asciz "alarm in 2 seconds\n"
.Ls_nowhere: .asciz "suspend: S3, no waking vector\n"
.Ls_no_facs: .asciz "There is no FACS.\n"
.Ls_disk: .asciz "suspend to disk: S4\n"
.Ls_forgot: .asciz "Memory was lost.\n"
.Ls_awake: .asciz "\nThe guest is awake, PM1 status 0x"
.Ls_end:  .asciz ".\n"
.Ls_panic: .asciz "panic\n"
.Ls_crash: .asciz "crash kernel loaded\n"
.Ls_pvshut: .asciz "shutdown: pvpanic\n"
.Ls_dog:  .asciz "watchdog: 2 seconds\n"
.Ls_nmi:  .asciz "\nA non-maskable interrupt.\n"
.Ls_exit: .asciz "exit; a digit n gives the code 2n+1: "
.Ls_digit: .asciz "\nThat is no digit.\n"
.Ls_button: .asciz "waiting for the power button (a key gives up)\n"
.Ls_pressed: .asciz "The power button was pressed.\n"
.Ls_count: .asciz "counting\n"
.Ls_busy: .asciz "spinning\n"
.Ls_halt: .asciz "halted\n"
.Ls_woken: .asciz "A key woke the guest.\n"
.Ls_deaf: .asciz "halted, interrupts off\n"
.Ls_hammer: .asciz "hammering\n"
.Ls_hammered: .asciz "hammered\n"
.Ls_still: .asciz "\nThe guest goes on.\n"

// The reset vector.
.org .Limage + SIZE - 16
        .byte 0xea                      // ljmp $0xf000, $start
        .word .Lstart - .Limage + LOAD
        .word 0xf000
.org .Limage + SIZE
embedded_guest_image_end:
.code64
.popsection
