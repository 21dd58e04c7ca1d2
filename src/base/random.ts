/** Randomness as a value that is passed in, so that tests and the simulator can replay it. */
export interface Random {
  /** Uniform integer in [0, limit). */
  below(limit: number): number;
  /** Uniform float in [0, 1). */
  unit(): number;
  /** 16·bytes of lower-case hex digits, two a byte. */
  hex(bytes: number): string;
}

/** Deterministic generator (sfc32, Chris Doty-Humphrey's PractRand family) from a 32-bit seed. Not for secrets. */
export function seededRandom(seed: number): Random {
  let a = 0x9e3779b9 ^ seed;
  let b = 0x243f6a88;
  let c = 0xb7e15162;
  let counter = 1;
  const next = (): number => {
    const t = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + t;
    c |= 0;
    return t >>> 0;
  };
  for (let i = 0; i < 15; i++) next();
  const unit = (): number => next() / 4294967296;
  return {
    unit,
    below: (limit) => Math.floor(unit() * limit),
    hex: (bytes) => {
      let out = "";
      for (let i = 0; i < bytes; i++) out += (next() & 0xff).toString(16).padStart(2, "0");
      return out;
    },
  };
}
