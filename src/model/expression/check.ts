/** Names and types of expressions, so that a mistake is refused when it is written and not found when a VM stays pending. */
import { didYouMean } from "../../base/suggest.ts";
import { parseExpression } from "./parse.ts";
import type { Expression, ExpressionFault } from "./parse.ts";

export type ValueType = "number" | "text" | "truth";

/** Of a node, as long as its row stays the same: for requirements and rank. */
export const NODE_VALUES: Readonly<Record<string, ValueType>> = {
  name: "text",
  zone: "text",
  partition: "text",
  arch: "text",
  driver: "text",
  hypervisor: "text",
  cpuModel: "text",
  hardwareAccelerated: "truth",
  cpus: "number",
  sockets: "number",
  cores: "number",
  numaNodes: "number",
  memoryMib: "number",
  measuredFreeMemoryMib: "number",
  cpuUsedPercent: "number",
};

/** What placements change: for rank only, because requirements hold or do not, whoever else is on the node. */
export const LOAD_VALUES: Readonly<Record<string, ValueType>> = {
  usedMemoryMib: "number",
  freeMemoryMib: "number",
  usedCpus: "number",
  freeCpus: "number",
};

export type Checked = { ok: true; expression: Expression } | { ok: false; fault: ExpressionFault };

/** `requirements`: must come out true or false. */
export function checkRequirements(text: string): Checked {
  return checkAs(text, "truth", NODE_VALUES, "requirements must be a condition, such as cpus >= 8");
}

/** `rank`: must come out a number; the highest node wins. */
export function checkRank(text: string): Checked {
  return checkAs(text, "number", { ...NODE_VALUES, ...LOAD_VALUES }, "rank must be a number, such as freeMemoryMib");
}

/** The fault as a line with the place marked: `"cpus >" at 7: a value is missing`. */
export function printFault(text: string, fault: ExpressionFault): string {
  return `${JSON.stringify(text)} at ${fault.at + 1}: ${fault.message}`;
}

class TypeFault extends Error {
  readonly at: number;
  constructor(at: number, message: string) {
    super(message);
    this.at = at;
  }
}

function checkAs(text: string, wanted: ValueType, names: Readonly<Record<string, ValueType>>, otherwise: string): Checked {
  const parsed = parseExpression(text);
  if (!parsed.ok) return parsed;
  try {
    const found = typeOf(parsed.expression, names);
    if (found !== wanted && !(wanted === "number" && labelled(parsed.expression)))
      return { ok: false, fault: { at: 0, message: otherwise } };
    return parsed;
  } catch (problem) {
    if (problem instanceof TypeFault) return { ok: false, fault: { at: problem.at, message: problem.message } };
    throw problem;
  }
}

/** Labels and what probes print are texts; compared with a number they count as one if they are one. */
function typeOf(expression: Expression, names: Readonly<Record<string, ValueType>>): ValueType {
  switch (expression.kind) {
    case "number":
    case "text":
    case "truth":
      return expression.kind;
    case "name": {
      if (isOpen(expression.name)) return "text";
      const type = Object.hasOwn(names, expression.name) ? names[expression.name] : undefined;
      if (type !== undefined) return type;
      const known = Object.hasOwn(LOAD_VALUES, expression.name)
        ? `${expression.name} changes with every placement and is for rank only`
        : `nothing is named ${expression.name}${didYouMean(expression.name, Object.keys(names))}; there are ${Object.keys(names).join(", ")}, label.NAME and probe.NAME`;
      throw new TypeFault(expression.at, known);
    }
    case "not":
      want(expression.of, "truth", names, "! goes with a condition");
      return "truth";
    case "minus":
      want(expression.of, "number", names, "- goes with a number");
      return "number";
    case "and":
    case "or":
      want(expression.left, "truth", names, `${expression.kind} goes with conditions`);
      want(expression.right, "truth", names, `${expression.kind} goes with conditions`);
      return "truth";
    case "=":
    case "!=":
    case "<":
    case "<=":
    case ">":
    case ">=": {
      const left = typeOf(expression.left, names);
      const right = typeOf(expression.right, names);
      const label = labelled(expression.left) || labelled(expression.right);
      if (left !== right && !(label && left !== "truth" && right !== "truth")) {
        throw new TypeFault(expression.at, `${expression.kind} compares a ${left} with a ${right}`);
      }
      if (left === "truth" && expression.kind !== "=" && expression.kind !== "!=")
        throw new TypeFault(expression.at, `${expression.kind} needs numbers or texts`);
      return "truth";
    }
    case "+":
    case "-":
    case "*":
    case "/":
      want(expression.left, "number", names, `${expression.kind} goes with numbers`);
      want(expression.right, "number", names, `${expression.kind} goes with numbers`);
      return "number";
  }
}

function want(expression: Expression, wanted: ValueType, names: Readonly<Record<string, ValueType>>, otherwise: string): void {
  const found = typeOf(expression, names);
  if (found !== wanted && !(wanted === "number" && labelled(expression)))
    throw new TypeFault(expression.at, `${otherwise}, this is a ${found}`);
}

/** `label.rack` is a label, `probe.GPUS` what a probe printed; null for a name of the lists above. */
export function splitOpen(name: string): { of: "label" | "probe"; key: string } | null {
  const match = /^(label|probe)\.(.+)$/.exec(name);
  return match === null ? null : { of: match[1] as "label" | "probe", key: match[2] ?? "" };
}

/** Names in a text that has been checked, with their places. */
export function namesIn(text: string): { name: string; at: number }[] {
  const parsed = parseExpression(text);
  const found: { name: string; at: number }[] = [];
  const visit = (expression: Expression): void => {
    if (expression.kind === "name") found.push({ name: expression.name, at: expression.at });
    if ("of" in expression) visit(expression.of);
    if ("left" in expression) {
      visit(expression.left);
      visit(expression.right);
    }
  };
  if (parsed.ok) visit(parsed.expression);
  return found;
}

function isOpen(name: string): boolean {
  return splitOpen(name) !== null;
}

function labelled(expression: Expression): boolean {
  return expression.kind === "name" && isOpen(expression.name);
}
