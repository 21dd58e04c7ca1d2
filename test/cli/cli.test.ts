import { execFileSync, spawnSync } from "node:child_process";
import t from "tap";
import { resolveConfig } from "../../src/base/config.ts";
import { RoostError } from "../../src/base/errors.ts";
import { bashScript, fishScript, spotsOf, zshScript } from "../../src/cli/completion.ts";
import { buildProgram } from "../../src/cli/program.ts";
import { timeline } from "../../src/cli/timeline.ts";
import { cliHost, playAgents } from "../support/cli.ts";
import type { CliHost } from "../support/cli.ts";

const A = "name: a\ncpus: 1\nmemory: 128MiB\n";

async function host(test: Pick<typeof t, "teardown">, nodes = 1): Promise<CliHost> {
  const made = await cliHost(nodes);
  test.teardown(() => made.close());
  return made;
}

t.test("-o json of lists is an array of the documented fields", async (t) => {
  const cli = await host(t);
  t.teardown(playAgents(cli.cluster));
  cli.files.set("a.yaml", A);
  const created = await cli.run(["vm", "create", "-f", "a.yaml", "--wait", "-o", "json"]);
  t.equal(created.code, 0);
  const rows = JSON.parse((await cli.run(["vm", "list", "-o", "json"])).out) as Record<string, unknown>[];
  t.same(Object.keys(rows[0] ?? {}), [
    "id",
    "number",
    "name",
    "state",
    "node",
    "nodeId",
    "generation",
    "cpus",
    "memoryMib",
    "arch",
    "underHa",
    "desired",
    "hold",
    "wantedNode",
    "homeNode",
    "vdc",
    "pinnedCpus",
    "unpinned",
    "policies",
    "reason",
    "pendingReasons",
    "warnings",
    "labels",
    "tasks",
    "failures",
    "stateSinceMs",
    "createdAtMs",
    "revision",
  ]);
  t.match(rows[0], { name: "a", state: "running", node: "n1", cpus: 1, memoryMib: 128, wantedNode: null, generation: 2 ** 32 + 1 });
  t.same((JSON.parse(created.out) as unknown[]).length, 1);
  t.same(JSON.parse((await cli.run(["-o", "json", "pool", "list"])).out), [], "the option may come first");
  const shown = JSON.parse((await cli.run(["vm", "show", "a", "-o", "json"])).out) as {
    definition: { memory: string };
    history: unknown[];
  };
  t.equal(shown.definition.memory, "128MiB");
  t.ok(shown.history.length >= 4);
  const nodes = JSON.parse((await cli.run(["node", "list", "-o", "json"])).out) as Record<string, unknown>[];
  t.match(nodes[0], { name: "n1", state: "ready", vms: 1, zone: null, pools: [] });
  for (const words of [["cluster", "show"], ["settings", "list"], ["token", "list"], ["ha", "show"], ["events"], ["config", "explain"]]) {
    JSON.parse((await cli.run([...words, "-o", "json"])).out);
    t.equal((await cli.run([...words, "-o", "yaml"])).code, 0, words.join(" "));
  }
});

t.test("export goes back in", async (t) => {
  const cli = await host(t);
  cli.files.set("a.yaml", `${A}nics: [{bridge: br0}]\nlabels: {tier: x}\n---\n${A.replace("name: a", "name: b")}`);
  t.equal((await cli.run(["vm", "create", "-f", "a.yaml", "--stopped"])).code, 0);
  const before = await cli.run(["vm", "export", "a", "b"]);
  await cli.run(["vm", "delete", "a", "b"]);
  cli.files.set("-", before.out);
  t.equal((await cli.run(["vm", "create", "-f", "-", "--stopped"])).code, 0);
  t.equal((await cli.run(["vm", "export", "a", "b"])).out, before.out);
});

