// Interrupt handlers.

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
.Leoi:  movb $0x20, %al
        outb %al, $PIC1
        popw %ax
        iretw

// Whoever waits for the power button looks at PM1_STS itself.
.Lsci:
        pushw %ax
        movb $0x20, %al
        outb %al, $PIC2
        jmp .Leoi
