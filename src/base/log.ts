/** Structured log: one JSON object a line on a sink. Secrets never go into fields (SEC-5). */
export type LogLevel = "debug" | "info" | "warn" | "error";
export type LogFields = Record<string, string | number | boolean | null | undefined>;

export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** The same sink with a component name (`raft`, `agent`) and fields added to every line. */
  child(component: string, fields?: LogFields): Logger;
}

const ORDER: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3 };

export interface LogOptions {
  level: LogLevel;
  /** Takes one finished line without its newline. */
  write: (line: string) => void;
  /** Wall clock in ms, for the time stamp only. */
  nowMs: () => number;
}

export function createLogger(options: LogOptions, component = "roost", base: LogFields = {}): Logger {
  const emit = (level: LogLevel, message: string, fields: LogFields | undefined): void => {
    if (ORDER[level] < ORDER[options.level]) return;
    options.write(JSON.stringify({ time: new Date(options.nowMs()).toISOString(), level, component, message, ...base, ...fields }));
  };
  return {
    debug: (message, fields) => emit("debug", message, fields),
    info: (message, fields) => emit("info", message, fields),
    warn: (message, fields) => emit("warn", message, fields),
    error: (message, fields) => emit("error", message, fields),
    child: (name, fields) => createLogger(options, name, { ...base, ...fields }),
  };
}

/** A logger that drops everything, for tests. */
export const silentLogger: Logger = createLogger({ level: "error", write: () => {}, nowMs: () => 0 });