t.test("exit codes", async (t) => {
  const cli = await host(t);
  cli.files.set("a.yaml", A);
  t.equal((await cli.run(["vm", "create", "-f", "a.yaml", "--hold"])).code, 0);
  const cases: [number, string[]][] = [
    [2, []],
    [2, ["nonsense"]],
    [2, ["vm", "list", "--bogus"]],
    [0, ["--version"]],
    [0, ["vm", "--help"]],
    [3, ["vm", "show", "x"]],
    [4, ["vm", "create", "-f", "a.yaml"]],
    [4, ["settings", "set", "ha.claimMs", "1000"]],
    [6, ["vm", "start", "a", "--wait", "--timeout", "1s"]],
  ];
  for (const [code, words] of cases) t.equal((await cli.run(words, { nowMs: () => Date.now() })).code, code, words.join(" "));
  t.equal((await cli.run(["vm", "list"], { env: { ROOST_SOCKET: `${cli.folder}/none.sock` } })).code, 5, "nobody there");
  t.equal((await cli.run(["down"], { env: { ROOST_CONTEXT: "x.yaml" } })).code, 4, "down is for this host only");
});

t.test("--wait tells when the goal is missed", async (t) => {
  const cli = await host(t);
  const stop = playAgents(cli.cluster);
  cli.files.set("a.yaml", A);
  await cli.run(["vm", "create", "-f", "a.yaml", "--wait"]);
  stop();
  // The guest is asked to shut down, but somebody starts it again meanwhile.
  const { store } = cli.cluster;
  const waiting = cli.run(["vm", "shutdown", "a", "--wait"]);
  await new Promise<void>((resolve) => {
    const off = store.subscribe(({ events }) => {
      if (!events.some((event) => event.kind === "vm.desired")) return;
      off();
      resolve();
    });
  });
  const vm = [...store.view().vms.values()][0];
  if (vm?.claim === null || vm === undefined) throw new Error("no claim");
  const report = { type: "vm.report", vmId: vm.id, nodeId: vm.claim.nodeId, generation: vm.claim.generation } as const;
  await store.propose({ ...report, observed: { kind: "gone", cause: "shutdown", detail: "" } }, { actor: "node" });
  t.equal((await waiting).code, 0);
});

t.test("events --follow and vm watch print one object a line until they are interrupted", async (t) => {
  const cli = await host(t);
  cli.files.set("a.yaml", A);
  await cli.run(["vm", "create", "-f", "a.yaml", "--hold"]);
  const { store } = cli.cluster;
  const id = store.view().vmIdByName.get("a") ?? "";
  const revision = store.view().index;
  for (const words of [
    ["events", "--follow", "--from", String(revision)],
    ["vm", "watch", "a"],
  ]) {
    const abort = new AbortController();
    const lines: string[] = [];
    const ran = cli.run([...words, "-o", "json"], {
      signal: abort.signal,
      out: (text) => {
        lines.push(text);
        if (lines.length === 1)
          void store.propose(
            { type: "vm.desire", vmId: id, action: words[0] === "vm" ? "deploy" : "shutdown", nodeId: null },
            { actor: "test" },
          );
        if (lines.length === 2) abort.abort();
      },
    });
    t.equal((await ran).code, 130, words.join(" "));
    for (const line of lines) t.type(JSON.parse(line), "object");
    await store.propose({ type: "vm.desire", vmId: id, action: "start", nodeId: null }, { actor: "test" }).catch(() => {});
    await store.propose({ type: "vm.desire", vmId: id, action: "shutdown", nodeId: null }, { actor: "test" }).catch(() => {});
  }
});

t.test("a context file is found by flag, environment and name", async (t) => {
  const cli = await host(t);
  const issued = await cli.run(["context", "issue", "--endpoint", "127.0.0.1:1"]);
  t.equal(issued.code, 0);
  const path = `${cli.folder}/.config/roost/lab.yaml`;
  cli.files.set(path, issued.out);
  t.equal((await cli.run(["context", "use", "lab"])).code, 0);
  t.match((await cli.run(["context", "list"])).out, /^lab {3}\* {8}127\.0\.0\.1:1$/m);
  // The context is used, because its endpoint is what cannot be reached.
  t.match(await cli.run(["vm", "list"], { env: {} }), { code: 5, err: /127\.0\.0\.1:1/ });
  t.equal((await cli.run(["vm", "list", "--socket", cli.socket], { env: { ROOST_CONTEXT: "lab" } })).code, 0, "--socket is strongest");
  t.match(await cli.run(["vm", "list", "--context", path]), { code: 5, err: /127\.0\.0\.1:1/ });
  t.match(await cli.run(["vm", "list"], { env: { ROOST_CONTEXT: "lab" } }), { code: 5, err: /127\.0\.0\.1:1/ });
  t.equal((await cli.run(["vm", "list"])).code, 0, "ROOST_SOCKET is stronger than `context use`");
  cli.files.set("/x/bad.yaml", "endpoints: []");
  t.match(await cli.run(["vm", "list", "--context", "/x/bad.yaml"]), { code: 2, err: /no context file/ });
});

