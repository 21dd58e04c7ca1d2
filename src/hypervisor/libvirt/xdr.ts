/**
 * XDR (RFC 4506) driven by schema tables: big-endian, everything padded to 4 bytes. Only what libvirt's protocol uses.
 * Integers of 64 bits are bigint; opaque data are Uint8Array; lengths are checked against the schema's limits in both
 * directions, so a broken or hostile peer cannot make us allocate more than the protocol allows.
 */
export type XdrType =
  | "int"
  | "uint"
  | "hyper"
  | "uhyper"
  | "double"
  | "bool"
  | readonly ["string", number]
  | readonly ["opaque", number]
  /** Opaque data of exactly this length. */
  | readonly ["fixed", number]
  | readonly ["optional", XdrType]
  /** Counted array with an upper limit. */
  | readonly ["array", number, XdrType]
  /** Exactly so many elements, no count on the wire. */
  | readonly ["vector", number, XdrType]
  | readonly ["struct", string]
  | readonly ["union", string];

export interface Schema {
  readonly structs: Readonly<Record<string, readonly (readonly [string, XdrType])[]>>;
  /** Per union: discriminant (an int) to the type of `value`. */
  readonly unions: Readonly<Record<string, Readonly<Record<number, XdrType>>>>;
}

export class XdrError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "XdrError";
  }
}

const utf8Encoder = new TextEncoder();
const utf8Decoder = new TextDecoder("utf-8");

/** Bytes of one value of `type`. Throws XdrError naming the field if the value does not fit the type. */
export function encode(schema: Schema, type: XdrType, value: unknown): Uint8Array {
  const writer = new Writer(schema);
  writer.write(type, value, "");
  return writer.finish();
}

/** The value of `type` that `bytes` hold, all of them. Throws XdrError if they hold less, more or something else. */
export function decode(schema: Schema, type: XdrType, bytes: Uint8Array): unknown {
  const reader = new Reader(schema, bytes);
  const value = reader.read(type, "");
  reader.expectEnd();
  return value;
}

class Writer {
  private readonly schema: Schema;
  private bytes = new Uint8Array(256);
  private view = new DataView(this.bytes.buffer);
  private at = 0;

  constructor(schema: Schema) {
    this.schema = schema;
  }

  finish(): Uint8Array {
    return this.bytes.subarray(0, this.at);
  }

  write(type: XdrType, value: unknown, path: string): void {
    if (typeof type === "string") return this.scalar(type, value, path);
    switch (type[0]) {
      case "string": {
        if (typeof value !== "string") throw mismatch(path, "a string", value);
        return this.counted(utf8Encoder.encode(value), type[1], path);
      }
      case "opaque": {
        if (!(value instanceof Uint8Array)) throw mismatch(path, "bytes", value);
        return this.counted(value, type[1], path);
      }
      case "fixed": {
        if (!(value instanceof Uint8Array) || value.length !== type[1]) throw mismatch(path, `${type[1]} bytes`, value);
        return this.padded(value);
      }
      case "optional": {
        const present = value !== null && value !== undefined;
        this.uint(present ? 1 : 0);
        if (present) this.write(type[1], value, path);
        return;
      }
      case "array":
      case "vector": {
        if (!Array.isArray(value)) throw mismatch(path, "an array", value);
        if (type[0] === "array") {
          if (value.length > type[1]) throw tooLong(path, value.length, type[1]);
          this.uint(value.length);
        } else if (value.length !== type[1]) throw mismatch(path, `${type[1]} elements`, value);
        for (const [index, element] of value.entries()) this.write(type[2], element, `${path}[${index}]`);
        return;
      }
      case "struct": {
        if (typeof value !== "object" || value === null) throw mismatch(path, type[1], value);
        const record = value as Record<string, unknown>;
        for (const [name, field] of structFields(this.schema, type[1])) this.write(field, record[name], `${path}.${name}`);
        return;
      }
      case "union": {
        const tagged = value as { type?: unknown; value?: unknown } | null;
        if (typeof tagged !== "object" || tagged === null || typeof tagged.type !== "number") throw mismatch(path, "{type, value}", value);
        this.scalar("int", tagged.type, path);
        return this.write(unionCase(this.schema, type[1], tagged.type, path), tagged.value, path);
      }
    }
  }

  private scalar(type: XdrType & string, value: unknown, path: string): void {
    if (type === "bool") {
      if (typeof value !== "boolean") throw mismatch(path, "a boolean", value);
      return this.uint(value ? 1 : 0);
    }
    if (type === "hyper" || type === "uhyper") {
      if (typeof value !== "bigint") throw mismatch(path, "a bigint", value);
      if (value !== (type === "hyper" ? BigInt.asIntN(64, value) : BigInt.asUintN(64, value))) throw mismatch(path, `a ${type}`, value);
      this.reserve(8);
      this.view.setBigUint64(this.at, BigInt.asUintN(64, value));
      this.at += 8;
      return;
    }
    if (typeof value !== "number") throw mismatch(path, "a number", value);
    if (type === "double") {
      this.reserve(8);
      this.view.setFloat64(this.at, value);
      this.at += 8;
      return;
    }
    // `>>` and `>>>` keep exactly the values of 32 bits; anything else (NaN, fractions, overflow) changes.
    if (value !== (type === "int" ? value >> 0 : value >>> 0)) throw mismatch(path, `a 32-bit ${type}`, value);
    this.uint(value >>> 0);
  }

