/** Progress for people: one line per thing done, with the seconds since the start; on a terminal also a spinner for what is under way. */
import type { Progress } from "./places.ts";

const FRAMES = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

export interface Steps {
  line: Progress;
  /** Text as it is, without a time: a command's output. */
  text(text: string): void;
  /** Runs it with `doing` shown while it lasts; ends with one line that says how long it took. */
  step<T>(doing: string, work: () => Promise<T>): Promise<T>;
}

export function createSteps(out: NodeJS.WriteStream = process.stdout): Steps {
  const startedMs = performance.now();
  const underWay = new Map<symbol, string>();
  let frame = 0;
  let timer: NodeJS.Timeout | undefined;

  const stamp = (): string => `[${((performance.now() - startedMs) / 1000).toFixed(1).padStart(5)} s]`;
  const clear = (): void => {
    if (out.isTTY && timer !== undefined) out.write("\r\u001b[K");
  };
  const draw = (): void => {
    if (timer === undefined) return;
    frame += 1;
    const text = `${stamp()} ${FRAMES[frame % FRAMES.length]} ${[...underWay.values()].join(" · ")}`;
    out.write(`\r${text.slice(0, Math.max((out.columns ?? 80) - 1, 20))}\u001b[K`);
  };
  const line = (text: string): void => {
    clear();
    out.write(`${stamp()} ${text}\n`);
    draw();
  };
  const begin = (doing: string): symbol => {
    const key = Symbol(doing);
    underWay.set(key, doing);
    if (out.isTTY) timer ??= setInterval(draw, 100);
    else line(`${doing} ...`);
    return key;
  };
  const end = (key: symbol): void => {
    underWay.delete(key);
    if (underWay.size > 0 || timer === undefined) return;
    clear();
    clearInterval(timer);
    timer = undefined;
  };

  return {
    line,
    text: (text) => {
      clear();
      out.write(text.endsWith("\n") ? text : `${text}\n`);
      draw();
    },
    step: async (doing, work) => {
      const beganMs = performance.now();
      const key = begin(doing);
      try {
        const result = await work();
        end(key);
        line(`${doing}: done in ${((performance.now() - beganMs) / 1000).toFixed(1)} s`);
        return result;
      } catch (error) {
        end(key);
        line(`${doing}: FAILED`);
        throw error;
      }
    },
  };
}
