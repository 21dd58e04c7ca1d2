import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import type { Identity } from "../../src/cluster/identity.ts";
import { loadIdentity, saveIdentity } from "../../src/cluster/identity.ts";

const root = await mkdtemp(join(tmpdir(), "roost-identity-"));
t.teardown(() => rm(root, { recursive: true, force: true }));

const identity = (name: string): Identity => ({
  clusterId: "c",
  clusterName: "lab",
  nodeId: "n",
  peerId: 1,
  name,
  zone: "",
  labels: { rack: "1" },
  apiListen: "0.0.0.0:7710",
  peerListen: "0.0.0.0:7711",
  apiAddress: "10.0.0.1:7710",
  peerAddress: "10.0.0.1:7711",
  tls: { ca: "ca", cert: "cert", key: "a private key" },
  peers: [],
  founding: { caKey: "the CA's key" },
  joining: null,
});
const mode = async (path: string): Promise<string> => ((await stat(path)).mode & 0o777).toString(8);

t.test("there and back, readable by its owner only, whatever the umask", async (t) => {
  const data = join(root, "new", "folder");
  const before = process.umask(0);
  t.teardown(() => void process.umask(before));
  t.equal(await loadIdentity(data), null);
  await saveIdentity(data, identity("n1"));
  t.same(await loadIdentity(data), identity("n1"));
  t.equal(await mode(join(data, "identity.json")), "600");
  t.equal(await mode(data), "700");
});

t.test("a folder that others may read is closed, and so is a file that an earlier attempt left", async (t) => {
  const data = join(root, "open");
  await mkdir(data, { mode: 0o755 });
  await chmod(data, 0o755);
  await writeFile(join(data, "identity.json.new"), "half of", { mode: 0o644 });
  await saveIdentity(data, identity("n1"));
  t.equal(await mode(data), "700");
  t.equal(await mode(join(data, "identity.json")), "600", "it holds keys");
  t.same(await readdir(data), ["identity.json"]);
});

t.test("whoever reads while it is written sees the old or the new, never half of it", async (t) => {
  const data = join(root, "atomic");
  await saveIdentity(data, identity("n0"));
  let writing = true;
  const seen = new Set<string>();
  const reader = (async () => {
    while (writing) seen.add((await loadIdentity(data))?.name ?? "nothing");
  })();
  for (let i = 1; i <= 20; i++) await saveIdentity(data, identity(`n${i}`));
  writing = false;
  await reader;
  for (const name of seen) t.match(name, /^n\d+$/);
  t.equal((await loadIdentity(data))?.name, "n20");
});

t.test("a damaged one is refused, not taken for none: another cluster would be founded over it", async (t) => {
  const data = join(root, "damaged");
  await saveIdentity(data, identity("n1"));
  const path = join(data, "identity.json");
  const text = await readFile(path, "utf8");
  for (const bad of ["", text.slice(0, -3), text.slice(5), "null", "7", "[]", "{}"]) {
    await writeFile(path, bad);
    t.match(
      await loadIdentity(data).catch((error: unknown) => error),
      { fault: { kind: "damaged", what: path }, hint: /join the cluster again/ },
      JSON.stringify(bad.slice(0, 10)),
    );
  }
  await rm(path);
  await mkdir(path);
  t.match(await loadIdentity(data).catch((error: unknown) => error), { fault: { kind: "precondition", reason: /cannot read/ } });
});
