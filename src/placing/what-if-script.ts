/** The words of `roost what-if`: statements with their place in the text, checked for form here and for names where they run. Pure. */
import { RoostError } from "../base/errors.ts";
import type { Violation } from "../base/errors.ts";
import { didYouMean } from "../base/suggest.ts";
import { parseMib } from "../base/units.ts";

export type Statement = { text: string; column: number } & (
  | { verb: "fail"; zone: boolean; name: string }
  | { verb: "drain" | "disable" | "enable"; node: string }
  | { verb: "add"; count: number; vm: string }
  | { verb: "remove" | "stop" | "start"; vm: string }
  | { verb: "resize"; vm: string; cpus: number | null; memoryMib: number | null }
  | { verb: "set"; key: string; value: string }
  | { verb: "policy"; enabled: boolean; policy: string }
);

/** SEC-4: what one question may hold. */
export const WHAT_IF_LIMITS = { statements: 100, text: 10_000, add: 10_000 } as const;

const FORMS: Readonly<Record<string, string>> = {
  fail: "fail NODE, or fail zone ZONE",
  drain: "drain NODE",
  disable: "disable NODE, or disable policy POLICY",
  enable: "enable NODE, or enable policy POLICY",
  add: "add COUNT VM: so many more like this VM, or like a definition of the file",
  remove: "remove VM",
  stop: "stop VM",
  start: "start VM",
  resize: "resize VM cpus=N memory=SIZE",
  set: "set KEY VALUE",
};

/** Statements divided by `;` or lines. @throws RoostError `invalid` with every fault and its column. */
export function parseWhatIf(text: string): Statement[] {
  if (text.length > WHAT_IF_LIMITS.text)
    throw new RoostError({
      kind: "invalid",
      violations: [{ field: "script", message: `expected at most ${WHAT_IF_LIMITS.text} characters` }],
    });
  const faults: Violation[] = [];
  const statements: Statement[] = [];
  let column = 1;
  for (const part of text.split(/[;\n]/)) {
    const begin = column + (part.length - part.trimStart().length);
    column += part.length + 1;
    const words = part.trim().split(/\s+/);
    if (part.trim() === "") continue;
    const parsed = statement(words, part.trim(), begin);
    if (typeof parsed === "string") faults.push({ field: `column ${begin}`, message: parsed });
    else statements.push(parsed);
  }
  if (statements.length === 0 && faults.length === 0)
    faults.push({ field: "script", message: `expected statements such as ${FORMS["fail"]}` });
  if (statements.length > WHAT_IF_LIMITS.statements)
    faults.push({ field: "script", message: `expected at most ${WHAT_IF_LIMITS.statements} statements, not ${statements.length}` });
  if (faults.length > 0)
    throw new RoostError({ kind: "invalid", violations: faults }, `a question is such as 'fail n1; add 20 web; drain n2'`);
  return statements;
}

/** The statement, or what was expected. */
function statement(words: readonly string[], text: string, column: number): Statement | string {
  const [verb = "", ...rest] = words;
  const form = FORMS[verb];
  if (form === undefined)
    return `${JSON.stringify(verb)} is no statement${didYouMean(verb, Object.keys(FORMS))}; expected one of ${Object.keys(FORMS).join(", ")}`;
  const wrong = `${JSON.stringify(text)}: expected ${form}`;
  const at = { text, column };
  const [first = "", second = "", ...more] = rest;
  const one = rest.length === 1;
  const two = rest.length === 2;
  switch (verb) {
    case "fail":
      if (two && first === "zone") return { ...at, verb, zone: true, name: second };
      return one && first !== "zone" ? { ...at, verb, zone: false, name: first } : wrong;
    case "enable":
    case "disable":
      if (two && first === "policy") return { ...at, verb: "policy", enabled: verb === "enable", policy: second };
      return one ? { ...at, verb, node: first } : wrong;
    case "drain":
      return one ? { ...at, verb, node: first } : wrong;
    case "remove":
    case "stop":
    case "start":
      return one ? { ...at, verb, vm: first } : wrong;
    case "add": {
      const count = Number(first);
      if (!two || !Number.isSafeInteger(count) || count < 1 || count > WHAT_IF_LIMITS.add)
        return `${wrong}, COUNT from 1 to ${WHAT_IF_LIMITS.add}`;
      return { ...at, verb, count, vm: second };
    }
    case "set":
      return two ? { ...at, verb, key: first, value: second } : wrong;
    default:
      return resize(at, first, second === "" ? more : [second, ...more], wrong);
  }
}

function resize(at: { text: string; column: number }, vm: string, pairs: readonly string[], wrong: string): Statement | string {
  let [cpus, memoryMib]: (number | null)[] = [null, null];
  for (const pair of pairs) {
    const [key, value = ""] = pair.split("=");
    if (key === "cpus") {
      cpus = Number(value);
      if (!Number.isSafeInteger(cpus) || cpus < 1) return `${wrong}; cpus is ${JSON.stringify(value)}`;
    } else if (key === "memory") {
      const parsed = parseMib(/^\d+$/.test(value) ? `${value}MiB` : value);
      if (!parsed.ok) return `${wrong}; memory: expected ${parsed.expected}`;
      memoryMib = parsed.value;
    } else return `${wrong}, not ${JSON.stringify(pair)}`;
  }
  return pairs.length === 0 || vm === "" ? wrong : { ...at, verb: "resize", vm, cpus: cpus ?? null, memoryMib: memoryMib ?? null };
}
