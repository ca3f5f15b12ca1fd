// The entries of the menu. Each ends where the menu goes on, or where the guest does nothing more.

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
