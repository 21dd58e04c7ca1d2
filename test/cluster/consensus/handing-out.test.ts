/** What a peer hands to the state, and what it does not any more once it has ceased to be one. */
import t from "tap";
import { Applying } from "../../../src/cluster/consensus/applying.ts";
import { Lifetime } from "../../../src/cluster/consensus/effects.ts";
import { HandingOut } from "../../../src/cluster/consensus/handing-out.ts";
import type { FromConsensus } from "../../../src/cluster/consensus/protocol.ts";
import { firstMembership } from "../../../src/model/membership.ts";
import { message, NO_DATA } from "../../../src/raft/core/message.ts";
import { ManualClock } from "../../support/manual-clock.ts";

t.test("a change of membership waits for the disk; if the peer is none any more by then, the stream has brought it", async (t) => {
  for (const ceases of [false, true]) {
    const posted: FromConsensus[] = [];
    const applying = new Applying({ index: 4, term: 1, membership: firstMembership(1) }, (post) => void posted.push(post));
    let written = (): void => {};
    const clock = new ManualClock();
    const lifetime = new Lifetime(clock);
    const handingOut = new HandingOut({
      node: { applyConfEntry: () => firstMembership(2) },
      applying,
      lifetime,
      nowMs: () => clock.monotonicMs(),
      inHurry: () => true,
      commitTo: () => new Promise((resolve) => (written = resolve)),
      membershipAt: () => {},
      applied: () => {},
      failed: (thrown) => t.fail(String(thrown)),
    });
    const committed = message("storage-apply", 0, 1);
    committed.entries = [{ index: 5, term: 1, kind: "conf", data: NO_DATA }];
    handingOut.add(committed);
    t.same(posted, [], "not before the disk has it");
    if (ceases) lifetime.end();
    // As a follower it got the same entries, and more, while the disk hung.
    if (ceases) {
      applying.handOut(
        [5, 6].map((index) => ({ index, term: 1, data: NO_DATA, membership: null })),
        () => {},
      );
    }
    written();
    await new Promise(setImmediate);
    const indexes = posted.flatMap((post) => (post.kind === "apply" ? post.entries.map(({ index }) => index) : []));
    t.same(indexes, ceases ? [5, 6] : [5], "each once, in order");
  }
});

t.test("where nobody waits, what is committed gathers for 5 ms; where somebody does, it goes at once", async (t) => {
  const clock = new ManualClock();
  const posted: number[][] = [];
  const applying = new Applying({ index: 4, term: 1, membership: firstMembership(1) }, (post) => {
    if (post.kind === "apply") posted.push(post.entries.map(({ index }) => index));
  });
  const applied: number[] = [];
  const handingOut = new HandingOut({
    node: { applyConfEntry: () => firstMembership(2) },
    applying,
    lifetime: new Lifetime(clock),
    nowMs: () => clock.monotonicMs(),
    inHurry: () => false,
    commitTo: () => Promise.resolve(),
    membershipAt: () => {},
    applied: (messages) => applied.push(...messages.flatMap(({ entries }) => entries.map(({ index }) => index))),
    failed: (thrown) => t.fail(String(thrown)),
  });
  const add = (index: number): void => {
    const committed = message("storage-apply", 0, 1);
    committed.entries = [{ index, term: 1, kind: "normal", data: NO_DATA }];
    handingOut.add(committed);
  };
  const settled = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));
  clock.pass(1_000);
  add(5);
  add(6);
  clock.pass(4);
  await settled();
  t.same(posted, []);
  clock.pass(1);
  await settled();
  t.same(posted, [[5, 6]], "one batch");
  applying.applied(1);
  t.same(applied, [5, 6]);

  add(7);
  handingOut.asked();
  await settled();
  t.same(posted.at(-1), [7], "who asks ends the wait");
  add(8);
  t.same(posted.at(-1), [8], "and for a while there is none");
  clock.pass(51);
  add(9);
  await settled();
  t.same(posted.at(-1), [8]);
});
