// What the menu and its entries call: input and output, the ACPI tables, the clock.

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
