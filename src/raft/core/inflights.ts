import { assert } from "../../base/assert.ts";

/**
 * The append messages on their way to one peer, oldest first, limited by count and by payload bytes. A ring that grows up to
 * the limit, because most peers never fill it and limits may be large.
 */
export class Inflights {
  private readonly maxCount: number;
  private readonly maxBytes: number;
  private start = 0;
  private used = 0;
  private bytes = 0;
  private indexes: number[] = [];
  private sizes: number[] = [];

  constructor(maxCount: number, maxBytes: number) {
    this.maxCount = maxCount;
    this.maxBytes = maxBytes;
  }

  get count(): number {
    return this.used;
  }

  /** The byte limit may be passed by the last message: it is looked at before adding, not after. */
  get full(): boolean {
    return this.used === this.maxCount || (this.maxBytes !== 0 && this.bytes >= this.maxBytes);
  }

  /** Records a message whose last entry is at `index`; indexes must not fall. */
  add(index: number, bytes: number): void {
    assert(!this.full, "too many messages in flight");
    if (this.used === this.indexes.length) this.grow();
    const at = (this.start + this.used) % this.indexes.length;
    this.indexes[at] = index;
    this.sizes[at] = bytes;
    this.used++;
    this.bytes += bytes;
  }

  /** Forgets all messages whose last entry is at or before `index`. */
  freeUpTo(index: number): void {
    while (this.used > 0 && this.indexes[this.start]! <= index) {
      this.bytes -= this.sizes[this.start]!;
      this.start = (this.start + 1) % this.indexes.length;
      this.used--;
    }
    if (this.used === 0) this.start = 0;
  }

  reset(): void {
    this.start = 0;
    this.used = 0;
    this.bytes = 0;
  }

  private grow(): void {
    const capacity = Math.min(Math.max(this.indexes.length * 2, 4), this.maxCount);
    const indexes: number[] = [];
    const sizes: number[] = [];
    for (let i = 0; i < this.used; i++) {
      const at = (this.start + i) % this.indexes.length;
      indexes.push(this.indexes[at]!);
      sizes.push(this.sizes[at]!);
    }
    while (indexes.length < capacity) {
      indexes.push(0);
      sizes.push(0);
    }
    this.indexes = indexes;
    this.sizes = sizes;
    this.start = 0;
  }
}
