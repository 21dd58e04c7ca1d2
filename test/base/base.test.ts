import grpc from "@grpc/grpc-js";
import t from "tap";
import { STATUS, statusOf } from "../../src/api/status.ts";
import { RoostError } from "../../src/base/errors.ts";
import type { Fault } from "../../src/base/errors.ts";
import { faultFromService, STATUS_TRAILER } from "../../src/base/fault-detail.ts";
import { parseAddress } from "../../src/base/rpc.ts";
import { editDistance, suggest } from "../../src/base/suggest.ts";
import {
  formatBytes,
  formatBytesExact,
  formatDuration,
  formatGeneration,
  formatMib,
  parseBytes,
  parseDuration,
  parseMib,
} from "../../src/base/units.ts";
import { formatToken, parseToken } from "../../src/cluster/tokens.ts";

const FAULTS: Fault[] = [
  {
    kind: "invalid",
    violations: [
      { field: "disks[0].size", message: "expected ü" },
      { field: "", message: "x" },
    ],
  },
  { kind: "not-found", what: "vm", name: "web" },
  { kind: "exists", what: "node", name: "n1" },
  { kind: "precondition", reason: "it is running" },
  { kind: "precondition", reason: "it is running", legal: ["shutdown", "delete"] },
  { kind: "exhausted", reason: "too many" },
  { kind: "unavailable", reason: "no leader" },
  { kind: "timeout", what: "the read", afterMs: 1_000 },
  { kind: "timeout", what: "the boot", afterMs: 2_000, setting: "vm.bootTimeoutMs" },
  { kind: "conflict", reason: "changed meanwhile" },
  { kind: "denied", reason: "not yours" },
  { kind: "unsupported", what: "pause" },
  { kind: "damaged", what: "the log" },
  { kind: "expired", what: "the request" },
  { kind: "internal", reason: "a bug" },
];

t.test("every fault survives the way over gRPC, with its hint", async (t) => {
  t.same(new Set(FAULTS.map((fault) => fault.kind)), new Set(Object.keys(STATUS)), "all kinds are here");
  for (const fault of FAULTS) {
    for (const hint of [undefined, "try this"]) {
      const status = statusOf(new RoostError(fault, hint));
      const back = faultFromService(Object.assign(new Error(), status) as grpc.ServiceError, { endpoint: "x", timeoutMs: 1 });
      t.same(back.fault, fault, fault.kind);
      t.equal(back.hint, hint);
      t.ok(status.metadata.get(STATUS_TRAILER)[0] instanceof Buffer);
      t.equal(status.code, STATUS[fault.kind]);
    }
  }
});

t.test("trailers stay below what HTTP/2 peers take", async (t) => {
  const violations = Array.from({ length: 5_000 }, (_, i) => ({
    field: `definitions[${i}].name`,
    message: "expected 1 to 63 lower-case letters, digits and dashes",
  }));
  const { metadata, details } = statusOf(new RoostError({ kind: "invalid", violations }));
  const bytes = Object.values(metadata.toHttp2Headers())
    .flat()
    .reduce<number>((sum, value) => sum + String(value).length, 0);
  t.ok(bytes + details.length < 16_384, `${bytes} bytes`);
});

t.test("a status without detail becomes the nearest fault", async (t) => {
  const from = (code: grpc.status): string =>
    faultFromService(Object.assign(new Error(), { code, details: "d", metadata: new grpc.Metadata() }), { endpoint: "h:1", timeoutMs: 5 })
      .fault.kind;
  t.equal(from(grpc.status.UNAVAILABLE), "unavailable");
  t.equal(from(grpc.status.DEADLINE_EXCEEDED), "timeout");
  t.equal(from(grpc.status.UNAUTHENTICATED), "denied");
  t.equal(from(grpc.status.UNIMPLEMENTED), "unsupported");
  t.equal(from(grpc.status.UNKNOWN), "internal");
});

t.test("sizes and durations", async (t) => {
  const sizes: [string, number | null][] = [
    ["1KiB", 1024],
    ["1.5 GiB", 1.5 * 2 ** 30],
    ["500MB", 5e8],
    ["10gib", 10 * 2 ** 30],
    ["7B", 7],
    ["10", null],
    ["10G", null],
    ["-1GiB", null],
    ["1e3KiB", null],
    ["99999999TiB", null],
    ["", null],
  ];
  for (const [text, expected] of sizes) {
    const parsed = parseBytes(text);
    t.equal(parsed.ok ? parsed.value : null, expected, text);
  }
  t.same(parseMib("2GiB"), { ok: true, value: 2048 });
  t.notOk(parseMib("1KiB").ok);
  for (const bytes of [0, 1, 1023, 1024, 1025, 2 ** 30, 2 ** 30 + 1, 3 * 2 ** 40]) {
    if (bytes > 0) t.same(parseBytes(formatBytesExact(bytes)), { ok: true, value: bytes }, `${bytes} is not rounded`);
  }
  t.equal(formatBytes(1_610_612_736), "1.50GiB");
  t.equal(formatMib(1536), "1536MiB");
  const durations: [string, number | null][] = [
    ["500ms", 500],
    ["30s", 30_000],
    ["1h30m", 5_400_000],
    ["2d", 172_800_000],
    ["1.5s", 1500],
    ["5", null],
    ["s", null],
    ["1s x", null],
  ];
  for (const [text, expected] of durations) {
    const parsed = parseDuration(text);
    t.equal(parsed.ok ? parsed.value : null, expected, text);
  }
  t.same([0, 850, 42_000, 310_000, 10_800_000, 1_051_200_000].map(formatDuration), ["0ms", "850ms", "42s", "5m10s", "3h", "12d4h"]);
  t.equal(formatGeneration(2 ** 32 + 7), "1.7");
});

t.test("did you mean", async (t) => {
  t.equal(editDistance("memroy", "memory"), 1, "neighbours swapped");
  t.equal(editDistance("", "abc"), 3);
  t.equal(suggest("memroy", ["memory", "name"]), "memory");
  t.equal(suggest("lst", ["list", "show"]), "list");
  t.equal(suggest("colour", ["name", "cpus"]), null);
});

t.test("addresses and tokens", async (t) => {
  t.same(parseAddress("10.0.0.1:80"), { host: "10.0.0.1", port: 80 });
  t.same(parseAddress("[::1]:80"), { host: "::1", port: 80 });
  for (const bad of ["x", "x:0", "x:65536", "::1:80", "x:80 ", "http://x:80"]) t.equal(parseAddress(bad), null, bad);
  const token = { id: "i", secret: "s", caFingerprint: "a".repeat(64), addresses: ["h:1"] };
  t.same(parseToken(`  ${formatToken(token)}\n`), token);
  for (const bad of [
    "",
    "roost1.",
    formatToken(token).slice(0, -5),
    formatToken({ ...token, caFingerprint: "x" }),
    formatToken({ ...token, addresses: [] }),
    "roost1.bnVsbA",
  ]) {
    t.throws(() => parseToken(bad), RoostError, bad);
  }
});
