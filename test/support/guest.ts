/**
 * A guest of 512 bytes for tests: prints `guest up` on the first serial port, then each second writes a rising counter to
 * sector 1 of its disk and prints `.` (`!` if the write failed), and when the ACPI power button is pressed prints
 * `guest off` and powers off. Boots in a fraction of a second under emulation, on a virtio or IDE disk.
 *
 * Assembled from (16-bit, at 0x7c00; AT&T syntax):
 *
 *   _start: cli; xor %ax,%ax; mov %ax,%ds; mov %ax,%es; mov %ax,%ss; mov $0x7c00,%sp; sti; mov %dl,drive
 *           mov $0x602,%dx; mov $0x0100,%ax; out %ax,%dx           # PM1 enable: power button
 *           mov $hello,%si; call print
 *   second: mov $18,%bp                                            # the timer ticks 18.2 times a second
 *   tick:   hlt
 *           mov $0x600,%dx; in %dx,%ax; test $0x01,%ah; jnz off    # PM1 status: power button pressed
 *           mov 0x46c,%ax; cmp last,%ax; je tick; mov %ax,last; dec %bp; jnz tick
 *           incl count; mov count,%eax; mov %eax,0x8000
 *           mov $0x0301,%ax; mov $0x8000,%bx; mov $0x0002,%cx; xor %dh,%dh; mov drive,%dl; int $0x13
 *           mov $'.',%al; jnc shown; mov $'!',%al
 *   shown:  call put; jmp second
 *   off:    mov $bye,%si; call print; mov $0x604,%dx; mov $0x2000,%ax; out %ax,%dx   # PM1 control: soft off
 *   stop:   cli; hlt; jmp stop
 *   print:  lodsb; test %al,%al; jz end; call put; jmp print
 *   put:    mov %al,%ah; mov $0x3fd,%dx
 *   busy:   in %dx,%al; test $0x20,%al; jz busy; mov %ah,%al; mov $0x3f8,%dx; out %al,%dx
 *   end:    ret
 *   hello: "guest up\n"   bye: "\nguest off\n"   drive: .byte   last: .word   count: .long
 */
const CODE =
  "+jHAjtiOwI7QvAB8+4gWpXy6Aga4AAHvvo986FYAvRIA9LoABu32xAF1OKFsBDsGpnx07aOmfE1152b/Bqh8ZqGofGajAIC4AQO7AIC5AgAw9ooWpXzNE7AucwKwIegd" +
  "AOu7vpl86AsAugQGuAAg7/r06/yshMB0FegCAOv2iMS6/QPsqCB0+4jguvgD7sNndWVzdCB1cAoACmd1ZXN0IG9mZgoA";

export const GUEST_UP = "guest up";

/** A raw disk image of 1 MiB that boots the guest (smaller ones have a geometry that the firmware refuses on virtio). */
export function guestDisk(): Uint8Array {
  const disk = new Uint8Array(1024 * 1024);
  disk.set(Buffer.from(CODE, "base64"));
  disk.set([0x55, 0xaa], 510);
  return disk;
}
