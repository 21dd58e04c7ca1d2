/** A rolling upgrade (RAFT-7): a binary one feature level behind beside this version, in one cluster. */
import { existsSync } from "node:fs";
import { mkdir, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import { buildBinary } from "../../scripts/bundle.ts";
import { WORKERS } from "../../src/base/worker.ts";
import { PROGRAM_LEVEL } from "../../src/state/levels.ts";
import { type Host, Hosts } from "../support/hosts.ts";

t.setTimeout(300_000);

const ROOT = join(import.meta.dirname, "..", "..");

/** Built once, and again when a source has changed since. */
async function oldBinary(): Promise<string> {
  const folder = join(ROOT, "dist", `level-${PROGRAM_LEVEL - 1}`);
  const out = join(folder, "roost");
  const builtMs = existsSync(out) ? (await stat(out)).mtimeMs : 0;
  const files = await readdir(join(ROOT, "src"), { recursive: true, withFileTypes: true });
  const changedMs = await Promise.all(
    files.filter((file) => file.isFile()).map(async (file) => (await stat(join(file.parentPath, file.name))).mtimeMs),
  );
  if (Math.max(...changedMs) > builtMs) {
    await mkdir(folder, { recursive: true });
    const workers = Object.fromEntries(Object.entries(WORKERS).map(([name, path]) => [name, join(ROOT, "src", "base", path)]));
    await buildBinary({ main: join(ROOT, "src", "main.ts"), out, workers, level: PROGRAM_LEVEL - 1 });
  }
  return out;
}

async function levelOf(host: Host): Promise<{ level: number; levelHeldBackBy: string[] }> {
  return JSON.parse(await host.must("cluster", "show", "-o", "json")) as { level: number; levelHeldBackBy: string[] };
}

t.test("node by node: the gate opens with the last one, and the old program is refused from then on", async (t) => {
  const old = [await oldBinary()];
  const hosts = await Hosts.create();
  t.teardown(() => hosts.close());
  const n1 = await hosts.add("n1", old);
  await n1.up();
  const n2 = await hosts.add("n2", old);
  await n2.join(n1);
  const n3 = await hosts.add("n3", old);
  await n3.join(n1);
  t.equal((await levelOf(n1)).level, PROGRAM_LEVEL - 1);

  const sources = (await hosts.add("sources")).program;
  for (const host of [n1, n2]) {
    await host.kill();
    host.program = sources;
    await host.up();
    await host.until("able to change things", async () => (await host.roost("token", "create", "--timeout", "3s")).code === 0);
  }
  await n1.until("held back by n3 only", async () => (await levelOf(n1)).levelHeldBackBy.join() === "n3");
  const refused = await n1.roost("cluster", "verify");
  t.equal(refused.code, 4);
  t.match(refused.err, /needs level 2, the cluster is at level 1: n3 cannot do more/);
  t.match(refused.err, /upgrade roost on n3/);

  await n3.kill();
  n3.program = sources;
  await n3.up();
  await n1.until("at the new level", async () => (await levelOf(n1)).level === PROGRAM_LEVEL);
  const verified = JSON.parse(await n1.must("cluster", "verify", "-o", "json")) as { nodes: { node: string; result: string }[] };
  t.same(
    verified.nodes.map(({ node, result }) => `${node} ${result}`),
    ["n1 same", "n2 same", "n3 same"],
  );

  const late = await hosts.add("n4", old);
  const token = (await n1.must("token", "create")).trim();
  t.match(
    (await late.roost("join", token, ...late.place, "--foreground", "--driver", "simulated", "--guardian", "none")).err,
    /can apply level 1 only/,
  );

  await n3.kill();
  await n1.must("cluster", "verify", "--timeout", "5s");
  n3.program = old;
  n3.log = "";
  t.equal(await n3.upToItsEnd(), 70);
  t.match(n3.log, /this roost \(level 1\) is too old for the cluster/);
  t.match(n3.log, /install the version of roost that the other nodes run/);
  n3.program = sources;
  await n3.up();
  await n3.until("there again, with nothing lost", async () => (await n3.must("cluster", "verify", "--timeout", "10s")).includes("n3"));
});
