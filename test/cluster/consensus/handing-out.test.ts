/** What a peer hands to the state, and what it does not any more once it has ceased to be one. */
import t from "tap";
import { Applying } from "../../../src/cluster/consensus/applying.ts";
import { HandingOut } from "../../../src/cluster/consensus/handing-out.ts";
import type { FromConsensus } from "../../../src/cluster/consensus/protocol.ts";
import { firstMembership } from "../../../src/model/membership.ts";
import { message, NO_DATA } from "../../../src/raft/core/message.ts";

t.test("a change of membership waits for the disk; if the peer is none any more by then, the stream has brought it", async (t) => {
  for (const ceases of [false, true]) {
    const posted: FromConsensus[] = [];
    const applying = new Applying({ index: 4, term: 1, membership: firstMembership(1) }, (post) => void posted.push(post));
    let written = (): void => {};
    let over = false;
    const handingOut = new HandingOut({
      node: { applyConfEntry: () => firstMembership(2) },
      applying,
      commitTo: () => new Promise((resolve) => (written = resolve)),
      membershipAt: () => {},
      applied: () => {},
      failed: (thrown) => t.fail(String(thrown)),
      over: () => over,
    });
    const committed = message("storage-apply", 0, 1);
    committed.entries = [{ index: 5, term: 1, kind: "conf", data: NO_DATA }];
    handingOut.add(committed);
    t.same(posted, [], "not before the disk has it");
    over = ceases;
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
