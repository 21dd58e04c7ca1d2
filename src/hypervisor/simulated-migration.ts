/** Both halves of a simulated live migration. Its stream carries one KiB for each MiB of the guest, so that whoever carries it can be seen to. */
import { Duplex } from "node:stream";
import type { Clock } from "../base/clock.ts";
import { asRoostError, RoostError } from "../base/errors.ts";
import type { DomainRef, PushOptions } from "./driver.ts";

const STEPS = 16;
/** The receipt comes when all is sent: so long the rest may be on its way. */
const REST_LIMIT_MS = 10_000;

/** Sends `totalBytes` in steps of `stepMs`; fails with the signal's reason or the stream's error. */
export async function pushBytes(
  stream: Duplex,
  totalBytes: number,
  stepMs: number,
  clock: Clock,
  { signal, progress }: PushOptions,
): Promise<void> {
  const chunk = new Uint8Array(Math.ceil(totalBytes / STEPS));
  let broken: Error | null = null;
  let stop: (error: Error) => void = () => {};
  const failed = new Promise<never>((_, reject) => (stop = reject));
  failed.catch(() => {}); // looked at only while something is awaited
  const fail = (error: Error): void => {
    broken ??= error;
    stop(broken);
  };
  const onAbort = (): void => fail(asRoostError(signal.reason));
  const onClose = (): void => fail(new RoostError({ kind: "unavailable", reason: "the migration's stream was closed" }));
  stream.on("error", fail);
  stream.on("close", onClose);
  stream.resume(); // the other side has nothing to say
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    for (let sentBytes = 0; sentBytes < totalBytes;) {
      const part = chunk.subarray(0, Math.min(chunk.length, totalBytes - sentBytes));
      await Promise.race([failed, new Promise<void>((resolve) => void clock.after(stepMs, resolve))]);
      await Promise.race([failed, new Promise<void>((resolve) => stream.write(part, () => resolve()))]);
      sentBytes += part.length;
      progress({ sentBytes, leftBytes: totalBytes - sentBytes });
    }
    stream.off("close", onClose); // it may go as soon as it has ended
    await Promise.race([failed, new Promise<void>((resolve) => stream.end(resolve))]);
  } finally {
    stream.off("close", onClose);
    signal.removeEventListener("abort", onAbort);
  }
}

/** Takes what is pushed and says nothing. */
export class Intake extends Duplex {
  #bytes = 0;
  #ended = false;
  #look: () => void = () => {};

  constructor() {
    super({ emitClose: true });
  }

  override _read(): void {}

  override _write(chunk: Uint8Array, _encoding: string, done: () => void): void {
    this.#bytes += chunk.length;
    done();
  }

  override _final(done: () => void): void {
    this.#ended = true;
    this.#look();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#look();
    done(error);
  }

  /** Resolves when `totalBytes` have come and no more will. */
  async whole(totalBytes: number, clock: Clock): Promise<void> {
    if (!this.#ended && !this.destroyed) {
      await new Promise<void>((resolve) => {
        const cancel = clock.after(REST_LIMIT_MS, resolve);
        this.#look = (): void => {
          cancel();
          resolve();
        };
      });
    }
    if (this.#bytes !== totalBytes)
      throw new RoostError({ kind: "unavailable", reason: `${this.#bytes} of ${totalBytes} bytes of the guest's memory came` });
  }
}

/** What one half says to the other. */
export interface Words extends DomainRef {
  totalBytes: number;
}

export function encodeWords(words: Words): Uint8Array {
  return new TextEncoder().encode(JSON.stringify({ simulated: 1, ...words }));
}

export function decodeWords(bytes: Uint8Array): Words {
  try {
    const { simulated, vmId, generation, totalBytes } = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
    if (simulated === 1 && typeof vmId === "string" && typeof generation === "number" && typeof totalBytes === "number")
      return { vmId, generation, totalBytes };
  } catch {
    // below
  }
  throw new RoostError({ kind: "unsupported", what: "migration between a simulated and another hypervisor" });
}
