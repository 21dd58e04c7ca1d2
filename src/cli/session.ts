/** What a client command has: its options, a client that is closed afterwards, and batches with a result per item. */
import type { Command } from "commander";
import { invalid } from "../base/errors.ts";
import type { RpcClient } from "../base/rpc-client.ts";
import { parseDuration } from "../base/units.ts";
import type { Consistency } from "../gen/types/roost/v1/Consistency.ts";
import { connect } from "./context.ts";
import { EXIT, Exit, printError } from "./exit.ts";
import type { Io } from "./io.ts";
import { parseFormat } from "./output.ts";
import type { Format } from "./output.ts";

export interface GlobalOptions {
  output: string;
  timeout?: string;
  context?: string;
  socket?: string;
  stale?: boolean;
}

export interface Session {
  io: Io;
  client: RpcClient;
  format: Format;
  consistency: Consistency;
  /** Limits of one call. */
  limits: { timeoutMs: number; signal: AbortSignal };
  /** How long --wait follows, ms. */
  waitMs: number;
}

const CALL_MS = 15_000;
const WAIT_MS = 300_000;

/** Runs a client command; the connection is closed whatever happens. */
export async function withSession(io: Io, command: Command, run: (session: Session) => Promise<void>): Promise<void> {
  const options = command.optsWithGlobals<GlobalOptions>();
  const format = parseFormat(options.output);
  let timeoutMs: number | null = null;
  if (options.timeout !== undefined) {
    const parsed = parseDuration(options.timeout);
    if (!parsed.ok || parsed.value === 0)
      throw invalid("--timeout", `expected a duration such as 30s or 5m, not ${JSON.stringify(options.timeout)}`);
    timeoutMs = parsed.value;
  }
  const client = await connect(io, options);
  try {
    await run({
      io,
      client,
      format,
      consistency: options.stale === true ? "CONSISTENCY_STALE" : "CONSISTENCY_LINEARIZABLE",
      limits: { timeoutMs: Math.min(timeoutMs ?? CALL_MS, CALL_MS), signal: io.signal },
      waitMs: timeoutMs ?? WAIT_MS,
    });
  } finally {
    client.close();
  }
}

const AT_ONCE = 16;

/** Does one thing to each item, several at a time; a failure is told with its item and the others go on. Ends with the first failure's code. */
export async function eachItem(io: Io, items: string[], act: (item: string) => Promise<void>): Promise<void> {
  const unique = [...new Set(items)];
  const codes: number[] = unique.map(() => EXIT.ok);
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let i = next++; i < unique.length; i = next++) {
      const item = unique[i] ?? "";
      try {
        await act(item);
      } catch (error) {
        codes[i] = error instanceof Exit ? error.code : printError(io, error, unique.length > 1 ? item : undefined);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, unique.length) }, worker));
  const failed = codes.find((code) => code !== EXIT.ok);
  if (failed !== undefined) throw new Exit(failed);
}
