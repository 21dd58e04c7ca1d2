/** JSON lines with a limit, for both ends of the keeper's socket. */
import { MAX_LINE_BYTES } from "./protocol.ts";

export class LineReader {
  readonly #take: (value: unknown) => void;
  #parts: Buffer[] = [];
  #bytes = 0;

  constructor(take: (value: unknown) => void) {
    this.#take = take;
  }

  /** Hands on every whole line; says what is wrong with the stream, or null. After a fault the stream is of no use. */
  push(chunk: Buffer): string | null {
    let rest = chunk;
    for (;;) {
      const end = rest.indexOf(10);
      if (end < 0) break;
      const line = Buffer.concat([...this.#parts, rest.subarray(0, end)]);
      rest = rest.subarray(end + 1);
      this.#parts = [];
      this.#bytes = 0;
      if (line.length > MAX_LINE_BYTES) return `a line of more than ${MAX_LINE_BYTES} bytes`;
      let value: unknown;
      try {
        value = JSON.parse(line.toString("utf8"));
      } catch {
        return "a line that is not JSON";
      }
      this.#take(value);
    }
    this.#parts.push(rest);
    this.#bytes += rest.length;
    return this.#bytes > MAX_LINE_BYTES ? `a line of more than ${MAX_LINE_BYTES} bytes` : null;
  }
}
