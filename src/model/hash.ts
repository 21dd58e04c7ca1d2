/**
 * A small stable hash for ties and signatures: the same text gives the same number on every machine and release, so a
 * plan can be made again years later. Not for secrets.
 */

/** Unsigned 32 bits: FNV-1a over UTF-16 units, finished with murmur3's avalanche so that near texts end far apart. */
export function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    hash = Math.imul(hash ^ (unit & 0xff), 0x01000193);
    hash = Math.imul(hash ^ (unit >>> 8), 0x01000193);
  }
  hash ^= hash >>> 16;
  hash = Math.imul(hash, 0x85ebca6b);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0xc2b2ae35);
  hash ^= hash >>> 16;
  return hash >>> 0;
}
