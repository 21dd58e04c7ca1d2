/**
 * The main thread of a real agent stands still for two seconds, of the leader and then of a follower, under writes: no election,
 * and the writes of the others go on, because Raft, its log and its links live in a thread of their own.
 */
import t from "tap";
import { BenchAgents, freePort } from "../support/bench-agents.ts";

// The binary takes no NODE_OPTIONS, and so no debugger.
process.env["ROOST_LAB_AGENT"] = "source";

const PAUSE_MS = 2_000;
t.setTimeout(180_000);

const ports = new Map<string, number>();
for (const name of ["n1", "n2", "n3"]) ports.set(name, await freePort());
// Through the debugger the main thread can be held up from outside, as a long garbage collection would. The keeper finds the port
// taken, and goes on without.
const agents = await BenchAgents.create((name) => ({ NODE_OPTIONS: `--inspect=127.0.0.1:${ports.get(name)}` }));
t.teardown(() => agents.close());

/** Resolves when the pause is over. */
async function pauseMain(name: string): Promise<void> {
  const targets = (await (await fetch(`http://127.0.0.1:${ports.get(name)}/json/list`)).json()) as { webSocketDebuggerUrl: string }[];
  const socket = new WebSocket(targets[0]?.webSocketDebuggerUrl ?? "");
  await new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve, { once: true });
    socket.addEventListener("error", reject, { once: true });
  });
  const answered = new Promise<void>((resolve) => socket.addEventListener("message", () => resolve(), { once: true }));
  const expression = `Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ${PAUSE_MS})`;
  socket.send(JSON.stringify({ id: 1, method: "Runtime.evaluate", params: { expression } }));
  await answered;
  socket.close();
}

interface Standing {
  leader: string;
  term: number;
}

async function standing(): Promise<Standing> {
  const { term } = JSON.parse(await agents.cli("n2", "cluster", "show", "-o", "json")) as { term: number };
  const nodes = JSON.parse(await agents.cli("n2", "node", "list", "-o", "json")) as { name: string; leader: boolean }[];
  return { leader: nodes.find((node) => node.leader)?.name ?? "", term: Number(term) };
}

for (const whose of ["leader", "follower"] as const) {
  await t.test(`the ${whose}'s main thread`, async (t) => {
    t.setTimeout(60_000);
    const before = await standing();
    const leader = before.leader;
    const paused = whose === "leader" ? leader : ["n1", "n2", "n3"].find((name) => name !== leader)!;
    const writer = ["n1", "n2", "n3"].find((name) => name !== leader && name !== paused)!;
    let over = false;
    const pausing = pauseMain(paused).then(() => (over = true));
    const gaps = await agents.puts(writer, () => over);
    await pausing;
    t.comment(`${gaps.count} writes through ${writer} while ${paused} stood still, longest gap ${gaps.longestMs.toFixed(0)} ms`);
    // Each is a proposal to the leader, an append to a majority, and applied by the writer: had any waited for the paused thread,
    // there would be one or two.
    t.ok(gaps.count > 10, "writes went on");
    t.same(await standing(), before, "no election");
    await agents.bench(paused).put("after", Buffer.from("x"));
  });
}
