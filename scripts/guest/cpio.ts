/** Writes a "newc" cpio archive, the format of the kernel's initramfs (kernel documentation, "initramfs buffer format"). */
export interface CpioEntry {
  path: string;
  kind: "file" | "folder" | "link" | "device";
  /** Permission bits; default 0755. */
  mode?: number;
  /** A file's bytes, or a link's target. */
  content?: Uint8Array | string;
  /** Character device numbers. */
  device?: { major: number; minor: number };
}

const KIND_BITS = { file: 0o100000, folder: 0o040000, link: 0o120000, device: 0o020000 };

export function cpioArchive(entries: readonly CpioEntry[]): Uint8Array {
  const parts: Buffer[] = [];
  entries.forEach((entry, index) => parts.push(...record(entry, index + 1)));
  parts.push(...record({ path: "TRAILER!!!", kind: "file", mode: 0 }, 0, 0));
  return Buffer.concat(parts);
}

function record(entry: CpioEntry, inode: number, kindBits: number = KIND_BITS[entry.kind]): Buffer[] {
  const name = Buffer.from(`${entry.path}\0`, "utf8");
  const data = typeof entry.content === "string" ? Buffer.from(entry.content, "utf8") : Buffer.from(entry.content ?? []);
  // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check.
  // No time stamp: the same input makes the same bytes.
  const fields = [
    inode,
    kindBits | (entry.mode ?? 0o755),
    0,
    0,
    1,
    0,
    data.length,
    0,
    0,
    entry.device?.major ?? 0,
    entry.device?.minor ?? 0,
    name.length,
    0,
  ];
  const header = Buffer.from(`070701${fields.map((value) => value.toString(16).padStart(8, "0")).join("")}`, "ascii");
  return [padded(Buffer.concat([header, name])), padded(data)];
}

/** Names and data start at multiples of four. */
function padded(bytes: Buffer): Buffer {
  const over = bytes.length % 4;
  return over === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(4 - over)]);
}
