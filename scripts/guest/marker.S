# The guest of drills: it leaves marks by which overlapping runs of one VM are found without trusting any clock. Each run
# (one start of the guest) takes an area of its own on the marker disk, the second IDE disk, which all runs of the VM share:
#
#   sectors   8 to 127  heads, one a run: "RMRK", nonce, n (little endian, 32 bits each)     rewritten with each mark
#   sectors 128 to 247  births, one a run: "RBRN", nonce, then n of all 120 heads as this run found them when it started
#
# A run that was over when another began has the n that the other found at its birth; a higher one is a mark left while
# both ran. n rises by one about every 100 ms, begins at 1, and is on the disk before COM1 says so:
#   RUN begin name=NAME area=HH nonce=HHHHHHHH        its birth is on the disk
#   RUN mark area=HH nonce=HHHHHHHH n=HHHHHHHH tick=HHHHHHHH     tick: rises 20 times a second
#   RUN collision area=HH nonce=HHHHHHHH              another run's nonce in its own head: two took one area at a time
# " disk-error" at the end of a line: the marker disk could not be read or written. "RUN full": no area is left.
#
#   as --32 -o b.o marker.S && ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o b.bin b.o
#
# and the result goes, as hex, into marker.ts (test/lab/guest.test.ts assembles it again and compares).
    .code16
    .globl _start
    .set AREAS, 120
    .set HEADS, 8
    .set BIRTHS, 128
    .set TABLE, 0x1000          # segment: all heads as they were at the start
    .set BUFFER, 0x9000         # the sector that is read or written
    .set SAVED, 0x9200          # this run's head
_start:
    ljmp $0, $load
load:                           # the rest lies in the two sectors behind this one
    cli
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7c00, %sp
    cld
    mov $0x0202, %ax
    mov $0x0002, %cx
    xor %dh, %dh
    mov $0x7e00, %bx
    int $0x13
    jnc main
    hlt
    .org 478
name: .asciz "-"                # 31 bytes and a zero, patched for each image
    .org 510
    .word 0xaa55
main:
    mov $0x36, %al              # timer at 20 Hz: 1193182 / 59659
    out %al, $0x43
    mov $59659 & 255, %al
    out %al, $0x40
    mov $59659 >> 8, %al
    out %al, $0x40
    sti
    rdtsc                       # counted since the emulator started, in fractions of ns: the low bits are nobody's plan
    mov %eax, nonce
choose:
    movl $HEADS, lba            # all heads in one go
    movw $AREAS, sectors
    movw $0, address
    movw $TABLE, segment
    mov $0x42, %ah
    call disk
    jnc heads_read
    mov $begin, %si
    call puts
    mov $fail, %si
    call puts
    call newline
    hlt
    jmp choose
heads_read:
    mov $SAVED, %di             # birth: magic, nonce, n of each
    movl $0x4e524252, (%di)     # "RBRN"
    mov nonce, %eax
    mov %eax, 4(%di)
    add $8, %di
    mov $TABLE, %ax
    mov %ax, %fs
    xor %si, %si
    mov $0xff, %bl              # first free area
    xor %cx, %cx
each_head:
    xor %eax, %eax
    cmpl $0x4b524d52, %fs:(%si) # "RMRK"
    jne is_free
    mov %fs:8(%si), %eax
    jmp noted
is_free:
    cmp $0xff, %bl
    jne noted
    mov %cl, %bl
noted:
    stosl
    add $512, %si
    inc %cx
    cmp $AREAS, %cx
    jb each_head
    cmp $0xff, %bl
    jne has_area
    mov $full, %si
    call puts
    call newline
stop:
    hlt
    jmp stop
has_area:
    movzx %bl, %eax
    mov %eax, area
    mov $SAVED, %si
    mov $BUFFER, %di
    mov $128, %cx
    rep movsl
    mov area, %eax
    add $BIRTHS, %eax
    call write                  # the birth, before its head
    movl $0, count
    call write_head             # n = 0 takes the area
    mov $begin, %si
    call puts
    mov $name_is, %si
    call puts
    mov $name, %si
    call puts
    call who
    call told
again:
    mov $2, %cx                 # 2 ticks of 50 ms
wait_tick:
    hlt
    mov 0x46c, %ax
    cmp last, %ax
    je wait_tick
    mov %ax, last
    loop wait_tick
    mov area, %eax              # is the area still its own?
    add $HEADS, %eax
    mov %eax, lba
    call one
    mov $0x42, %ah
    call disk
    jc cannot_tell
    mov BUFFER+4, %eax
    cmp nonce, %eax
    je own
    push %eax
    mov $collision, %si
    call puts
    pop %eax
    pushw nonce
    pushw nonce+2
    mov %eax, nonce
    call who
    popw nonce+2
    popw nonce
    call newline
    jmp choose
cannot_tell:
    movb $1, failed
own:
    incl count
    call write_head
    mov $mark, %si
    call puts
    call who
    mov $n_is, %si
    call puts
    mov count, %eax
    call hex
    mov $tick_is, %si
    call puts
    mov 0x46c, %eax
    call hex
    call told
    jmp again

write_head:
    mov $BUFFER, %di
    xor %eax, %eax
    mov $128, %cx
    rep stosl
    movl $0x4b524d52, BUFFER
    mov nonce, %eax
    mov %eax, BUFFER+4
    mov count, %eax
    mov %eax, BUFFER+8
    mov area, %eax
    add $HEADS, %eax
write:                          # BUFFER to sector eax
    mov %eax, lba
    call one
    mov $0x4300, %ax
    call disk
    jnc written
    movb $1, failed
written:
    ret
one:
    movw $1, sectors
    movw $BUFFER, address
    movw $0, segment
    ret
disk:                           # ah: 42h reads, 43h writes by the packet; carry on failure
    mov $0x81, %dl
    mov $packet, %si
    int $0x13
    ret

told:                           # the end of a line
    cmpb $0, failed
    je newline
    movb $0, failed
    mov $fail, %si
    call puts
newline:
    mov $crlf, %si
puts:
    lodsb
    test %al, %al
    jz done
    call putc
    jmp puts
who:
    mov $area_is, %si
    call puts
    mov area, %al
    shl $24, %eax
    mov $2, %cx
    call digit
    mov $nonce_is, %si
    call puts
    mov nonce, %eax
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

begin:     .asciz "\r\nRUN begin"
name_is:   .asciz " name="
area_is:   .asciz " area="
nonce_is:  .asciz " nonce="
mark:      .asciz "RUN mark"
n_is:      .asciz " n="
tick_is:   .asciz " tick="
collision: .asciz "RUN collision"
full:      .asciz "RUN full"
fail:      .asciz " disk-error"
crlf:      .asciz "\r\n"
packet:    .byte 16, 0
sectors:   .word 1
address:   .word 0
segment:   .word 0
lba:       .long 0, 0
last:      .word 0
count:     .long 0
area:      .long 0
nonce:     .long 0
failed:    .byte 0
    .org 1536
