/** What a voter tells its followers while its own log is not yet that of its state. */
import t from "tap";
import { systemClock } from "../../../src/base/clock.ts";
import { Feeds } from "../../../src/cluster/consensus/feeds.ts";
import type { PeerFrame } from "../../../src/cluster/consensus/frames.ts";
import type { Entry } from "../../../src/raft/core/types.ts";
import { MemoryLog } from "../../../src/raft/storage/memory.ts";
import { NO_MEMBERSHIP } from "../../../src/model/membership.ts";

const entry = (index: number, term: number): Entry => ({ index, term, kind: "normal", data: new Uint8Array(1) });
const follower = { peerId: 9, nodeId: "follower", address: "" };

t.test("an uncommitted tail below a checkpoint that was taken over is not fed to anybody", async (t) => {
  const log = new MemoryLog();
  // 3 to 6 of term 2 were never committed; others committed 3 to 5 in term 3, and this node's state took over a checkpoint at 5.
  log.append([1, 2].map((index) => entry(index, 1)));
  log.append([3, 4, 5, 6].map((index) => entry(index, 2)));
  const applying = { handed: { index: 5, term: 3 } };
  const fed: number[] = [];
  const feeds = new Feeds({
    peerId: 1,
    clock: systemClock,
    log,
    applying,
    silenceMs: 1_000,
    news: () => ({ leader: null, term: 3, heardMs: null }) as never,
    send: (_to, _lane, frame: PeerFrame) => {
      if (frame.kind === "feed") fed.push(...frame.feed.append.entries.map(({ term }) => term));
      return true;
    },
    sendCheckpoint: () => {},
  });
  t.equal(feeds.follow(follower, { session: 1, cursor: { index: 2, term: 1 } }), null);
  feeds.pump();
  t.equal(
    feeds.follow(follower, { session: 2, cursor: { index: 5, term: 3 } }),
    null,
    "nor is one ahead of that tail told that it is of another history",
  );
  t.same(fed, []);

  // The log begins anew at the checkpoint, and goes on.
  log.applyCheckpoint({ index: 5, term: 3, confState: NO_MEMBERSHIP, data: new Uint8Array(0) });
  log.append([entry(6, 3)]);
  applying.handed = { index: 6, term: 3 };
  feeds.pump();
  t.same(fed, [3]);
});
