/** The guest of drills as disk images; its source, what it prints and what it writes: marker.S beside this file. */

/** marker.S assembled, in base64: its first sector without name and boot signature, and the two behind it; ending zeros left out. */
const LOADER = "6gV8AAD6McCO2I7AjtC8AHz8uAICuQIAMPa7AH7NEw+D3QH0";
const PROGRAM = [
  "sDbmQ7AL5kCw6eZA+w8xZqOtgGbHBpuACAAAAMcGlYB4AMcGl4AAAMcGmYAAELRC6JYBcxK+N4DoqwG+hIDopQHonwH068y/AJJmxwVSQlJOZqGtgGaJRQSD",
  "xwi4ABCO4DH2s/8xyWYxwGRmgTxSTVJLdQdkZotECOsHgPv/dQKIy2argcYAAkGD+Xhy2YD7/3UMvnuA6E0B6EcB9Ov9Zg+2w2ajqYC+AJK/AJC5gABm86Vm",
  "oamAZgWAAAAA6OEAZscGpYAAAAAA6KgAvjeA6BQBvkOA6A4Bvt596AgB6A8B6O0AuQIA9KFsBDsGo4B09qOjgOLxZqGpgGaDwAhmo5uA6LEAtELovwByMmah",
  "BJBmOwatgHQsZlC+bYDoxwBmWP82rYD/Nq+AZqOtgOjAAI8Gr4CPBq2A6KgA6dX+xgaxgAFm/walgOgpAL5ZgOiVAOicAL5igOiMAGahpYDorAC+ZoDofwBm",
  "oWwE6J8A6GAA6XD/vwCQZjHAuYAAZvOrZscGAJBSTVJLZqGtgGajBJBmoaWAZqMIkGahqYBmg8AIZqObgOgOALgAQ+gbAHMFxgaxgAHDxwaVgAEAxwaXgACQ",
  "xwaZgAAAw7KBvpOAzRPDgD6xgAB0C8YGsYAAvoSA6AMAvpCArITAdDzoOgDr9r5KgOjw/6CpgGbB4Bi5AgDoDQC+UYDo3f9moa2AuQgAZsHABGZQJA88CnIC",
  "BCcEMOgFAGZY4unDULr9A+yoIHT7WLr4A+7DDQpSVU4gYmVnaW4AIG5hbWU9ACBhcmVhPQAgbm9uY2U9AFJVTiBtYXJrACBuPQAgdGljaz0AUlVOIGNvbGxp",
  "c2lvbgBSVU4gZnVsbAAgZGlzay1lcnJvcgANCgAQAAE=",
].join("");

const SECTOR_BYTES = 512;
const NAME_OFFSET = 478;
const NAME_MAX_BYTES = 31;
/** Less than one cylinder (516,096 bytes) does not boot. */
const DISK_BYTES = 1024 * 1024;
/** Of the source: the loader and the program. */
const GUEST_BYTES = 3 * SECTOR_BYTES;

/** A raw disk that boots the guest that calls itself `name` (printable ASCII, at most 31 characters). */
export function markerGuestDisk(name: string): Uint8Array {
  if (!/^[\x21-\x7e]{1,31}$/.test(name))
    throw new Error(`a guest's name is 1 to ${NAME_MAX_BYTES} printable ASCII characters, not ${JSON.stringify(name)}`);
  const disk = Buffer.alloc(DISK_BYTES);
  disk.write(LOADER, 0, "base64");
  disk.write(name, NAME_OFFSET, "latin1");
  disk.writeUInt16LE(0xaa55, SECTOR_BYTES - 2);
  disk.write(PROGRAM, SECTOR_BYTES, GUEST_BYTES - SECTOR_BYTES, "base64");
  return disk;
}

/** A marker disk that no run has used yet. */
export function emptyMarkerDisk(): Uint8Array {
  return new Uint8Array(DISK_BYTES);
}
