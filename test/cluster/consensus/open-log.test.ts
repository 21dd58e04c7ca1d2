/** A log and a state that are not of one moment: which of them may go on, and which must not. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { RoostError } from "../../../src/base/errors.ts";
import { openLogFor } from "../../../src/cluster/consensus/open-log.ts";
import { firstMembership, NO_MEMBERSHIP } from "../../../src/model/membership.ts";
import { LevelLog } from "../../../src/raft/storage/level.ts";

const root = await mkdtemp(join(tmpdir(), "roost-open-log-"));
t.teardown(() => rm(root, { recursive: true, force: true }));
const at = (index: number, term: number) => ({ index, term, membership: index === 0 ? NO_MEMBERSHIP : firstMembership(1) });

async function logFrom(path: string, index: number): Promise<void> {
  const log = await LevelLog.open(path, { bootstrap: { index, term: 2, confState: firstMembership(1) } });
  await log.close();
}

t.test("a state ahead of the log: the log begins anew where the state is", async (t) => {
  const path = join(root, "ahead");
  await logFrom(path, 5);
  const log = await openLogFor({ peerId: 1, bootstrap: false, position: at(24, 3) }, (options) => LevelLog.open(path, options));
  t.equal(log.firstIndex(), 25);
  t.strictSame(log.initialState().hardState, { term: 3, vote: 0, commit: 24 });
  await log.close();
});

t.test("a state of before the log begins is refused", async (t) => {
  const path = join(root, "before");
  await logFrom(path, 24);
  const refusal = await openLogFor({ peerId: 1, bootstrap: false, position: at(10, 1) }, (options) => LevelLog.open(path, options)).catch(
    (error: unknown) => error,
  );
  t.ok(refusal instanceof RoostError && refusal.fault.kind === "damaged", String(refusal));
});

t.test("a node that is no peer keeps the log of an earlier life as it is", async (t) => {
  const path = join(root, "follower");
  await logFrom(path, 5);
  const log = await openLogFor({ peerId: 7, bootstrap: false, position: at(24, 3) }, (options) => LevelLog.open(path, options));
  t.equal(log.firstIndex(), 6);
  await log.close();
});

t.test("a new node has neither", async (t) => {
  const log = await openLogFor({ peerId: 1, bootstrap: false, position: at(0, 0) }, (options) => LevelLog.open(join(root, "new"), options));
  t.equal(log.lastIndex(), 0);
  await log.close();
});
