/** The other thread of the stub program: opens a LevelDB of its own, so the addon is loaded twice in one process. */
import { parentPort, workerData } from "node:worker_threads";
import { Level } from "level";

const db = new Level<string, string>(String(workerData));

async function run(): Promise<void> {
  await db.put("from", "worker");
  parentPort?.postMessage(await db.get("from"));
  await db.close();
}

run().catch((error: unknown) => {
  throw error;
});
