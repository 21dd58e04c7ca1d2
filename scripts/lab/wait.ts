import { setTimeout as sleep } from "node:timers/promises";

export interface WaitOptions {
  /** Between two looks; default 50 ms. */
  everyMs?: number;
  signal?: AbortSignal;
}

/** Thrown by a condition that can no longer come true: waitFor gives up at once. */
export class Hopeless extends Error {
  override readonly name = "Hopeless";
}

/**
 * Looks until `condition` gives something truthy, and gives that. The condition tells what it sees through `saw`; if the
 * time runs out the error says what was waited for, how long, and what was seen last. A look that throws counts as "not
 * yet", with the error as what was seen.
 */
export async function waitFor<T>(
  what: string,
  condition: (saw: (value: unknown) => void) => T | Promise<T>,
  timeoutMs: number,
  options: WaitOptions = {},
): Promise<NonNullable<T>> {
  const endMs = performance.now() + timeoutMs;
  let seen: unknown;
  const saw = (value: unknown): void => {
    seen = value;
  };
  for (;;) {
    options.signal?.throwIfAborted();
    let answer: T | undefined;
    try {
      answer = await withLimit(condition(saw), endMs - performance.now());
    } catch (error) {
      if (error instanceof Hopeless) throw new Error(`${what} will not come: ${error.message}`, { cause: error });
      seen = error;
    }
    if (answer) return answer;
    if (performance.now() >= endMs) throw new Error(`waited ${timeoutMs} ms in vain for ${what}; seen last: ${show(seen)}`);
    await sleep(options.everyMs ?? 50, undefined, options.signal === undefined ? {} : { signal: options.signal });
  }
}

/** One look may itself hang; it gets what is left, and a little more so that its own error wins if it has one. */
async function withLimit<T>(look: T | Promise<T>, leftMs: number): Promise<T> {
  if (!(look instanceof Promise)) return look;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("the last look did not come back")), Math.max(leftMs, 0) + 500);
  });
  try {
    return await Promise.race([look, late]);
  } finally {
    clearTimeout(timer);
  }
}

function show(value: unknown): string {
  if (value instanceof Error) return value.message;
  if (value === undefined) return "nothing";
  return typeof value === "string" ? value : JSON.stringify(value);
}
