/** The core alone: three nodes in one process, no disk and no network, messages handed over as objects. */
import { NO_DATA } from "../../../src/raft/core/message.ts";
import { RaftNode } from "../../../src/raft/core/node.ts";
import type { Message } from "../../../src/raft/core/types.ts";
import { MemoryLog } from "../../../src/raft/storage/memory.ts";

const PEERS = [1, 2, 3];
/** Keeps the logs short, as a real one is. */
const COMPACT_EVERY = 10_000;

/** Entries a second that all three have committed, proposed in batches of one size. */
export function coreEntriesPerSecond(batch: number, entries: number): number {
  const disks = PEERS.map(() => {
    const disk = new MemoryLog();
    const confState = { voters: PEERS, outgoing: [], learners: [], learnersNext: [], autoLeave: false };
    disk.applyCheckpoint({ index: 0, term: 0, confState, data: NO_DATA });
    return disk;
  });
  const nodes = PEERS.map(
    (id, i) =>
      new RaftNode({
        id,
        storage: disks[i]!,
        electionTicks: 10,
        heartbeatTicks: 1,
        random: () => 0,
        maxSizePerMessage: 1 << 20,
        maxInflightMessages: 256,
        checkQuorum: true,
        preVote: true,
      }),
  );
  const committed = [0, 0, 0];
  const settle = (): void => {
    const queue: Message[] = [];
    for (let busy = true; busy;) {
      busy = false;
      for (const [i, node] of nodes.entries()) {
        while (node.hasReady()) {
          busy = true;
          const ready = node.ready();
          if (ready.hard !== null) disks[i]!.setHardState(ready.hard);
          if (ready.entries.length > 0) disks[i]!.append(ready.entries);
          for (const m of ready.messages) queue.push(m);
          committed[i]! += ready.committed.length;
          node.advance();
        }
      }
      for (const m of queue.splice(0)) nodes[m.to - 1]?.step(m);
    }
  };
  nodes[0]!.campaign();
  settle();
  const data = new Uint8Array(100);
  const batchOf = Array.from({ length: batch }, () => data);
  const propose = (count: number): void => {
    for (let done = 0; done < count; done += batch) {
      nodes[0]!.proposeAll(batchOf);
      settle();
      const last = disks[0]!.lastIndex();
      if (last % COMPACT_EVERY < batch && last > 2 * batch) for (const disk of disks) disk.compact(last - batch);
    }
  };
  propose(entries / 10);
  const before = Math.min(...committed);
  const beganMs = performance.now();
  propose(entries);
  return ((Math.min(...committed) - before) * 1_000) / (performance.now() - beganMs);
}