  private counted(value: Uint8Array, limit: number, path: string): void {
    if (value.length > limit) throw tooLong(path, value.length, limit);
    this.uint(value.length);
    this.padded(value);
  }

  private padded(value: Uint8Array): void {
    const length = (value.length + 3) & ~3;
    this.reserve(length);
    this.bytes.set(value, this.at);
    this.bytes.fill(0, this.at + value.length, this.at + length);
    this.at += length;
  }

  private uint(value: number): void {
    this.reserve(4);
    this.view.setUint32(this.at, value);
    this.at += 4;
  }

  private reserve(more: number): void {
    if (this.at + more <= this.bytes.length) return;
    const larger = new Uint8Array(Math.max(this.bytes.length * 2, this.at + more));
    larger.set(this.bytes.subarray(0, this.at));
    this.bytes = larger;
    this.view = new DataView(larger.buffer);
  }
}

class Reader {
  private readonly schema: Schema;
  private readonly bytes: Uint8Array;
  private readonly view: DataView;
  private at = 0;

  constructor(schema: Schema, bytes: Uint8Array) {
    this.schema = schema;
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  expectEnd(): void {
    if (this.at !== this.bytes.length) throw new XdrError(`${this.bytes.length - this.at} bytes left over after the value`);
  }

  read(type: XdrType, path: string): unknown {
    if (typeof type === "string") return this.scalar(type, path);
    switch (type[0]) {
      case "string":
        return utf8Decoder.decode(this.padded(this.count(type[1], 1, path), path));
      case "opaque":
        return new Uint8Array(this.padded(this.count(type[1], 1, path), path)); // a copy: Buffer.slice would not be one
      case "fixed":
        return new Uint8Array(this.padded(type[1], path));
      case "optional":
        return this.flag(path) ? this.read(type[1], path) : null;
      case "array":
      case "vector": {
        // An element takes at least 4 bytes: a count that the message cannot hold is refused before anything is allocated.
        const length = type[0] === "array" ? this.count(type[1], 4, path) : type[1];
        const out: unknown[] = [];
        for (let index = 0; index < length; index++) out.push(this.read(type[2], path));
        return out;
      }
      case "struct": {
        const out: Record<string, unknown> = {};
        for (const [name, field] of structFields(this.schema, type[1])) out[name] = this.read(field, `${path}.${name}`);
        return out;
      }
      case "union": {
        const tag = this.scalar("int", path) as number;
        return { type: tag, value: this.read(unionCase(this.schema, type[1], tag, path), path) };
      }
    }
  }

  private scalar(type: XdrType & string, path: string): unknown {
    switch (type) {
      case "bool":
        return this.flag(path);
      case "int":
        return this.view.getInt32(this.take(4, path));
      case "uint":
        return this.view.getUint32(this.take(4, path));
      case "hyper":
        return this.view.getBigInt64(this.take(8, path));
      case "uhyper":
        return this.view.getBigUint64(this.take(8, path));
      case "double":
        return this.view.getFloat64(this.take(8, path));
    }
  }

  private flag(path: string): boolean {
    const value = this.view.getUint32(this.take(4, path));
    if (value > 1) throw new XdrError(`${path}: ${value} where 0 or 1 was expected`);
    return value === 1;
  }

  private count(limit: number, bytesEach: number, path: string): number {
    const value = this.view.getUint32(this.take(4, path));
    if (value > limit) throw tooLong(path, value, limit);
    if (value * bytesEach > this.bytes.length - this.at) throw new XdrError(`${path}: message ends inside`);
    return value;
  }

  private padded(length: number, path: string): Uint8Array {
    const from = this.take((length + 3) & ~3, path);
    return this.bytes.subarray(from, from + length);
  }

  private take(length: number, path: string): number {
    const from = this.at;
    if (from + length > this.bytes.length) throw new XdrError(`${path}: message ends inside`);
    this.at += length;
    return from;
  }
}

function structFields(schema: Schema, name: string): readonly (readonly [string, XdrType])[] {
  const fields = schema.structs[name];
  if (fields === undefined) throw new XdrError(`schema has no struct ${name}`);
  return fields;
}

function unionCase(schema: Schema, name: string, tag: number, path: string): XdrType {
  const type = schema.unions[name]?.[tag];
  if (type === undefined) throw new XdrError(`${path}: union ${name} has no case ${tag}`);
  return type;
}

function mismatch(path: string, wanted: string, value: unknown): XdrError {
  return new XdrError(
    `${path}: expected ${wanted} but got ${typeof value} ${typeof value === "number" || typeof value === "bigint" ? value : ""}`,
  );
}

function tooLong(path: string, length: number, limit: number): XdrError {
  return new XdrError(`${path}: ${length} is over the protocol's limit of ${limit}`);
}
