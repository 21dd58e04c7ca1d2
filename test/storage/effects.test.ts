import t from "tap";
import { RoostError } from "../../src/base/errors.ts";
import { FileGuard, runTool, ToolError } from "../../src/storage/effects.ts";
import { faultOf } from "./support.ts";

const options = { what: "trying", timeoutMs: 60_000 };

await t.test("a tool's output, and its ends", async (t) => {
  t.equal(await runTool("printf", ["%s", "$HOME; `id`"], options), "$HOME; `id`", "no shell in between");
  const failed = await runTool("sh", ["-c", "echo one >&2; echo two >&2; exit 3"], options).catch((error: unknown) => error);
  t.ok(failed instanceof ToolError);
  t.match(failed, { tool: "sh", message: "sh: two" });
  t.match(await faultOf(runTool("roost-no-such-tool", [], options)), {
    kind: "unavailable",
    reason: "trying needs roost-no-such-tool, which is not installed on this node",
  });
});

await t.test("time limit and signal end the process", async (t) => {
  t.match(await faultOf(runTool("sleep", ["1000"], { what: "sleeping", timeoutMs: 20 })), {
    kind: "timeout",
    what: "sleeping",
    afterMs: 20,
  });
  const stop = new AbortController();
  const running = faultOf(runTool("sleep", ["1000"], { ...options, signal: stop.signal }));
  stop.abort();
  t.match(await running, { kind: "unavailable", reason: "trying was stopped" });
  t.match(
    await faultOf(runTool("sleep", ["1000"], { ...options, signal: AbortSignal.abort() })),
    { kind: "unavailable" },
    "before it began",
  );
});

await t.test("one hanging file call shuts the door behind it until it comes back", async (t) => {
  const guard = new FileGuard({ limitMs: 20, where: "pool p" });
  t.equal(await guard.run("quick", async () => 7), 7);
  const hanging = Promise.withResolvers<number>();
  t.match(await faultOf(guard.run("reading", () => hanging.promise)), { kind: "timeout", what: "reading in pool p", afterMs: 20 });
  let tried = false;
  const next = guard.run("next", async () => (tried = true));
  t.match(await faultOf(next), { kind: "unavailable", reason: /pool p does not answer/ });
  t.notOk(tried, "no second thread is risked");
  hanging.resolve(1);
  await hanging.promise;
  t.equal(await guard.run("again", async () => 8), 8, "then it is open again");
  await t.rejects(
    guard.run("failing", () => Promise.reject(new RoostError({ kind: "internal", reason: "x" }))),
    { message: "x" },
  );
});
