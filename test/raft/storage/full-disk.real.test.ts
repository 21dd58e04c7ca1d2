/**
 * A disk that is really full (a small tmpfs), under log and state: dqlite 309 and 190, whose nodes could not start again after
 * it. The write is refused with where and what to do, and once there is room everything acknowledged is there.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { RoostError } from "../../../src/base/errors.ts";
import { StateDb } from "../../../src/cluster/state-db.ts";
import { firstMembership } from "../../../src/model/membership.ts";
import type { Entry } from "../../../src/raft/core/types.ts";
import { LevelLog } from "../../../src/raft/storage/level.ts";
import { PartialCheckpoint } from "../../../src/raft/transport/checkpoint-file.ts";
import { crc32 } from "node:zlib";

function smallDisk(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), "roost-full-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=24m", "none", folder]);
  t.teardown(() => {
    execFileSync("umount", [folder]);
    rmSync(folder, { recursive: true, force: true });
  });
  return folder;
}

/** Leaves so many bytes. */
function fill(folder: string, leave: number): string {
  const path = join(folder, "ballast");
  const { bavail, bsize } = statfsSync(folder);
  writeFileSync(path, Buffer.alloc(Math.max(0, bavail * bsize - leave), 1));
  return path;
}

const entry = (index: number): Entry => ({ term: 1, index, kind: "normal", data: new Uint8Array(10_000).fill(index) });

t.test("under the Raft log", async (t) => {
  const disk = smallDisk(t);
  const path = join(disk, "raft");
  for (const leave of [60_000, 17_000, 4_096]) {
    let log = await LevelLog.open(path);
    let acknowledged = log.lastIndex();
    await log.append({ entries: [entry(acknowledged + 1)], hardState: { term: 1, vote: 1, commit: 0 }, checkpoint: null }, true);
    acknowledged++;
    const ballast = fill(disk, leave);
    let fault: unknown = null;
    while (fault === null) {
      await log.append({ entries: [entry(acknowledged + 1)], hardState: null, checkpoint: null }, true).then(
        () => acknowledged++,
        (thrown: unknown) => (fault = thrown),
      );
    }
    t.ok(fault instanceof RoostError);
    t.match(fault, {
      fault: { kind: "unavailable", reason: new RegExp(`cannot write the Raft log in ${path}: .*[Nn]o space`) },
      hint: /free space/,
    });
    t.equal(
      await log.append({ entries: [entry(acknowledged + 1)], hardState: null, checkpoint: null }, true).catch((thrown: unknown) => thrown),
      fault,
      "after it nothing is written any more, even if there were room",
    );
    await log.close();
    // Still full: it is not opened, or it is and has everything.
    await LevelLog.open(path).then(
      async (opened) => {
        t.equal(opened.lastIndex() >= acknowledged, true);
        await opened.close();
      },
      (thrown: unknown) =>
        t.match(thrown, { fault: { kind: "unavailable", reason: /cannot open the Raft log/ }, hint: /disk is not full/ }),
    );
    rmSync(ballast);
    log = await LevelLog.open(path);
    t.ok(log.lastIndex() === acknowledged || log.lastIndex() === acknowledged + 1, `all ${acknowledged} are there, and no half of one`);
    for (let index = log.firstIndex(); index <= log.lastIndex(); index++) {
      const found = log.entries(index, index + 1, Infinity);
      if (typeof found === "string" || found[0]?.data.length !== 10_000 || found[0].data[9_999] !== index % 256) t.fail(`entry ${index}`);
    }
    await log.close();
  }
});

t.test("under the state", async (t) => {
  const disk = smallDisk(t);
  const path = join(disk, "state");
  let db = await StateDb.open(path);
  await db.load();
  const ballast = fill(disk, 300_000);
  let index = 0;
  let synced = 0;
  let fault: unknown = null;
  while (fault === null) {
    index++;
    const row = { key: `k${index}`, value: "x".repeat(5_000), index } as never;
    db.write([{ table: "bench", key: `k${index}`, row }], { index, term: 1, membership: firstMembership(1) });
    await db.sync({ index, term: 1, membership: firstMembership(1) }).then(
      () => (synced = index),
      (thrown: unknown) => (fault = thrown),
    );
  }
  t.match(fault, {
    fault: { kind: "unavailable", reason: new RegExp(`cannot write the state in ${path}: .*[Nn]o space`) },
    hint: /free space .* start the agent again/,
  });
  await db.close();
  rmSync(ballast);
  db = await StateDb.open(path);
  const { state, position } = await db.load();
  t.ok(position.index === synced || position.index === synced + 1);
  t.equal(state.bench.size, position.index, "rows and position never part");
  await db.close();
});

t.test("while a checkpoint is received", async (t) => {
  const disk = smallDisk(t);
  const path = join(disk, "inbox", "one.part");
  let partial = await PartialCheckpoint.open(path);
  const ballast = fill(disk, 700_000);
  const bytes = new Uint8Array(256 * 1024).fill(7);
  let fault: NodeJS.ErrnoException | null = null;
  for (let crc = 0; fault === null;) {
    crc = crc32(bytes, crc);
    await partial.append({ bytes, crc }).catch((thrown: NodeJS.ErrnoException) => (fault = thrown));
  }
  t.match(fault, { code: "ENOSPC" });
  t.equal(partial.chunks, 2);
  await partial.close();
  rmSync(ballast);
  partial = await PartialCheckpoint.open(path);
  t.equal(partial.chunks, 2, "it goes on from the last whole chunk");
  await partial.close();
});
