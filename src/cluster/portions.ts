/** Proposals that wait, cut into what Raft can take at once. */

/** Of proposals that are taken together; a larger one goes alone. */
const PORTION_BYTES = 512 * 2 ** 10;

/** Raft takes what is proposed together whole or not at all: it must not be so much that it never fits. */
export function portions(data: readonly Uint8Array[]): Uint8Array[][] {
  const all: Uint8Array[][] = [];
  let bytes = PORTION_BYTES;
  for (const one of data) {
    if (bytes + one.length > PORTION_BYTES) {
      all.push([]);
      bytes = 0;
    }
    all.at(-1)?.push(one);
    bytes += one.length;
  }
  return all;
}
