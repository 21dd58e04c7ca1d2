/** The house kept honest: each check is first shown failing on a made-up text, then run over the repository. */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join, posix } from "node:path";
import t from "tap";
import { WORKERS } from "../src/base/worker.ts";
import {
  deadFindings,
  eagerPackages,
  floorFindings,
  importsOf,
  linkFindings,
  purityFindings,
  sizeFindings,
  withoutTexts,
  wordFindings,
} from "../scripts/tidy/checks.ts";
import { FLOORS, isPure, visibleFrom } from "../scripts/tidy/floors.ts";
import { completeLock, type Lock, lockGaps } from "../scripts/tidy/lock.ts";
import { lintConfigText } from "../scripts/tidy/lintrc.ts";

const ROOT = join(import.meta.dirname, "..");
const ENTRIES = ["src/main.ts", ...Object.values(WORKERS).map((path) => posix.join("src/base", path))];

/** Files of the repository that git knows or would add. */
function repository(): Map<string, string> {
  const listed = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: ROOT, encoding: "utf8" });
  const paths = listed.split("\0").filter((path) => path !== "" && existsSync(join(ROOT, path)));
  return new Map(paths.map((path) => [path, readFileSync(join(ROOT, path), "utf8")]));
}

const FILES = repository();
const made = (entries: Record<string, string>): Map<string, string> => new Map(Object.entries(entries));

t.test("imports are found in every form", (t) => {
  const source = [
    'import type { A } from "./a.ts";',
    "import { B,",
    '  type C } from "../b.ts";',
    'import "./c.ts";',
    'export * from "./d.ts";',
    'export type { E } from "./e.ts";',
    'const f = await import("./f.ts");',
    'const text = "from nowhere";',
  ].join("\n");
  t.same(importsOf(source), [
    { specifier: "./a.ts", typeOnly: true, lazy: false },
    { specifier: "../b.ts", typeOnly: false, lazy: false },
    { specifier: "./c.ts", typeOnly: false, lazy: false },
    { specifier: "./d.ts", typeOnly: false, lazy: false },
    { specifier: "./e.ts", typeOnly: true, lazy: false },
    { specifier: "./f.ts", typeOnly: false, lazy: true },
  ]);
  t.end();
});

t.test("floors: down is seen; sideways, up and outside are not", (t) => {
  const check = (path: string, specifier: string): string[] => floorFindings(made({ [path]: `import { x } from "${specifier}";` }));
  t.same(check("src/tasks/log.ts", "../cluster/store.ts"), []);
  t.same(check("src/raft/core/step.ts", "./log.ts"), []);
  t.same(check("src/raft/core/step.ts", "../../storage/dir.ts"), [
    "src/raft/core/step.ts: raft does not see storage (../../storage/dir.ts)",
  ]);
  t.same(check("src/raft/core/step.ts", "../storage/level.ts"), [], "raft's own storage is not the floor's storage");
  t.equal(check("src/model/vm.ts", "../cluster/store.ts").length, 1);
  t.equal(check("src/cli/vm.ts", "../model/vm.ts").length, 1, "the command line sees base and gen only");
  t.same(check("src/cli/vm.ts", "../gen/descriptor.ts"), []);
  t.equal(check("src/daemon/daemon.ts", "../main.ts").length, 1);
  t.equal(check("src/model/vm.ts", "../../scripts/gen.ts").length, 1);
  t.equal(check("src/attic/vm.ts", "./x.ts").length, 1, "an unknown folder is on no floor");
  t.same(visibleFrom("model"), ["base"]);
  t.same(visibleFrom("raft"), ["gen", "base", "model"]);
  t.equal(check("src/scheduler/plan.ts", "../gen/descriptor.ts").length, 1, "generated types stop at the converters");
  t.same(floorFindings(FILES), []);
  t.end();
});

t.test("purity: no time, chance, effects, async or node: modules, not even through others", (t) => {
  const check = (source: string, others: Record<string, string> = {}): number =>
    purityFindings(made({ "src/model/a.ts": source, ...others })).length;
  t.equal(check("export const a = 1; // Date and await in a comment"), 0);
  t.equal(check('export const a = "new Date()";'), 0);
  t.equal(check("const a = Date.now();"), 1);
  t.equal(check("const a: Date | undefined = undefined;"), 1);
  t.equal(check("const a = `${Date.now()}`;"), 1, "code inside a template is code");
  t.equal(check("const a = Math.random();"), 1);
  t.equal(check("setTimeout(f, 1);"), 1);
  t.equal(check("async function f() {}"), 1);
  t.equal(check("const f = async () => 1;"), 1);
  t.equal(check("class A { async run() {} }"), 1);
  t.equal(check("await f();"), 1);
  t.equal(check("const a = { async: true, b: c.async, asyncWrites: awaits };"), 0);
  t.equal(check("const a = Buffer.alloc(1);"), 1);
  t.equal(check("const a = command.process; const b = { performance: 1 };"), 0, "fields may be called so");
  t.equal(check('import { join } from "node:path";'), 1);
  t.equal(check('import { b } from "../base/b.ts";', { "src/base/b.ts": 'import "node:fs";' }), 1, "through another module");
  t.equal(check('import type { b } from "../base/b.ts";', { "src/base/b.ts": 'import "node:fs";' }), 0, "types load nothing");
  t.equal(isPure("ha/detector.ts") && isPure("raft/core/step.ts") && !isPure("ha/fencer.ts") && !isPure("raft/storage/level.ts"), true);
  t.same(purityFindings(FILES), []);
  t.end();
});

