import t from "tap";
import type { Outcome } from "../../scripts/tests/command.ts";
import { runCommand } from "../../scripts/tests/command.ts";
import { closingLine, isRealTest, judgeTest, worthReading } from "../../scripts/tests/tally.ts";

const outcome = (stdout: string, ending = "exit 0"): Outcome => ({ stdout, stderr: "", ending, tookMs: 1 });

t.test("a test file is good only if it ended well and asserted something", (t) => {
  t.same(judgeTest(outcome("ok 1\n# { total: 9, pass: 9 }\n# time=1ms\n")), { tally: { passed: 9, failed: 0 }, reason: undefined });
  t.same(judgeTest(outcome("# { total: 9, pass: 7, fail: 2 }\n", "exit 1")), { tally: { passed: 7, failed: 2 }, reason: "2 of 9 failed" });
  t.same(judgeTest(outcome("# { total: 9, pass: 9 }\n", "exit 1")).tally, { passed: 9, failed: 1 }, "a crash at the very end");
  t.same(
    judgeTest(outcome("# { total: 3, pass: 2, fail: 1 }\n", "exit 0")).tally,
    { passed: 2, failed: 1 },
    "failures count whatever the exit code",
  );
  t.same(judgeTest(outcome("ok 1\nok 2\n")), { tally: { passed: 0, failed: 1 }, reason: "ended without totals" });
  t.same(judgeTest(outcome("# { total: 0, pass: 0 }\n")).reason, "asserted nothing");
  t.same(judgeTest(outcome("# { total: 1, skip: 1 }\n")), { tally: { passed: 0, failed: 0 }, reason: undefined });
  t.same(judgeTest(outcome("    # { total: 9, pass: 9 }\n")).reason, "ended without totals", "a subtest's totals are not the file's");
  t.same(judgeTest(outcome("# { total: 9, pass: 9 }\n", "timed out after 120 s")).tally.failed, 1);
  t.end();
});

t.test("failures are told without what passed", (t) => {
  t.equal(
    worthReading("# Subtest: a\n    ok 1 - x\n    not ok 2 - y\n      ---\n      at: z\n    1..2\nnot ok 1 - a\n"),
    "# Subtest: a\n    not ok 2 - y\n      ---\n      at: z\nnot ok 1 - a\n",
  );
  t.end();
});

t.test("the real tier is known by place or name", (t) => {
  t.equal(isRealTest("test/e2e/failover.test.ts"), true);
  t.equal(isRealTest("test/lab/nodes.test.ts"), true);
  t.equal(isRealTest("test/hypervisor/libvirt.real.test.ts"), true);
  t.equal(isRealTest("test/hypervisor/libvirt.test.ts"), false);
  t.end();
});

t.test("the closing line", (t) => {
  t.equal(closingLine({ passed: 12, failed: 3 }), "12 passed, 3 failed");
  t.end();
});

t.test("every ending of a command is told apart", async (t) => {
  const run = async (source: string, timeoutMs = 30_000): Promise<Outcome> =>
    runCommand([process.execPath, "-e", source], { cwd: ".", env: process.env, timeoutMs });
  t.match(await run("console.log('out'); console.error('err')"), { ending: "exit 0", stdout: "out\n", stderr: "err\n" });
  t.equal((await run("process.exit(3)")).ending, "exit 3");
  t.equal((await run("process.kill(process.pid, 'SIGKILL')")).ending, "killed by SIGKILL");
  t.equal((await run("setInterval(() => {}, 1000)", 300)).ending, "timed out after 0.3 s");
  t.match((await runCommand(["no-such-program"], { cwd: ".", env: {}, timeoutMs: 1000 })).ending, /^cannot start/);
});
