# The smallest guest there is: one boot sector that runs on the firmware alone. It boots in a few hundredths of a second
# and needs 2 MiB, so tests can start many.
#
#   as --32 -o b.o boot-sector.S && ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o b.bin b.o
#
# and the result goes, as hex, into boot-sector.ts (test/lab/guest.test.ts assembles it again and compares, where `as` is
# installed). It says on COM1
#   ROOST-GUEST ready name=NAME disk=HHHHHHHH        the counter found on the disk
#   ROOST-GUEST mark n=HHHHHHHH tick=HHHHHHHH        about every 220 ms; tick: 1/18.2 s since midnight by the RTC
# and writes the counter n behind the magic "RGST" into the disk's second sector each time. A failed write ends the
# mark's line with " disk-error".
    .code16
    .globl _start
_start:
    ljmp $0, $main
main:
    cli
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7c00, %sp
    cld
    sti
    mov %dl, drive
    mov $0x02, %ah              # what the run before left behind
    call sector
    jc first_run
    cmpl $0x54534752, 0x8000    # "RGST"
    jne first_run
    mov 0x8004, %eax
    mov %eax, count
first_run:
    mov $ready, %si
    call puts
    mov $name, %si
    call puts
    mov $disk, %si
    call puts
    mov count, %eax
    call hex
    call newline
again:
    mov $4, %cx                 # 4 ticks of 54.9 ms
wait_tick:
    hlt
    mov 0x46c, %ax
    cmp last, %ax
    je wait_tick
    mov %ax, last
    loop wait_tick
    incl count
    mov $mark, %si
    call puts
    mov count, %eax
    mov %eax, 0x8004
    movl $0x54534752, 0x8000
    call hex
    mov $tick, %si
    call puts
    mov 0x46c, %eax
    call hex
    mov $0x03, %ah
    call sector
    jnc written
    mov $fail, %si
    call puts
written:
    call newline
    jmp again

# ah: 2 reads, 3 writes the second sector from/to 0x8000; carry on failure
sector:
    mov $1, %al
    mov $0x0002, %cx
    xor %dh, %dh
    mov drive, %dl
    mov $0x8000, %bx
    int $0x13
    ret

newline:
    mov $crlf, %si
puts:
    lodsb
    test %al, %al
    jz done
    call putc
    jmp puts
hex:                            # eax as 8 digits
    mov $8, %cx
digit:
    rol $4, %eax
    push %eax
    and $0x0f, %al
    cmp $10, %al
    jb decimal
    add $39, %al
decimal:
    add $48, %al
    call putc
    pop %eax
    loop digit
done:
    ret
putc:
    push %ax
    mov $0x3fd, %dx
busy:
    in %dx, %al
    test $0x20, %al
    jz busy
    pop %ax
    mov $0x3f8, %dx
    out %al, %dx
    ret

ready: .asciz "\r\nROOST-GUEST ready name="
disk:  .asciz " disk="
mark:  .asciz "ROOST-GUEST mark n="
tick:  .asciz " tick="
fail:  .asciz " disk-error"
crlf:  .asciz "\r\n"
last:  .word 0
count: .long 0
drive: .byte 0
    .org 478
name:  .asciz "-"               # 31 bytes and a zero, patched for each image
    .org 510
    .word 0xaa55
