// The reset vector, which ends the image.

.org .Limage + SIZE - 16
        .byte 0xea                      // ljmp $0xf000, $start
        .word .Lstart - .Limage + LOAD
        .word 0xf000
.org .Limage + SIZE
embedded_guest_image_end:
.code64
.popsection
