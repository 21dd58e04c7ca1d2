import { execFile, spawn } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import t from "tap";
import type { KillRecipe } from "../../src/hypervisor/driver.ts";
import { domainName, processMark } from "../../src/hypervisor/libvirt/mark.ts";
import { ProcessTable } from "../../src/hypervisor/processes.ts";

const folder = mkdtempSync(join(tmpdir(), "roost-processes-"));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

const ref = { vmId: "0a0b0c0d-0000-4000-8000-000000000001", generation: 3 };
const recipe: KillRecipe & { kind: "libvirt" } = {
  kind: "libvirt",
  socketPath: "/nonexistent",
  uri: "qemu:///system",
  uuid: ref.vmId,
  processMark: processMark(ref),
};
const ARGV = ["-name", `guest=${domainName(ref, "web")},debug-threads=on`, "-uuid", ref.vmId];

/** A /proc with one emulator, whose files the test sets. */
function fakeProc(name: string): {
  path: string;
  stat(state: string, flags: number, startTicks?: number): void;
  cmdline(text: string): void;
} {
  const path = join(folder, name);
  mkdirSync(join(path, "7", "task", "7"), { recursive: true });
  return {
    path,
    stat: (state, flags, startTicks = 99) =>
      // Fields 3 to 22: state, five ids, flags (9), twelve of no interest, start time.
      writeFileSync(join(path, "7", "stat"), `7 (qemu-system-x86) ${state} 1 1 1 0 -1 ${flags}${" 0".repeat(12)} ${startTicks} 0 0\n`),
    cmdline: (text) => writeFileSync(join(path, "7", "cmdline"), text),
  };
}

t.test("all that ask at the same time share one look, which begins after they asked", async (t) => {
  const proc = fakeProc("shared");
  proc.stat("S", 0);
  proc.cmdline(`qemu\0${ARGV.join("\0")}\0`);
  const table = new ProcessTable(proc.path);
  const scans = Array.from({ length: 40 }, () => table.scan());
  t.equal(new Set(scans).size, 1);
  await Promise.resolve(); // it has begun: who comes now may have been missed by it
  t.not(table.scan(), scans[0]);
  t.strictSame((await scans[0])?.of(recipe), [{ pid: 7, startTicks: "99", argv: ["qemu", ...ARGV] }]);
  t.strictSame((await table.scan()).of({ ...recipe, uuid: "another" }), []);
});

t.test("a process seen before is known when it no longer says what it is, until its last thread has ended", async (t) => {
  const proc = fakeProc("dying");
  proc.stat("S", 0);
  proc.cmdline(`qemu\0${ARGV.join("\0")}\0`);
  const table = new ProcessTable(proc.path);
  t.strictSame(table.known(recipe), []);
  await table.scan();
  proc.cmdline("");
  proc.stat("Z", 4);
  mkdirSync(join(proc.path, "7", "task", "8"));
  t.match(table.known(recipe), [{ pid: 7 }]);
  t.match((await table.scan()).of(recipe), [{ pid: 7 }]);
  const stranger = await new ProcessTable(proc.path).scan();
  t.strictSame([stranger.of(recipe).length, stranger.unclear], [0, [{ pid: 7, startTicks: "99" }]], "never seen: may be anybody's");
  rmSync(join(proc.path, "7", "task", "8"), { recursive: true });
  t.strictSame(table.known(recipe), []);
  t.strictSame((await table.scan()).of(recipe), []);
  t.strictSame((await new ProcessTable(proc.path).scan()).unclear, []);
  proc.stat("S", 0, 100);
  t.strictSame(table.known(recipe), [], "the pid of another process now");
});

t.test("a thread of the kernel that is named like an emulator is none", async (t) => {
  const proc = fakeProc("kernel");
  proc.stat("I", 0x20_0000 | 4);
  proc.cmdline("");
  t.strictSame((await new ProcessTable(proc.path).scan()).unclear, []);
});

t.test("an emulator whose command line cannot be read in time is not clear, and is asked once", async (t) => {
  const proc = fakeProc("stuck");
  proc.stat("D", 0);
  const pipe = join(proc.path, "7", "cmdline");
  await promisify(execFile)("mkfifo", [pipe]); // opened for reading it waits for a writer
  const table = new ProcessTable(proc.path);
  t.match((await table.scan()).unclear, [{ pid: 7 }]);
  t.match((await table.scan()).unclear, [{ pid: 7 }]);
  writeFileSync(pipe, `qemu\0${ARGV.join("\0")}\0`);
  let found = await table.scan();
  for (; found.unclear.length > 0; found = await table.scan());
  // The one read has it; a second would have waited for another writer.
  rmSync(pipe);
  proc.cmdline(`qemu\0${ARGV.join("\0")}\0`);
  t.match((await table.scan()).of(recipe), [{ pid: 7 }]);
});

t.test("only a process that has ended counts as ended", async (t) => {
  const proc = fakeProc("fault");
  mkdirSync(join(proc.path, "7", "stat"));
  await t.rejects(new ProcessTable(proc.path).scan(), { code: "EISDIR" });
  rmSync(join(proc.path, "7", "stat"), { recursive: true });
  t.strictSame((await new ProcessTable(proc.path).scan()).of(recipe), [], "no such file: ended");
});

t.test("without free descriptors a running VM is not declared gone", async (t) => {
  const emulator = join(folder, "qemu-system-x86");
  copyFileSync("/bin/sh", emulator);
  const child = spawn(emulator, ["-c", "echo up; read line", ...ARGV], { stdio: ["pipe", "pipe", "ignore"] });
  t.teardown(() => child.kill("SIGKILL"));
  await new Promise((resolve) => child.stdout.once("data", resolve));
  const script = join(folder, "full.mjs");
  writeFileSync(
    script,
    `import { closeSync, openSync } from "node:fs";
import { isGone } from ${JSON.stringify(new URL("../../src/hypervisor/kill.ts", import.meta.url).pathname)};
const open = [];
try { for (;;) open.push(openSync("/dev/null")); } catch (error) { if (error.code !== "EMFILE") throw error; }
const free = Number(process.argv[2]);
for (let i = 0; i < free; i++) closeSync(open.pop());
const said = await isGone(${JSON.stringify(recipe)}).catch((error) => error.code);
for (const fd of open) closeSync(fd);
console.log(said);`,
  );
  // With few free ones some reads succeed: an error or the truth, never "gone".
  for (const [free, expected] of [
    ["0", /^EMFILE$/],
    ["1", /^(EMFILE|false)$/],
    ["4", /^(EMFILE|false)$/],
    ["12", /^(EMFILE|false)$/],
    ["50", /^false$/],
  ] as const) {
    const { stdout } = await promisify(execFile)("/bin/sh", [
      "-c",
      'ulimit -n 100; exec "$0" --disable-warning=ExperimentalWarning "$1" "$2"',
      process.execPath,
      script,
      free,
    ]);
    t.match(stdout.trim(), expected, `${free} free`);
  }
});
