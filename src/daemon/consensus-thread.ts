/**
 * Entry of the consensus thread: makes the effects and runs the driver. The heap is small and nothing else lives here,
 * so its pauses are short; the main thread may stand still for seconds without a missed heartbeat.
 */
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { KeeperClient } from "../agent/keeper/client.ts";
import { assert } from "../base/assert.ts";
import { systemClock } from "../base/clock.ts";
import { asRoostError, RoostError } from "../base/errors.ts";
import { createLogger } from "../base/log.ts";
import { seededRandom } from "../base/random.ts";
import { ConsensusDriver, type KeeperLink } from "../cluster/consensus/driver.ts";
import type { ConsensusConfig, FromConsensus, ToConsensus } from "../cluster/consensus/protocol.ts";
import { LevelLog } from "../raft/storage/level.ts";
import { openGrpcLinks } from "../raft/transport/grpc.ts";
import { NO_DATA } from "../raft/core/message.ts";
import { NONE } from "../raft/core/types.ts";

async function run(config: ConsensusConfig, port: MessagePort): Promise<void> {
  const post = (message: FromConsensus): void => port.postMessage(message);
  const log = createLogger(
    { level: config.logLevel, nowMs: () => systemClock.wallMs(), write: (line) => process.stderr.write(`${line}\n`) },
    "consensus",
    {
      node: config.nodeId,
    },
  );
  const fatal = (error: unknown): void => {
    // Thrown outside of any promise: ends this thread with an error that the main thread ends the process on.
    setImmediate(() => {
      throw error;
    });
  };

  const raftLog = await openLog(config);
  const random = seededRandom(config.seed);
  const driver = new ConsensusDriver(config, {
    log,
    clock: systemClock,
    raftLog,
    openLinks: (events) => openGrpcLinks({ listen: config.listen, identity: config.identity, log, events }),
    keeper: config.keeperDataDir === null ? null : keeperLink(config.keeperDataDir),
    random: (limit) => random.below(limit),
    post,
    fatal,
  });
  port.on("message", (message: ToConsensus) => driver.onMessage(message));
  await driver.start();
}

/**
 * Opens the log. Where the state is ahead of it (a checkpoint was taken over, or a cluster founded, then the process died
 * before the log knew) the log begins anew at the state's position. What it may hold there of an uncommitted tail was never
 * promised to be kept by more than this peer, and the checkpoint is committed.
 */
async function openLog(config: ConsensusConfig): Promise<LevelLog> {
  const { index, term, membership } = config.position;
  const start = { index, term, confState: membership };
  const raftLog = await LevelLog.open(config.logPath, config.bootstrap ? { bootstrap: start } : {});
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

function keeperLink(dataDir: string): KeeperLink {
  const client = new KeeperClient({ dataDir });
  return {
    beat: () => client.beat(),
    async ack(ack) {
      const reply = await client.ack(ack);
      if (!reply.ok) throw new RoostError({ kind: "conflict", reason: `${reply.reason}: ${reply.detail}` });
    },
  };
}

assert(parentPort !== null, "the consensus thread is started by the daemon only");
const port = parentPort;
run(workerData as ConsensusConfig, port).catch((thrown: unknown) => {
  // An error's fault does not survive the way to the main thread by itself.
  const error = asRoostError(thrown);
  port.postMessage({ kind: "failed", message: error.message, hint: error.hint ?? "" } satisfies FromConsensus);
});
