import type { FileHandle } from "node:fs/promises";
import { open } from "node:fs/promises";
import { crc32 } from "node:zlib";

/** How much later than its write a record may be noted here. */
const DELAY_MS = 50;
const BYTES = 12;

/**
 * A small file beside the log that names the last record that was acknowledged. LevelDB takes a damaged end of its journal for
 * a write that a crash cut short, and drops it without a word; this tells the two apart. It is not synced: after a power cut it
 * may be older than the log, never newer, so it cannot raise a false alarm. A torn one counts as none.
 */
export class Acknowledged {
  /** The record that the file named when it was opened; 0: none. */
  readonly atOpen: number;
  private readonly file: FileHandle;
  private noted: number;
  private written: number;
  private timer: NodeJS.Timeout | null = null;
  private writing: Promise<void> | null = null;

  static async open(path: string): Promise<Acknowledged> {
    const file = await open(path, "a+", 0o600).then(async (created) => {
      await created.close();
      return open(path, "r+");
    });
    const bytes = new Uint8Array(BYTES);
    const { bytesRead } = await file.read(bytes, 0, BYTES, 0);
    const view = new DataView(bytes.buffer);
    const whole = bytesRead === BYTES && view.getUint32(0) === crc32(bytes.subarray(4));
    return new Acknowledged(file, whole ? Number(view.getBigUint64(4)) : 0);
  }

  private constructor(file: FileHandle, atOpen: number) {
    this.file = file;
    this.atOpen = atOpen;
    this.noted = atOpen;
    this.written = atOpen;
  }

  /** Records up to `seq` are durable and will be acknowledged. */
  note(seq: number): void {
    this.noted = Math.max(this.noted, seq);
    if (this.timer !== null || this.noted === this.written) return;
    this.timer = setTimeout(() => {
      this.timer = null;
      this.writing = this.write();
    }, DELAY_MS);
    this.timer.unref();
  }

  async close(): Promise<void> {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    await this.writing;
    if (this.noted !== this.written) await this.write();
    await this.file.close();
  }

  private async write(): Promise<void> {
    const seq = this.noted;
    const bytes = new Uint8Array(BYTES);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(4, BigInt(seq));
    view.setUint32(0, crc32(bytes.subarray(4)));
    try {
      await this.file.write(bytes, 0, BYTES, 0);
      this.written = seq;
    } catch {
      // A disk that refuses this refuses the log too, and there it is an error; alone it only weakens the check.
    }
  }
}
