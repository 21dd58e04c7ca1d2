/** Rules broken on purpose, to see that a simulation finds them. */

/** One rule broken; `F`: faults that the simulation can be told to have. */
export interface Mutation<F> {
  readonly name: string;
  /** One that catches it, the first if it was looked for. */
  readonly seed: number;
  readonly faults?: F;
  /** Breaks a class; what it returns repairs it. */
  readonly break?: () => () => void;
}

/** Replaces a method of a class; what it returns does so, and what that returns repairs it. */
export function replace<T extends object, K extends keyof T>(prototype: T, name: K, make: (original: T[K]) => T[K]): () => () => void {
  return () => {
    const original = prototype[name];
    prototype[name] = make(original);
    return () => {
      prototype[name] = original;
    };
  };
}