t.test("daemon commands are handed over whole", async (t) => {
  const cli = await host(t);
  await cli.run(["up", "--data", "/d", "--name", "n1", "--listen", "10.0.0.1:1234", "--foreground", "--cluster-name", "lab"]);
  cli.files.set("-", "roost1.abc\n");
  await cli.run(["join", "-", "--data", "/d", "--config", "/c.yaml"]);
  await cli.run(["keeper", "--fd", "3", "x"]);
  await cli.run(["scheduler", "explain", "--cluster", "c", "--request", "r", "--vm", "a", "--why-not", "n2"]);
  t.same(cli.handled, [
    ["up", { flags: { data: "/d", name: "n1", listen: "10.0.0.1:1234" }, configFile: null, foreground: true, clusterName: "lab" }],
    ["join", "roost1.abc", { flags: { data: "/d" }, configFile: "/c.yaml", foreground: false, witness: false }],
    ["keeper", ["--fd", "3", "x"]],
    ["explain", { cluster: "c", request: "r" }, { vm: "a", whyNot: "n2" }],
  ]);
});

t.test("down stops the local agent", async (t) => {
  const cli = await host(t);
  t.equal((await cli.run(["down", "--park", "2m"])).code, 0);
  t.equal((await cli.run(["down", "--no-park"])).code, 0);
  t.same(cli.cluster.stops, [
    { parkMs: 120_000, actor: "user:root@n1" },
    { parkMs: 0, actor: "user:root@n1" },
  ]);
});

t.test("options: file < environment < flag", async (t) => {
  const { values, sources } = resolveConfig({
    file: { zone: "a", name: "f", driver: "libvirt" },
    env: { ROOST_NAME: "e", ROOST_DRIVER: "simulated" },
    flags: { name: "g" },
  });
  t.match(values, { zone: "a", name: "g", driver: "simulated", data: "/var/lib/roost" });
  t.match(sources, { zone: "file", name: "flag", driver: "environment", data: "default" });
  try {
    resolveConfig({ file: { nam: 1 }, env: { ROOST_DRIVER: "xen" }, flags: { data: "rel" } });
    t.fail("must be refused");
  } catch (error) {
    if (!(error instanceof RoostError) || error.fault.kind !== "invalid") throw error;
    t.same(error.fault.violations.map((violation) => violation.field).toSorted(), ["--data", "ROOST_DRIVER", "config file: nam"]);
  }
});

