/** The wheel: a small program built like roost runs from an empty folder, with gRPC, its protos, LevelDB and a worker thread. */
import { type ExecFileSyncOptionsWithStringEncoding, execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import t from "tap";

const HERE = import.meta.dirname;
const folder = t.testdir({ empty: {}, data: {} });
const binary = join(folder, "stub");
const options: ExecFileSyncOptionsWithStringEncoding = { cwd: join(folder, "empty"), env: {}, encoding: "utf8", timeout: 60_000 };
const run = (...args: string[]): string => execFileSync(binary, args, options);

execFileSync(
  process.execPath,
  ["scripts/bundle.ts", "--main", join(HERE, "stub/main.ts"), "--worker", `consensus=${join(HERE, "stub/worker.ts")}`, "--out", binary],
  { cwd: join(HERE, "../../.."), stdio: "ignore", timeout: 120_000 },
);

t.test("it names its version, commit and Node", (t) => {
  t.match(run("--version"), /^roost \d+\.\d+\.\d+ \(commit [0-9a-f]{7}(-dirty)?\) node v24\.\d+\.\d+\n$/);
  t.end();
});

t.test("gRPC, reflection and health find their embedded protos", (t) => {
  t.equal(run("grpc"), 'health {"status":"SERVING"}\n');
  t.end();
});

t.test("LevelDB opens on the main thread and in a worker", (t) => {
  const data = join(folder, "data");
  t.equal(run("level", data), "level main\nlevel worker\n");
  t.equal(readdirSync(join(data, "addons")).length, 1);
  t.end();
});

t.test("NODE_OPTIONS cannot put code into it", (t) => {
  const result = spawnSync(binary, ["--version"], { ...options, env: { NODE_OPTIONS: "--require /nowhere/evil.js" } });
  t.equal(result.status, 0);
  t.match(result.stdout, /^roost /);
  t.end();
});

t.test("a data folder mounted noexec is named as the cause", { skip: process.getuid?.() !== 0 ? "needs root to mount" : false }, (t) => {
  const mount = join(folder, "noexec");
  mkdirSync(mount);
  execFileSync("mount", ["-t", "tmpfs", "-o", "noexec,size=8m", "roost-test", mount]);
  t.teardown(() => execFileSync("umount", [mount]));
  const result = spawnSync(binary, ["level", mount], options);
  t.equal(result.status, 1);
  t.match(result.stderr, /cannot load native code/);
  t.match(result.stderr, /NODE_MODULE|failed to map|noexec/i);
  t.end();
});
