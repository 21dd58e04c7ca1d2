/**
 * What a disk image file is, read from its header by ourselves. `qemu-img info` is not asked: probing lets a file choose
 * its format, and a qcow2 header can name a backing or data file anywhere on the node, which a copy would then read out (SEC-4).
 * Source of the layout: QEMU docs/interop/qcow2.txt.
 */
import type { FileHandle } from "node:fs/promises";
import type { VolumeFormat } from "./pool.ts";

export type ImageHeader =
  | { format: VolumeFormat; sizeBytes: number; trouble: string | null }
  /** A format that is no volume format of roost, `vmdk`. */
  | { format: "foreign"; name: string };

const HEADER_BYTES = 104;
const INCOMPATIBLE_CORRUPT = 1n << 1n;
const INCOMPATIBLE_DATA_FILE = 1n << 2n;

const FOREIGN: [magic: string, name: string][] = [
  ["KDMV", "vmdk"],
  ["# Disk DescriptorFile", "vmdk"],
  ["vhdxfile", "vhdx"],
  ["conectix", "vhd"],
  ["QED\0", "qed"],
  ["<<< ", "vdi"],
];

/** `trouble` says why a qcow2 file must not be used, for people; null if it may. Anything without a known magic is raw. */
export async function readImageHeader(file: FileHandle, fileBytes: number): Promise<ImageHeader> {
  const bytes = Buffer.alloc(HEADER_BYTES);
  const { bytesRead } = await file.read(bytes, 0, HEADER_BYTES, 0);
  const text = bytes.toString("latin1", 0, bytesRead);
  if (text.startsWith("QFI\xfb")) return readQcow2(bytes, bytesRead);
  const foreign = FOREIGN.find(([magic]) => text.startsWith(magic));
  if (foreign !== undefined) return { format: "foreign", name: foreign[1] };
  return rawHeader(fileBytes);
}

/** The file is the disk. */
export function rawHeader(fileBytes: number): ImageHeader {
  return { format: "raw", sizeBytes: fileBytes, trouble: null };
}

function readQcow2(bytes: Buffer, bytesRead: number): ImageHeader {
  if (bytesRead < 72) return { format: "qcow2", sizeBytes: 0, trouble: "its header is cut short" };
  const version = bytes.readUInt32BE(4);
  const features = version >= 3 && bytesRead >= 80 ? bytes.readBigUInt64BE(72) : 0n;
  let trouble: string | null = null;
  if (version !== 2 && version !== 3) trouble = `its qcow2 version ${version} is unknown`;
  else if (bytes.readBigUInt64BE(8) !== 0n) trouble = "it has a backing file";
  else if (bytes.readUInt32BE(32) !== 0) trouble = "it is encrypted";
  else if ((features & INCOMPATIBLE_DATA_FILE) !== 0n) trouble = "its data is in another file";
  else if ((features & INCOMPATIBLE_CORRUPT) !== 0n) trouble = "it is marked as corrupt";
  return { format: "qcow2", sizeBytes: Number(bytes.readBigUInt64BE(24)), trouble };
}
