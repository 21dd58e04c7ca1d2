import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { parseFeed, parseGuardian, formatFeed } from "../../../src/agent/guardian.ts";
import { openBootClock, startTicks } from "../../../src/agent/keeper/boot-clock.ts";
import { KeeperClient } from "../../../src/agent/keeper/client.ts";
import { ensureKeeper, keeperPaths } from "../../../src/agent/keeper/process.ts";
import { readRecords } from "../../../src/agent/run-log.ts";
import { silentLogger } from "../../../src/base/log.ts";

const ENTRY = `
import { runKeeper } from ${JSON.stringify(new URL("../../../src/agent/keeper/main.ts", import.meta.url).pathname)};
import { silentLogger } from ${JSON.stringify(new URL("../../../src/base/log.ts", import.meta.url).pathname)};
await (await runKeeper({ dataDir: process.argv[2], guardian: { kind: "file" }, killLeadMs: 500 }, { log: silentLogger })).done;
`;

function setUp(t: { teardown: (end: () => Promise<void> | void) => void }): {
  dataDir: string;
  start: () => Promise<string>;
  client: KeeperClient;
} {
  const dataDir = mkdtempSync(join(tmpdir(), "roost-keeper-"));
  const entry = join(dataDir, "entry.mjs");
  writeFileSync(entry, ENTRY);
  const client = new KeeperClient({ dataDir, limitMs: 2_000 });
  t.teardown(async () => {
    const status = await client.list().catch(() => null);
    client.close();
    if (status !== null) process.kill(status.pid, "SIGKILL");
    rmSync(dataDir, { recursive: true });
  });
  return {
    dataDir,
    client,
    start: () => ensureKeeper({ dataDir, command: [process.execPath, entry, dataDir], limitMs: 15_000, log: silentLogger }),
  };
}

const bytesOf = (pid: number): number => Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]) * 1_024;
const goneSoon = async (path: string): Promise<void> => {
  for (;;) {
    try {
      statSync(path);
    } catch {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};

const writtenSoon = async (path: string): Promise<void> => {
  while ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) === 0) await new Promise((resolve) => setTimeout(resolve, 10));
};

t.test("the clock and the feed's form", async (t) => {
  const clock = openBootClock();
  t.ok(clock.nowMs() > 0);
  t.match(clock.bootId, /^[0-9a-f-]{36}:\d+$/);
  t.equal(startTicks(2 ** 22 + 1), null);
  t.strictSame(parseFeed(formatFeed("b:1", { armed: true, deadlineMs: 1234.7 }), "b:1"), { armed: true, deadlineMs: 1234 });
  t.strictSame(parseFeed(formatFeed("b:1", { armed: false }), "b:1"), { armed: false });
  t.equal(parseFeed(formatFeed("b:1", { armed: true, deadlineMs: 1 }), "b:2"), null, "another boot");
  t.equal(parseFeed("rubbish", "b:1"), null);
  t.equal(formatFeed("b:1", { armed: false }).length, formatFeed("b:1", { armed: true, deadlineMs: 99_999_999 }).length);
  t.strictSame(parseGuardian("watchdog:/dev/watchdog1"), { kind: "watchdog", device: "/dev/watchdog1" });
  t.equal(parseGuardian("watchdog:/etc/passwd"), null);
});

t.test("a real keeper kills at the deadline, on its own", async (t) => {
  const { dataDir, client, start } = setUp(t);
  t.equal(await start(), "started");
  t.equal(await start(), "kept", "one a folder");
  const status = await client.list();
  t.ok(bytesOf(status.pid) < 120e6, `${Math.round(bytesOf(status.pid) / 1e6)} MB`);
  t.equal(statSync(keeperPaths(dataDir).socket).mode & 0o777, 0o600);
  const path = join(dataDir, "vm.json");
  writeFileSync(path, JSON.stringify({ vmId: "v", generation: 1 }));
  const vm = { vmId: "v", generation: 1 };
  const registration = { ...vm, revision: 1, deadline: true, recipe: { kind: "file" as const, path, ...vm } };
  t.match(await client.register(registration), { ok: false, reason: "expired" });
  const beat = await client.beat();
  const acked = await client.ack({
    bootId: beat.bootId,
    nonce: beat.nonce,
    seq: beat.seq,
    grantedMs: 1_500,
    claimRevision: 0,
    claims: null,
  });
  t.strictSame(acked, { ok: true, deadlineMs: beat.mintedAtMs + 1_500 });
  t.match(await client.register(registration), { ok: true });
  t.match(readFileSync(keeperPaths(dataDir).feed, "latin1"), `${beat.bootId} ${beat.mintedAtMs + 1_500} `);
  await goneSoon(path);
  t.ok(openBootClock().nowMs() <= beat.mintedAtMs + 1_500 + 1_000, "by the deadline, with room for a loaded machine");
  t.match(await client.confirm(vm), { ok: false, reason: "dead" });
  t.match((await client.list()).vms, [{ vmId: "v", why: "deadline" }]);
  await writtenSoon(keeperPaths(dataDir).runs);
  t.match(await readRecords(keeperPaths(dataDir).runs), [{ op: "end", ...vm, how: "ended by the keeper" }], "and it is on record");
});

t.test("a keeper that hangs is replaced, and the new one inherits the deadline", async (t) => {
  const { client, start } = setUp(t);
  await start();
  const first = await client.list();
  const beat = await client.beat();
  await client.ack({ bootId: beat.bootId, nonce: beat.nonce, seq: beat.seq, grantedMs: 60_000, claimRevision: 0, claims: null });
  const vm = { vmId: "v", generation: 1 };
  await client.register({ ...vm, revision: 1, deadline: true, recipe: { kind: "file", path: "/nowhere", ...vm } });
  process.kill(first.pid, "SIGSTOP");
  t.equal(await start(), "started");
  client.close();
  const second = await client.list();
  t.not(second.nonce, first.nonce);
  t.match(second, { deadlineMs: beat.mintedAtMs + 60_000, settled: false, armed: true, vms: [] });
  t.match(await client.ack({ bootId: beat.bootId, nonce: beat.nonce, seq: beat.seq, grantedMs: 600_000, claimRevision: 0, claims: null }), {
    ok: false,
    reason: "stranger",
  });
});

t.test("rubbish on the socket harms nobody", async (t) => {
  const { dataDir, client, start } = setUp(t);
  await start();
  const socket = connect(keeperPaths(dataDir).socket);
  socket.write("not json\n");
  await once(socket, "close");
  const other = connect(keeperPaths(dataDir).socket);
  other.write(`{"id":4,"request":{"op":"register","vmId":"../x"}}\n`);
  const [answer] = (await once(other, "data")) as [Buffer];
  t.match(JSON.parse(answer.toString()), { id: 4, answer: { ok: false, reason: "invalid" } });
  other.destroy();
  t.match(await client.list(), { vms: [] });
  t.strictSame(await client.shutdown(), { ok: true, deadlineMs: 0 });
});
