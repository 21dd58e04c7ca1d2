/** The boot-sector guest as disk images; its source and what it prints: boot-sector.S beside this file. */
import { writeFile } from "node:fs/promises";

/** boot-sector.S assembled, without its name field and boot signature (and the zeros before them). */
const CODE_HEX = [
  "ea057c0000fa31c08ed88ec08ed0bc007cfcfb8816367db402e88100721366813e008052475354750866a1048066a3327dbee57ce87a00bede7de874",
  "00beff7ce86e0066a1327de87100e86100b90400f4a16c043b06307d74f6a3307de2f166ff06327dbe067de8470066a1327d66a3048066c706008052",
  "475354e83d00be1a7de82d0066a16c04e83000b403e80d007306be217de81900e81300ebb0b001b9020030f68a16367dbb0080cd13c3be2d7dac84c0",
  "741fe81d00ebf6b9080066c1c0046650240f3c0a720204270430e805006658e2e9c350bafd03eca82074fb58baf803eec30d0a524f4f53542d475545",
  "5354207265616479206e616d653d00206469736b3d00524f4f53542d4755455354206d61726b206e3d00207469636b3d00206469736b2d6572726f72",
  "000d0a",
].join("");

const SECTOR_BYTES = 512;
const NAME_OFFSET = 478;
const NAME_MAX_BYTES = 31;
const SIGNATURE_OFFSET = 510;
/** The firmware addresses by cylinder: a disk of less than one cylinder (516,096 bytes) does not boot. */
export const BOOT_SECTOR_DISK_BYTES = 1024 * 1024;

/** The 512 bytes of the guest that calls itself `name` (printable ASCII, at most 31 characters). */
export function bootSector(name: string): Uint8Array {
  if (!/^[\x21-\x7e]{1,31}$/.test(name))
    throw new Error(`a boot-sector guest's name is 1 to ${NAME_MAX_BYTES} printable ASCII characters, not ${JSON.stringify(name)}`);
  const sector = Buffer.alloc(SECTOR_BYTES);
  sector.write(CODE_HEX, 0, "hex");
  sector.write(name, NAME_OFFSET, "latin1");
  sector.writeUInt16LE(0xaa55, SIGNATURE_OFFSET);
  return sector;
}

/** Writes a raw disk image of 1 MiB that boots into the guest. */
export async function writeBootSectorDisk(path: string, name: string): Promise<void> {
  const image = Buffer.alloc(BOOT_SECTOR_DISK_BYTES);
  image.set(bootSector(name));
  await writeFile(path, image);
}

/** The counter that the guest left in a disk image's bytes (at least two sectors), or null if it never wrote one. */
export function diskCounter(image: Uint8Array): number | null {
  const view = Buffer.from(image.buffer, image.byteOffset, image.byteLength);
  if (view.length < SECTOR_BYTES + 8 || view.toString("latin1", SECTOR_BYTES, SECTOR_BYTES + 4) !== "RGST") return null;
  return view.readUInt32LE(SECTOR_BYTES + 4);
}
