/**
 * A file of run records (run-records.ts) that only grows at its end, until it is the older half and a new one begins. What waits is
 * written together; who needs a record on the disk waits for it, but never long: a VM is not kept from running by its own history.
 */
import { type FileHandle, mkdir, open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { asRoostError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { within } from "../base/time-limit.ts";
import { parseRecord, type RunRecord } from "./run-records.ts";

export interface RunLogOptions {
  path: string;
  log: Logger;
  /** Half of what is kept. 4 MiB are some 20,000 runs. */
  maxBytes?: number;
  /** What a new file has to begin with: runs that are not over. */
  carryOver?: () => RunRecord[];
}

const MAX_BYTES = 4 * 2 ** 20;
/** Lines that may wait for a disk that does not answer; what comes after is counted as lost. */
const MAX_WAITING = 10_000;
const SYNC_LIMIT_MS = 1_000;

export class RunLog {
  readonly #options: RunLogOptions;
  #file: FileHandle | null = null;
  #bytes = 0;
  #waiting: { record: RunRecord; done: () => void }[] = [];
  #writing: Promise<void> | null = null;
  #lost = 0;

  constructor(options: RunLogOptions) {
    this.#options = options;
  }

  /** Written some time soon. */
  note(record: RunRecord): void {
    this.#add(record, () => {});
  }

  /** On the disk when it resolves, or the disk is too slow for that. */
  async sync(record: RunRecord): Promise<void> {
    const written = new Promise<void>((resolve) => this.#add(record, resolve));
    await within(written, SYNC_LIMIT_MS, "writing a run down").catch((thrown: unknown) =>
      this.#options.log.warn("a run is not on the disk yet; it begins all the same", { reason: asRoostError(thrown).message }),
    );
  }

  /** What the files have, oldest first. */
  async read(): Promise<RunRecord[]> {
    await this.#writing;
    return await readRecords(this.#options.path);
  }

  async close(): Promise<void> {
    await within(this.#writing ?? Promise.resolve(), SYNC_LIMIT_MS, "writing runs down").catch(() => {});
    await this.#file?.close();
    this.#file = null;
  }

  #add(record: RunRecord, done: () => void): void {
    if (this.#waiting.length >= MAX_WAITING) {
      this.#lost += 1;
      done();
      return;
    }
    this.#waiting.push({ record, done });
    this.#writing ??= this.#write();
  }

  async #write(): Promise<void> {
    for (let batch = this.#waiting; batch.length > 0; batch = this.#waiting) {
      this.#waiting = [];
      const first = batch[0]!.record;
      const lost = this.#lost;
      const records = batch.map(({ record }) => record);
      if (lost > 0) records.push({ op: "lost", count: lost, bootId: first.bootId, bootMs: first.bootMs, wallMs: first.wallMs });
      try {
        await this.#append(records);
        this.#lost -= lost;
      } catch (thrown) {
        this.#lost += batch.length;
        this.#options.log.warn("runs could not be written down", { reason: asRoostError(thrown).message, records: batch.length });
        await this.#file?.close().catch(() => {});
        this.#file = null;
      }
      for (const { done } of batch) done();
    }
    this.#writing = null;
  }

  async #append(records: readonly RunRecord[]): Promise<void> {
    const { path, carryOver, maxBytes = MAX_BYTES } = this.#options;
    const lines = [...records];
    if (this.#file === null) {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      this.#file = await open(path, "a", 0o600);
      this.#bytes = (await this.#file.stat()).size;
      // A line that a crash cut short ends here.
      if (this.#bytes > 0) await this.#file.appendFile("\n");
    }
    if (this.#bytes > maxBytes) {
      await this.#file.close();
      this.#file = null;
      await rename(path, `${path}.1`);
      this.#file = await open(path, "a", 0o600);
      this.#bytes = 0;
      lines.unshift(...(carryOver?.() ?? []));
    }
    const text = lines.map((record) => `${JSON.stringify(record)}\n`).join("");
    await this.#file.appendFile(text);
    await this.#file.datasync();
    this.#bytes += Buffer.byteLength(text);
  }
}

/** Of a file and the older half before it. */
export async function readRecords(path: string): Promise<RunRecord[]> {
  const records: RunRecord[] = [];
  for (const file of [`${path}.1`, path]) {
    const text = await readFile(file, "utf8").catch((thrown: NodeJS.ErrnoException) => {
      if (thrown.code === "ENOENT") return "";
      throw thrown;
    });
    for (const line of text.split("\n")) {
      const record = line === "" ? null : parseRecord(line);
      if (record !== null) records.push(record);
    }
  }
  return records;
}