t.test("texts are blanked out, code and line numbers are not", (t) => {
  t.equal(withoutTexts("a // b\nc"), "a     \nc");
  t.equal(withoutTexts("a /* b\n */ c"), "a     \n    c");
  t.equal(withoutTexts('a("b\\"c") + d'), "a(      ) + d");
  t.equal(withoutTexts("`a${b + { c: 1 }.c}d` + e"), "    b + { c: 1 }.c    + e");
  t.end();
});

t.test("file sizes", (t) => {
  t.same(sizeFindings(made({ "src/a.ts": "x\n".repeat(600), "src/x.gen.ts": "x\n".repeat(9000), "src/gen/y.ts": "x\n".repeat(9000) })), []);
  t.same(sizeFindings(made({ "src/a.ts": "x\n".repeat(601) })), ["src/a.ts: 601 lines, more than 600"]);
  t.same(sizeFindings(FILES), []);
  t.end();
});

t.test("links in Markdown lead somewhere", (t) => {
  const exists = (path: string): boolean => path === "docs/B.md";
  const check = (text: string): string[] => linkFindings(made({ "docs/A.md": text }), exists);
  t.same(check("[b](B.md) [b](./B.md#part) [up](../docs/B.md) [web](https://example.org/x) [here](#part) `[c](C.md)`"), []);
  t.same(check("```\n[c](C.md)\n```\n"), []);
  t.same(check("see [c](C.md)"), ["docs/A.md: C.md leads nowhere"]);
  t.equal(check("[out](../../outside.md)").length, 1);
  t.same(
    linkFindings(FILES, (path) => existsSync(join(ROOT, path))),
    [],
  );
  t.end();
});

t.test("words that may not be here", (t) => {
  const found = (path: string, text: string): boolean => wordFindings(made({ [path]: text })).length > 0;
  t.equal(found("docs/a.md", "cd /wo" + "rk/main"), true);
  t.equal(found("docs/a.md", "cd /ho" + "me/jo/roost"), true);
  t.equal(found("package-lock.json", "https://regis" + "try.example.com/x"), true);
  t.equal(found("package-lock.json", "https://registry.npmjs.org/x"), false);
  t.equal(found("test/a.test.ts", "t.on" + "ly(1)"), true);
  t.equal(found("test/a.test.ts", "t.test('x', { sk" + "ip: true })"), true);
  t.equal(found("test/a.test.ts", "t.test('x', { sk" + 'ip: "later" })'), true);
  t.equal(found("test/a.test.ts", 'if (!root) return { skip: "not root" };'), false);
  t.equal(found("scripts/a.ts", "`/proc/${pid}/root/run/x`"), false, "another process's root folder");
  t.equal(found("test/a.test.ts", "t.test('x', { skip: root ? false : 'why' })"), false, "a condition is allowed");
  t.equal(found("src/state/appliers/a.ts", "const row = { ...vm, claim: null };"), true, "a claim ends by model/claim.ts only");
  t.same(wordFindings(FILES), []);
  t.end();
});

t.test("every source file is reached from an entry", (t) => {
  const files = made({
    "src/main.ts": 'await import("./a/b.ts");',
    "src/a/b.ts": 'import type { C } from "./c.ts";',
    "src/a/c.ts": "",
    "src/gen/x.ts": "",
  });
  t.same(deadFindings(files, ["src/main.ts"]), []);
  t.same(deadFindings(new Map([...files, ["src/a/d.ts", ""]]), ["src/main.ts"]), ["src/a/d.ts: reached from no entry"]);
  t.same(deadFindings(files, ["src/main.ts", "src/other.ts"]), ["src/other.ts: an entry that does not exist"]);
  t.same(deadFindings(FILES, ENTRIES), []);
  t.end();
});

t.test("the program starts without packages, and so does the keeper", (t) => {
  const files = made({
    "src/main.ts": 'import { a } from "./a.ts"; ',
    "src/a.ts": 'import type { T } from "heavy-types";\nimport "node:fs";\nimport { b } from "heavy";\nawait import("lazy");',
  });
  t.same(eagerPackages(files, "src/main.ts"), ["heavy (by src/a.ts)"]);
  for (const entry of ["src/main.ts", "src/agent/keeper/main.ts"]) {
    t.ok(FILES.has(entry), entry);
    t.same(eagerPackages(FILES, entry), [], entry);
  }
  t.end();
});

t.test("the lock has the native parts of every platform", (t) => {
  const gap: Lock = {
    packages: { "": {}, "node_modules/a": { dev: true, optionalDependencies: { "@a/binding-linux-x64-musl": "1.2.3" } } },
  };
  t.same(lockGaps(gap), [{ name: "@a/binding-linux-x64-musl", version: "1.2.3", dev: true }]);
  t.same(completeLock(gap).packages["node_modules/@a/binding-linux-x64-musl"], {
    version: "1.2.3",
    cpu: ["x64"],
    dev: true,
    libc: ["musl"],
    optional: true,
    os: ["linux"],
  });
  t.same(lockGaps(completeLock(gap)), []);
  t.same(lockGaps(JSON.parse(FILES.get("package-lock.json") ?? "") as Lock), [], "run `node scripts/tidy/lock.ts`");
  t.end();
});

t.test("the linter knows the same floors", (t) => {
  t.equal(FILES.get(".oxlintrc.json"), lintConfigText(), "run `node scripts/tidy/lintrc.ts`");
  t.equal(new Set(FLOORS.flat()).size, FLOORS.flat().length, "no folder is on two floors");
  t.end();
});
