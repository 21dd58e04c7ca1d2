import t from "tap";
import { seededRandom } from "../../../src/base/random.ts";
import type { Random } from "../../../src/base/random.ts";
import { schema } from "../../../src/hypervisor/libvirt/protocol.gen.ts";
import { XdrError, decode, encode } from "../../../src/hypervisor/libvirt/xdr.ts";
import type { Schema, XdrType } from "../../../src/hypervisor/libvirt/xdr.ts";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** RFC 4506 section 4: each type's bytes. */
const TABLE: [XdrType, unknown, string][] = [
  ["int", -2, "fffffffe"],
  ["uint", 0xfffffffe, "fffffffe"],
  ["hyper", -2n, "fffffffffffffffe"],
  ["uhyper", 0xfffffffffffffffen, "fffffffffffffffe"],
  ["double", 1.5, "3ff8000000000000"],
  ["bool", true, "00000001"],
  [["string", 10], "", "00000000"],
  [["string", 10], "é!", "00000003c3a92100"],
  [["opaque", 10], Uint8Array.of(1, 2, 3, 4, 5), "000000050102030405000000"],
  [["fixed", 2], Uint8Array.of(7, 8), "07080000"],
  [["optional", "int"], null, "00000000"],
  [["optional", "int"], 5, "0000000100000005"],
  [["array", 3, "int"], [1, 2], "000000020000000100000002"],
  [["vector", 2, "int"], [1, 2], "0000000100000002"],
  [["union", "TypedParamValue"], { type: 7, value: "x" }, "000000070000000178000000"],
  [["struct", "DomainGetStateRet"], { state: 1, reason: 2 }, "0000000100000002"],
];

void t.test("every type is exactly these bytes, both ways", (t) => {
  for (const [type, value, wanted] of TABLE) {
    t.equal(hex(encode(schema, type, value)), wanted, JSON.stringify(type));
    t.strictSame(decode(schema, type, Buffer.from(wanted, "hex")), value, JSON.stringify(type));
  }
  t.end();
});

void t.test("values that do not fit are refused, with the field's name", (t) => {
  const bad: [XdrType, unknown][] = [
    ["int", 2 ** 31],
    ["int", 1.5],
    ["int", Number.NaN],
    ["uint", -1],
    ["hyper", 2n ** 63n],
    ["uhyper", -1n],
    ["hyper", 1],
    ["bool", 1],
    [["string", 2], "abc"],
    [["string", 2], "éé"],
    [["opaque", 1], Uint8Array.of(1, 2)],
    [["fixed", 2], Uint8Array.of(1)],
    [
      ["array", 1, "int"],
      [1, 2],
    ],
    [["vector", 2, "int"], [1]],
    [["union", "TypedParamValue"], { type: 99, value: 1 }],
    [["struct", "NoSuchStruct"], {}],
  ];
  for (const [type, value] of bad) t.throws(() => encode(schema, type, value), XdrError, JSON.stringify(type));
  t.throws(() => encode(schema, ["struct", "DomainGetStateRet"], { state: 1 }), /\.reason/);
  t.end();
});

void t.test("broken bytes are refused before anything is allocated for them", (t) => {
  const bad: [XdrType, string][] = [
    ["int", "000000"],
    ["int", "0000000000"],
    ["bool", "00000002"],
    [["string", 4], "00000005"],
    [["string", 400], "0000000561"],
    [["array", 1000000, "int"], "000f4240"],
    [["optional", "int"], "00000001"],
    [["union", "TypedParamValue"], "0000006300000000"],
  ];
  for (const [type, text] of bad)
    t.throws(() => decode(schema, type, Buffer.from(text, "hex")), XdrError, `${JSON.stringify(type)} ${text}`);
  t.end();
});

/** A random value of a type, small enough to be quick. */
function arbitrary(schema: Schema, type: XdrType, random: Random, depth: number): unknown {
  const big = (): bigint => BigInt(`0x${random.hex(8)}`);
  if (typeof type === "string") {
    switch (type) {
      case "int":
        return (random.below(2 ** 32) - 2 ** 31) | 0;
      case "uint":
        return random.below(2 ** 32);
      case "hyper":
        return BigInt.asIntN(64, big());
      case "uhyper":
        return big();
      case "double":
        return (random.unit() - 0.5) * 10 ** random.below(30);
      case "bool":
        return random.below(2) === 1;
    }
  }
  const length = (limit: number): number => Math.min(limit, random.below(depth > 3 ? 2 : 5));
  const blob = (size: number): Uint8Array => Uint8Array.from({ length: size }, () => random.below(256));
  switch (type[0]) {
    case "string":
      return Array.from({ length: Math.floor(length(type[1]) / 2) }, () => "aé€"[random.below(2)]).join("");
    case "opaque":
      return blob(length(type[1]));
    case "fixed":
      return blob(type[1]);
    case "optional":
      return random.below(2) === 0 ? null : arbitrary(schema, type[1], random, depth + 1);
    case "array":
      return Array.from({ length: length(type[1]) }, () => arbitrary(schema, type[2], random, depth + 1));
    case "vector":
      return Array.from({ length: type[1] }, () => arbitrary(schema, type[2], random, depth + 1));
    case "struct":
      return Object.fromEntries(
        (schema.structs[type[1]] ?? []).map(([name, field]) => [name, arbitrary(schema, field, random, depth + 1)]),
      );
    case "union": {
      const cases = Object.entries(schema.unions[type[1]] ?? {});
      const [tag, of] = cases[random.below(cases.length)] ?? ["1", "int"];
      return { type: Number(tag), value: arbitrary(schema, of as XdrType, random, depth + 1) };
    }
  }
}

void t.test("every struct of the protocol survives the way there and back", (t) => {
  const seed = Math.floor(Math.random() * 2 ** 32);
  console.log(`# seed ${seed}`);
  const random = seededRandom(seed);
  const names = Object.keys(schema.structs);
  t.ok(names.length > 600, `${names.length} structs`);
  for (const name of names) {
    for (let round = 0; round < 3; round++) {
      const value = arbitrary(schema, ["struct", name], random, 0);
      const bytes = encode(schema, ["struct", name], value);
      const back = decode(schema, ["struct", name], bytes);
      if (bytes.length % 4 !== 0 || hex(encode(schema, ["struct", name], back)) !== hex(bytes)) t.fail(`${name}, seed ${seed}`);
      // A cut message is refused, never read as something else.
      if (bytes.length > 0) {
        const cut = bytes.subarray(0, random.below(bytes.length));
        t.throws(() => decode(schema, ["struct", name], cut), XdrError);
      }
    }
  }
  t.end();
});
