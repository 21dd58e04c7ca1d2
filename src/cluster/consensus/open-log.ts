/** Opening the log beside a state that may be ahead of it. */
import { RoostError } from "../../base/errors.ts";
import { NO_DATA } from "../../raft/core/message.ts";
import { NONE } from "../../raft/core/types.ts";
import type { LevelLog, LevelLogOptions } from "../../raft/storage/level.ts";
import type { ConsensusConfig } from "./protocol.ts";

/**
 * Where the state is ahead of it (a checkpoint was taken over, or a cluster founded, then the process died
 * before the log knew) the log begins anew at the state's position. What it may hold there of an uncommitted tail was never
 * promised to be kept by more than this peer, and the checkpoint is committed.
 */
export async function openLogFor(
  config: Pick<ConsensusConfig, "bootstrap" | "position">,
  open: (options: LevelLogOptions) => Promise<LevelLog>,
): Promise<LevelLog> {
  const { index, term, membership } = config.position;
  const start = { index, term, confState: membership };
  const raftLog = await open(config.bootstrap ? { bootstrap: start } : {});
  const { hardState } = raftLog.initialState();
  const found = raftLog.term(index);
  const agrees = found === term;
  if (!agrees && index > Math.max(hardState.commit, raftLog.firstIndex() - 1)) {
    const vote = hardState.term >= term ? hardState.vote : NONE;
    const beginning = { term: Math.max(hardState.term, term), vote, commit: index };
    await raftLog.append({ entries: [], hardState: beginning, checkpoint: { ...start, data: NO_DATA } }, true);
  } else if (!agrees && index > 0) {
    await raftLog.close();
    throw new RoostError(
      {
        kind: "damaged",
        what: `the data folder (state at index ${index} of term ${term}, log from ${raftLog.firstIndex()} to ${raftLog.lastIndex()})`,
      },
      "state and log are not of one node: move the data folder away and join the cluster again with a fresh token",
    );
  }
  return raftLog;
}
