/**
 * Writes .oxlintrc.json from the floor table, so that editors and the linter know the floors without a second copy kept by hand:
 *
 *   node scripts/tidy/lintrc.ts     (the tidy test says when it is needed)
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { FLOORS, IMPURE_GLOBALS, PURE, visibleFrom } from "./floors.ts";

type Rules = Record<string, unknown>;
interface Override {
  files: string[];
  rules: Rules;
}

/** How deep folders go under a room of src: an import's number of `../` depends on it. The tidy test checks any depth. */
const DEPTHS = [0, 1, 2];

function restrictedImports(folder: string, depth: number, pure: boolean): Rules {
  const visible = visibleFrom(folder) ?? [];
  const hidden = FLOORS.flat().filter((other) => other !== folder && !visible.includes(other));
  const patterns: { regex: string; message: string }[] = [];
  const up = "\\.\\./".repeat(depth + 1);
  if (hidden.length > 0)
    patterns.push({ regex: `^${up}(${hidden.join("|")})/`, message: `${folder} does not see this floor (scripts/tidy/floors.ts)` });
  if (pure) patterns.push({ regex: "^node:", message: "pure room: effects are passed in" });
  return { "no-restricted-imports": ["error", { patterns }] };
}

const PURE_RULES: Rules = {
  "no-restricted-globals": [
    "error",
    ...IMPURE_GLOBALS.map((name) => ({ name, message: "pure room: time, chance and effects are passed in" })),
  ],
  "no-restricted-properties": ["error", { object: "Math", property: "random", message: "pure room: chance is passed in" }],
};

function overrides(): Override[] {
  const list: Override[] = [];
  for (const folder of FLOORS.flat()) {
    for (const depth of DEPTHS) {
      list.push({ files: [`src/${folder}/${"*/".repeat(depth)}*.ts`], rules: restrictedImports(folder, depth, false) });
    }
  }
  // Later entries win whole, so a pure room states its floors again.
  for (const room of PURE) {
    const parts = room.split("/").filter((part) => part !== "");
    const folder = parts[0] ?? "";
    if (!room.endsWith("/")) {
      list.push({ files: [`src/${room}`], rules: { ...restrictedImports(folder, parts.length - 2, true), ...PURE_RULES } });
      continue;
    }
    for (const depth of DEPTHS.filter((value) => value >= parts.length - 1)) {
      list.push({
        files: [`src/${room}${"*/".repeat(depth - parts.length + 1)}*.ts`],
        rules: { ...restrictedImports(folder, depth, true), ...PURE_RULES },
      });
    }
  }
  return list;
}

function config(): Rules {
  return {
    $schema: "./node_modules/oxlint/configuration_schema.json",
    plugins: ["typescript", "import", "unicorn", "oxc"],
    categories: { correctness: "error", suspicious: "off", perf: "off" },
    ignorePatterns: ["src/gen/**", "**/*.gen.ts", "dist/**", ".tap/**", ".lab/**", "node_modules/**"],
    options: { typeAware: true },
    rules: {
      "typescript/no-floating-promises": [
        "error",
        // tap waits for its subtests whether or not the caller does.
        { allowForKnownSafePromises: [{ from: "package", package: "@tapjs/core", name: "PromiseWithSubtest" }] },
      ],
      "typescript/no-misused-promises": "error",
      "typescript/no-explicit-any": "error",
      "typescript/consistent-type-imports": "error",
      "typescript/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
      "import/no-cycle": "error",
      eqeqeq: "error",
      "no-var": "error",
      "prefer-const": "error",
    },
  };
}

/** The whole text of .oxlintrc.json, an override a line. */
export function lintConfigText(): string {
  const lines = overrides().map((entry) => `    ${JSON.stringify(entry)}`);
  const head = JSON.stringify(config(), null, 2).replace(/\n\}$/, "");
  return `${head},\n  "overrides": [\n${lines.join(",\n")}\n  ]\n}\n`;
}

if (import.meta.main) writeFileSync(join(import.meta.dirname, "..", "..", ".oxlintrc.json"), lintConfigText());
