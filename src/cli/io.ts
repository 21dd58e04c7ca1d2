export interface NewFile {
  write: (bytes: Uint8Array) => Promise<void>;
  /** On disk under its name when this resolves. */
  commit: () => Promise<void>;
  /** Nothing of it is left. */
  discard: () => Promise<void>;
}

/** The outside of a command-line program, passed in, so that commands run in tests as they run in a shell. */
export interface Io {
  /** Adds nothing to the text. */
  out: (text: string) => void;
  err: (text: string) => void;
  env: Record<string, string | undefined>;
  /** Standard output is a terminal: colours, and tables cut to its width. */
  isTerminal: boolean;
  /** Standard error is a terminal: progress in place. */
  isErrTerminal: boolean;
  nowMs: () => number;
  newId: () => string;
  readFile: (path: string) => Promise<string>;
  writeFile: (path: string, text: string) => Promise<void>;
  /** A file that appears whole or not at all, for its owner only; refused if there is one already. */
  createFile: (path: string) => Promise<NewFile>;
  readStdin: () => Promise<string>;
  homeDir: string;
  /** Given when the user interrupts. */
  signal: AbortSignal;
}

const CODES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;
export type Colour = keyof typeof CODES;

/** Colour only where somebody sees it; https://no-color.org */
export function paint(io: Io, colour: Colour, text: string, where: "out" | "err" = "out"): string {
  const on = (where === "out" ? io.isTerminal : io.isErrTerminal) && (io.env["NO_COLOR"] ?? "") === "" && io.env["TERM"] !== "dumb";
  return on ? `\u001b[${CODES[colour]}m${text}\u001b[0m` : text;
}
