/** A backup is read back as it was, or refused with the place; every bit counts. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { seededRandom } from "../../src/base/random.ts";
import { BACKUP_MAGIC, FrameReader } from "../../src/base/framed.ts";
import { asRoostError } from "../../src/base/errors.ts";
import { backupOf, readBackup } from "../../src/cluster/backup.ts";
import { digestOf, freeze } from "../../src/cluster/digest.ts";
import { systemClock } from "../../src/base/clock.ts";
import { checkpointText, CommandLog } from "../state/log.ts";

const root = await mkdtemp(join(tmpdir(), "roost-backup-"));
t.teardown(() => rm(root, { recursive: true, force: true }));

const log = CommandLog.withNodes(3);
log.running("v", "n2");
for (let i = 0; i < 900; i++) log.ok({ type: "token.create", id: `t${i}`, secretHash: "x".repeat(600), ttlMs: 1, uses: 1 });
const { state } = log;
const head = { clusterId: "c", name: "lab", generation: 1, level: 1, index: state.index, term: state.term, createdAtMs: 1, version: "1" };
const bytes = Buffer.concat([...backupOf(head, freeze(state))]);

t.test("round trip", async (t) => {
  const path = join(root, "whole");
  await writeFile(path, bytes);
  const read = await readBackup(path);
  t.same(read.head, head);
  t.equal(checkpointText(read.state), checkpointText(state));
  t.ok(bytes.length > 512 * 1024, "several pieces");
  const { signal } = new AbortController();
  t.same(await digestOf(freeze(read.state), systemClock, signal), await digestOf(freeze(state), systemClock, signal));
});

t.test("pieces of any size are read alike", (t) => {
  const reader = new FrameReader("it", BACKUP_MAGIC);
  let payload = 0;
  for (let at = 0; at < bytes.length; at += 1_009)
    payload += reader.push(bytes.subarray(at, at + 1_009)).reduce((sum, one) => sum + one.length, 0);
  reader.finish();
  t.ok(payload > 512 * 1024 && payload < bytes.length);
  t.end();
});

t.test("a flipped bit, a cut, a missing piece, something behind: refused, with the place", async (t) => {
  const seed = 1 + (Date.now() % 10_000);
  t.comment(`seed ${seed}`);
  const random = seededRandom(seed);
  const path = join(root, "damaged");
  const refusal = async (content: Uint8Array): Promise<string> => {
    await writeFile(path, content);
    return await readBackup(path).then(
      () => "read",
      (thrown: unknown) => `${asRoostError(thrown).fault.kind}: ${asRoostError(thrown).message}`,
    );
  };
  const places = [0, 3, BACKUP_MAGIC.length + 1, BACKUP_MAGIC.length + 6, bytes.length - 1, bytes.length - 33, bytes.length - 36];
  while (places.length < 60) places.push(random.below(bytes.length));
  for (const at of places) {
    const flipped = Buffer.from(bytes);
    flipped[at] = (flipped[at] ?? 0) ^ (1 << random.below(8));
    const said = await refusal(flipped);
    if (!/^damaged: backup .*damaged, at byte \d+: .* is damaged$/.test(said)) t.fail(`bit flipped at ${at}: ${said}`);
  }
  for (const length of [0, 5, 100, bytes.length >> 1, bytes.length - 1]) t.match(await refusal(bytes.subarray(0, length)), /cut off/);
  t.match(await refusal(Buffer.concat([bytes, Buffer.from("x")])), /follows its end/);
  const first = BACKUP_MAGIC.length + 1;
  const length = 8 + bytes.readUInt32BE(first);
  t.match(await refusal(Buffer.concat([bytes.subarray(0, first), bytes.subarray(first + length)])), /checksum/, "the head is gone");
  t.equal(await refusal(await readFile(join(root, "whole"))), "read");
});
