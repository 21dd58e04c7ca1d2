/** The log beside a state that may be ahead of it: at start, and when a follower becomes a peer. */
import { RoostError } from "../../base/errors.ts";
import { isPeer } from "../../model/membership.ts";
import { NO_DATA } from "../../raft/core/message.ts";
import { NONE } from "../../raft/core/types.ts";
import type { LevelLog, LevelLogOptions } from "../../raft/storage/level.ts";
import type { Position } from "../../state/state.ts";
import type { ConsensusConfig } from "./protocol.ts";

/** A node that is no peer needs no log; what is in it of an earlier life as a peer is kept for the next one. */
export async function openLogFor(
  config: Pick<ConsensusConfig, "bootstrap" | "position" | "peerId">,
  open: (options: LevelLogOptions) => Promise<LevelLog>,
): Promise<LevelLog> {
  const { index, term, membership } = config.position;
  const raftLog = await open(config.bootstrap ? { bootstrap: { index, term, confState: membership } } : {});
  if (!isPeer(membership, config.peerId)) {
    const { voters } = raftLog.initialState().confState;
    if (index === 0 && raftLog.firstIndex() > 1 && voters.length === 1 && voters[0] === config.peerId) {
      await raftLog.close();
      throw new RoostError(
        { kind: "damaged", what: `the data folder (no state, but a log from ${raftLog.firstIndex()} to ${raftLog.lastIndex()})` },
        "nobody else has this cluster's state: put the data folder's state back, or restore a backup (roost cluster restore)",
      );
    }
    return raftLog;
  }
  try {
    await alignLog(raftLog, config.position);
  } catch (thrown) {
    await raftLog.close();
    throw thrown;
  }
  return raftLog;
}

/**
 * Where the state is ahead of it (this node followed, a checkpoint was taken over, or a cluster founded, and then the process died
 * before the log knew) the log begins anew at the state's position. What it may hold there of an uncommitted tail is of a branch that
 * was never committed; a log that has the state's very entry is kept whole, for what this peer has acknowledged in it counts.
 */
export async function alignLog(raftLog: LevelLog, { index, term, membership }: Position): Promise<void> {
  const { hardState } = raftLog.initialState();
  const found = raftLog.term(index);
  if (found === term || index === 0) return;
  if (index <= Math.max(hardState.commit, raftLog.firstIndex() - 1)) {
    throw new RoostError(
      {
        kind: "damaged",
        what: `the data folder (state at index ${index} of term ${term}, log from ${raftLog.firstIndex()} to ${raftLog.lastIndex()})`,
      },
      "state and log are not of one node: move the data folder away and join the cluster again with a fresh token",
    );
  }
  const vote = hardState.term >= term ? hardState.vote : NONE;
  const beginning = { term: Math.max(hardState.term, term), vote, commit: index };
  const checkpoint = { index, term, confState: membership, data: NO_DATA };
  await raftLog.append({ entries: [], hardState: beginning, checkpoint }, true);
}
