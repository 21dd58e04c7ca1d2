/** Each wall the linter keeps, shown to stop something: our configuration over a made-up source tree. */
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import t from "tap";

const ROOT = join(import.meta.dirname, "../..");
// Not t.testdir: the linter passes over what git ignores.
const folder = mkdtempSync(join(tmpdir(), "roost-lint-"));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
copyFileSync(join(ROOT, ".oxlintrc.json"), join(folder, ".oxlintrc.json"));
copyFileSync(join(ROOT, "tsconfig.json"), join(folder, "tsconfig.json"));
writeFileSync(join(folder, "package.json"), '{"type":"module"}');
symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));

interface Case {
  name: string;
  file: string;
  source: string;
  /** Rule that must object; undefined: none may. */
  rule: string | undefined;
  other?: Record<string, string>;
}

const B = {
  "src/cluster/b.ts": "export const b = 1;\n",
  "src/base/b.ts": "export const b = 1;\n",
  "src/raft/storage/b.ts": "export const b = 1;\n",
};

const CASES: Case[] = [
  {
    name: "down a floor",
    file: "src/tasks/a.ts",
    source: 'import { b } from "../cluster/b.ts";\nexport const a = b;\n',
    rule: undefined,
    other: B,
  },
  {
    name: "up a floor",
    file: "src/raft/a.ts",
    source: 'import { b } from "../cluster/b.ts";\nexport const a = b;\n',
    rule: "no-restricted-imports",
    other: B,
  },
  {
    name: "up a floor for a type only",
    file: "src/raft/a.ts",
    source: 'import type { b } from "../cluster/b.ts";\nexport type A = typeof b;\n',
    rule: "no-restricted-imports",
    other: B,
  },
  {
    name: "up a floor from two folders down",
    file: "src/raft/core/roles/a.ts",
    source: 'import { b } from "../../../cluster/b.ts";\nexport const a = b;\n',
    rule: "no-restricted-imports",
    other: B,
  },
  {
    name: "a room's own storage",
    file: "src/raft/log/a.ts",
    source: 'import { b } from "../storage/b.ts";\nexport const a = b;\n',
    rule: undefined,
    other: B,
  },
  {
    name: "node: in a pure room",
    file: "src/raft/core/a.ts",
    source: 'import { join } from "node:path";\nexport const a = join;\n',
    rule: "no-restricted-imports",
  },
  {
    name: "node: in a pure file",
    file: "src/ha/detector.ts",
    source: 'import { join } from "node:path";\nexport const a = join;\n',
    rule: "no-restricted-imports",
  },
  {
    name: "node: in another file",
    file: "src/ha/fencer.ts",
    source: 'import { join } from "node:path";\nexport const a = join;\n',
    rule: undefined,
  },
  { name: "the time in a pure room", file: "src/state/a.ts", source: "export const a = Date.now();\n", rule: "no-restricted-globals" },
  {
    name: "a timer in a pure room",
    file: "src/scheduler/filters/a.ts",
    source: "setTimeout(() => {}, 1);\nexport {};\n",
    rule: "no-restricted-globals",
  },
  { name: "chance in a pure room", file: "src/model/a.ts", source: "export const a = Math.random();\n", rule: "no-restricted-properties" },
  {
    name: "a floating promise",
    file: "src/daemon/a.ts",
    source: "export function a(b: () => Promise<void>): void {\n  b();\n}\n",
    rule: "no-floating-promises",
  },
  { name: "any", file: "src/daemon/a.ts", source: "export const a: any = 1;\n", rule: "no-explicit-any" },
  {
    name: "a cycle",
    file: "src/daemon/a.ts",
    source: 'import { b } from "./b.ts";\nexport const a = (): number => b();\n',
    rule: "no-cycle",
    other: { "src/daemon/b.ts": 'import { a } from "./a.ts";\nexport const b = (): number => a();\n' },
  },
  {
    name: "a switch that forgets a case",
    file: "src/daemon/a.ts",
    source: 'export function a(b: "x" | "y"): void {\n  switch (b) {\n    case "x":\n      break;\n  }\n}\n',
    rule: "switch-exhaustiveness-check",
  },
];

for (const { name, file, source, rule, other } of CASES) {
  t.test(name, (t) => {
    rmSync(join(folder, "src"), { recursive: true, force: true });
    for (const [path, text] of Object.entries({ ...other, [file]: source })) {
      mkdirSync(dirname(join(folder, path)), { recursive: true });
      writeFileSync(join(folder, path), text);
    }
    const { stdout, status } = spawnSync("oxlint", ["--type-aware", "src"], { cwd: folder, encoding: "utf8", timeout: 60_000 });
    const rules = [...new Set([...stdout.matchAll(/\w+\(([\w-]+)\):/g)].map((match) => match[1]))];
    t.same(rules, rule === undefined ? [] : [rule], stdout);
    t.equal(status, rule === undefined ? 0 : 1);
    t.end();
  });
}
