/** roost cluster bench: a look at how fast this cluster confirms, from where the user stands. */
import { randomBytes } from "node:crypto";
import type { Command } from "commander";
import { invalid } from "../../base/errors.ts";
import { formatBytes } from "../../base/units.ts";
import type { Io } from "../io.ts";
import { printValue } from "../output.ts";
import { withSession } from "../session.ts";
import type { Session } from "../session.ts";
import { facts } from "../table.ts";

/** Writes go round over so many keys: rows of a benchmark stay in the state. */
const KEYS = 1_000;

interface Plan {
  clients: number;
  seconds: number;
  sizeBytes: number;
  reads: boolean;
}

export function addBenchCommand(cluster: Command, io: Io): void {
  cluster
    .command("bench")
    .description("measure how fast the cluster confirms writes, or answers linearizable reads; needs the setting bench.enabled")
    .option("--clients <n>", "callers at once, 1 to 1024", "64")
    .option("--seconds <s>", "how long, 1 to 600", "5")
    .option("--size <bytes>", "of a value, 0 to 1048576", "100")
    .option("--reads", "linearizable reads instead of writes")
    .action((options: { clients: string; seconds: string; size: string; reads?: boolean }, command: Command) =>
      withSession(io, command, async (session) => {
        const plan: Plan = {
          clients: wholeNumber("--clients", options.clients, 1, 1_024),
          seconds: wholeNumber("--seconds", options.seconds, 1, 600),
          sizeBytes: wholeNumber("--size", options.size, 0, 2 ** 20),
          reads: options.reads === true,
        };
        const result = await measure(session, plan);
        if (session.format === "json" || session.format === "yaml") return printValue(io, session.format, result);
        io.out(
          facts([
            [plan.reads ? "Reads" : "Writes", `${result.perSecond.toFixed(0)} per second`],
            ["Median", `${result.p50Ms.toFixed(2)} ms`],
            ["99th percentile", `${result.p99Ms.toFixed(2)} ms`],
            ["Values", plan.reads ? "" : formatBytes(plan.sizeBytes)],
            ["Callers", String(plan.clients)],
          ]),
        );
        io.err("The caller is a part of this: a compiled one gets about twice as much from the same cluster.\n");
      }),
    );
}

function wholeNumber(option: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isSafeInteger(value) || value < min || value > max)
    throw invalid(option, `expected a whole number from ${min} to ${max}, not ${JSON.stringify(text)}`);
  return value;
}

interface Result extends Plan {
  requests: number;
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  maxMs: number;
}

async function measure(session: Session, plan: Plan): Promise<Result> {
  const { client, limits, io } = session;
  const value = randomBytes(plan.sizeBytes);
  const latenciesMs: number[] = [];
  let next = 0;
  const put = (): Promise<unknown> => client.call("Bench", "Put", { key: `bench/${next++ % KEYS}`, value }, limits);
  const get = (): Promise<unknown> => client.call("Bench", "Get", { key: `bench/${next++ % KEYS}` }, limits);
  // Something to read; and the connection is there before anything counts.
  for (let i = 0; i < (plan.reads ? 10 : 1); i++) await put();
  next = 0;
  const beganMs = performance.now();
  const endMs = beganMs + plan.seconds * 1_000;
  const caller = async (): Promise<void> => {
    for (let nowMs = performance.now(); nowMs < endMs && !io.signal.aborted;) {
      await (plan.reads ? get() : put());
      const afterMs = performance.now();
      latenciesMs.push(afterMs - nowMs);
      nowMs = afterMs;
    }
  };
  await Promise.all(Array.from({ length: plan.clients }, caller));
  const elapsedMs = performance.now() - beganMs;
  latenciesMs.sort((a, b) => a - b);
  const at = (part: number): number => latenciesMs[Math.min(latenciesMs.length - 1, Math.floor(latenciesMs.length * part))] ?? 0;
  return {
    ...plan,
    requests: latenciesMs.length,
    perSecond: (latenciesMs.length * 1_000) / elapsedMs,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    maxMs: at(1),
  };
}
