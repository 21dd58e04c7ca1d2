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
import { ConsensusDriver } from "../cluster/consensus/driver.ts";
import type { KeeperLink } from "../cluster/consensus/effects.ts";
import { openLogFor } from "../cluster/consensus/open-log.ts";
import { mainPort } from "../cluster/consensus/port.ts";
import type { ConsensusConfig, FromConsensus } from "../cluster/consensus/protocol.ts";
import { LevelLog } from "../raft/storage/level.ts";
import { checkpointInbox } from "../raft/transport/checkpoint-file.ts";
import { openGrpcLinks } from "../raft/transport/grpc.ts";

async function run(config: ConsensusConfig, port: MessagePort): Promise<void> {
  const main = mainPort(port);
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

  const raftLog = await openLogFor(config, (options) => LevelLog.open(config.logPath, { ...options, owner: config.nodeId }));
  const random = seededRandom(config.seed);
  const driver = new ConsensusDriver(config, {
    log,
    clock: systemClock,
    raftLog,
    openLinks: (events) => openGrpcLinks({ generation: config.generation, listen: config.listen, identity: config.identity, log, events }),
    inbox: checkpointInbox(config.inboxPath),
    keeper: config.keeperDataDir === null ? null : keeperLink(config.keeperDataDir),
    random: (limit) => random.below(limit),
    post: (message) => main.post(message),
    fatal,
  });
  main.onMessage((message) => driver.onMessage(message));
  await driver.start();
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
