/** The whole matrix: every case, every moment, before and after it, every fault; several threads, each with its own worlds. */
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { cases } from "./cases.ts";
import type { Case } from "./cases.ts";
import { faultsOf, faultText, moments, runFault } from "./run.ts";
import type { Fault } from "./run.ts";

export interface Entry {
  case: number;
  fault: Fault;
  text: string;
}

export interface Ended {
  text: string;
  /** null: everything was as it must be. */
  problem: string | null;
  /** How its task ended. */
  state: string;
}

/** All that can go wrong, in an order that follows from the seed alone. */
export async function entries(seed: number, filter = ""): Promise<Entry[]> {
  const found: Entry[] = [];
  for (const [i, one] of cases().entries()) {
    for (const fault of faultsOf(await moments(one, seed))) {
      const text = faultText(one, fault);
      if (text.includes(filter)) found.push({ case: i, fault, text });
    }
  }
  return found;
}

/** Runs them on so many threads; `tell` is called as each ends. */
export async function runAll(seed: number, all: readonly Entry[], threads: number, tell: (ended: Ended) => void): Promise<void> {
  let next = 0;
  const inThread = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const worker = new Worker(new URL(import.meta.url), { workerData: { seed } });
      const give = (): void => worker.postMessage(all[next++] ?? null);
      worker.on("message", (ended: Ended) => {
        tell(ended);
        give();
      });
      worker.on("error", reject);
      worker.on("exit", () => resolve());
      give();
    });
  await Promise.all(Array.from({ length: Math.min(threads, all.length) }, inThread));
}

export async function runOne(seed: number, { case: i, fault, text }: Entry): Promise<Ended> {
  try {
    return { text, problem: null, state: await runFault(cases()[i] as Case, fault, { seed }) };
  } catch (thrown) {
    return { text, problem: (thrown as Error).message, state: "" };
  }
}

if (!isMainThread) {
  const { seed } = workerData as { seed: number };
  parentPort?.on("message", (entry: Entry | null) => {
    // What a killed agent left waiting would keep the thread alive.
    if (entry === null) process.exit(0);
    void runOne(seed, entry).then((ended) => parentPort?.postMessage(ended));
  });
}
