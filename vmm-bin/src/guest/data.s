// The keys of the menu, and what the guest says.

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