t.test("completion knows every word of the program", async (t) => {
  const cli = await host(t);
  cli.files.set("a.yaml", A);
  await cli.run(["vm", "create", "-f", "a.yaml", "--hold"]);
  t.equal((await cli.run(["__complete", "vms"])).out, "a\n");
  t.equal((await cli.run(["__complete", "nodes"])).out, "n1\n");
  t.equal((await cli.run(["__complete", "vms"], { env: { ROOST_SOCKET: "/none" } })).out, "", "silent without a cluster");
  const bash = (await cli.run(["completion", "bash"])).out;
  t.equal(spawnSync("bash", ["-n"], { input: bash }).status, 0, "bash -n");
  const complete = (words: string[]): string[] => {
    const script = `${bash}
roost() { [ "$1 $2" = "__complete vms" ] && echo "web db"; }
COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length - 1}; _roost; printf '%s\\n' "\${COMPREPLY[@]}"`;
    return execFileSync("bash", ["-c", script], { encoding: "utf8" })
      .trim()
      .split("\n")
      .filter((word) => word !== "");
  };
  t.same(complete(["roost", "vm", "st"]), ["start"]);
  t.same(complete(["roost", "-o", "json", "vm", "force"]), ["force-shutdown", "force-restart"]);
  t.same(complete(["roost", "vm", "show", ""]), ["web", "db"]);
  t.same(complete(["roost", "vm", "list", "-o", "w"]), ["wide"]);
  t.same(complete(["roost", "vm", "create", "--st"]), ["--stopped", "--stale"]);
  const program = buildProgram({ io: cli.io, handlers: {} as never, listDir: async () => [] });
  const words = spotsOf(program).flatMap((spot) => [...spot.subcommands, ...spot.options].map(({ name }) => name));
  t.ok(words.length > 100);
  const scripts = { bash: bashScript(program), zsh: zshScript(program), fish: fishScript(program) };
  for (const [shell, script] of Object.entries(scripts)) {
    for (const word of new Set(words)) if (!script.includes(word.replace(/^--/, ""))) t.fail(`${shell} lacks ${word}`);
  }
  for (const hidden of ["keeper", "daemon", "__complete"]) t.notOk(words.includes(hidden), `${hidden} stays hidden`);
});

t.test("colours only on a terminal that wants them", async (t) => {
  const cli = await host(t);
  const esc = "\u001b[";
  t.notOk((await cli.run(["node", "list"])).out.includes(esc));
  t.ok((await cli.run(["node", "list"], { isTerminal: true })).out.includes(esc));
  t.notOk((await cli.run(["node", "list"], { isTerminal: true, env: { ...cli.io.env, NO_COLOR: "1" } })).out.includes(esc));
});

t.test("the time line of a failover, against its budget", async (t) => {
  const cli = await host(t);
  const base = { vmId: "v", vmName: "web", fromNode: "n1", toNode: "n2", proofKind: "expiry", proof: "4300 ms > 4250", budgetMs: 4_750 };
  const text = timeline(cli.io, {
    ...base,
    lastHeartbeatMs: 10_000,
    suspectMs: 11_500,
    proofMs: 14_300,
    plannedMs: 14_350,
    startedMs: 14_600,
    runningMs: 15_000,
  });
  t.equal(
    text,
    `web  n1 → n2  started within 4.60s of 4.75s budget
     +0.00s  last heartbeat of n1
     +1.50s  suspect
     +4.30s  proof by expiry: 4300 ms > 4250
     +4.35s  planned on n2
     +4.60s  started on n2
     +5.00s  running on n2
`,
  );
  t.match(
    timeline(cli.io, { ...base, lastHeartbeatMs: 10_000, suspectMs: 0, proofMs: 14_300, plannedMs: 0, startedMs: 0, runningMs: 0 }),
    /not started yet; budget 4\.75s/,
  );
  t.match(
    timeline(cli.io, {
      ...base,
      lastHeartbeatMs: 10_000,
      suspectMs: 0,
      proofMs: 14_300,
      plannedMs: 14_500,
      startedMs: 15_000,
      runningMs: 0,
    }),
    /\+0\.25s over/,
  );
});

t.test("cluster bench counts what was confirmed, and says what it needs", async (t) => {
  const made = await host(t);
  const off = await made.run(["cluster", "bench"]);
  t.equal(off.code, 4);
  t.match(off.err, /roost settings set bench.enabled true/);
  await made.run(["settings", "set", "bench.enabled", "true"]);
  for (const reads of [false, true]) {
    const ran = await made.run(["cluster", "bench", "--clients", "2", "--seconds", "1", "-o", "json", ...(reads ? ["--reads"] : [])]);
    const result = JSON.parse(ran.out) as { clients: number; reads: boolean; requests: number; perSecond: number };
    t.match(result, { clients: 2, seconds: 1, sizeBytes: 100, reads });
    t.ok(result.requests > 0 && result.perSecond > 0);
  }
  t.equal((await made.run(["cluster", "bench", "--clients", "0"])).code, 2);
});
