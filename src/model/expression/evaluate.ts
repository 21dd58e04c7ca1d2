/** Values of checked expressions on a node. */
import { splitOpen } from "./check.ts";
import type { Expression } from "./parse.ts";
import type { Node } from "../node.ts";

export type Value = number | string | boolean | null;

/** What a name stands for; null if the node lacks it, as with a label it does not carry. */
export type Lookup = (name: string) => Value;

/** The node's own values (`NODE_VALUES`) and labels. */
export function nodeValue(node: Node, name: string): Value {
  const open = splitOpen(name);
  if (open !== null) return (open.of === "label" ? node.labels : (node.info?.values ?? {}))[open.key] ?? null;
  const topology = node.info?.cpuTopology;
  switch (name) {
    case "name":
      return node.name;
    case "zone":
      return node.zone;
    case "partition":
      return node.partition ?? "";
    case "arch":
    case "driver":
    case "hypervisor":
    case "cpuModel":
    case "hardwareAccelerated":
    case "cpus":
    case "memoryMib":
      return node.info?.[name] ?? null;
    case "sockets":
      return topology?.sockets ?? null;
    case "cores":
      return topology === undefined ? null : topology.sockets * topology.coresPerSocket;
    case "numaNodes":
      return topology?.numa.length ?? null;
    case "measuredFreeMemoryMib":
      return node.info?.freeMemoryMib ?? null;
    case "cpuUsedPercent":
      return node.info?.cpuUsedPercent ?? null;
    default:
      return null;
  }
}

/** True if the condition holds. What compares with something missing does not hold, but `!=` does. */
export function holds(expression: Expression, lookup: Lookup): boolean {
  return evaluate(expression, lookup) === true;
}

/** Value of a rank; what is missing, no number, or divided by nothing counts as 0. */
export function rankOf(expression: Expression, lookup: Lookup): number {
  const value = toNumber(evaluate(expression, lookup));
  return Number.isFinite(value) ? value : 0;
}

function evaluate(expression: Expression, lookup: Lookup): Value {
  switch (expression.kind) {
    case "number":
    case "text":
    case "truth":
      return expression.value;
    case "name":
      return lookup(expression.name);
    case "not":
      return evaluate(expression.of, lookup) !== true;
    case "minus":
      return -toNumber(evaluate(expression.of, lookup));
    case "and":
      return evaluate(expression.left, lookup) === true && evaluate(expression.right, lookup) === true;
    case "or":
      return evaluate(expression.left, lookup) === true || evaluate(expression.right, lookup) === true;
    case "+":
      return toNumber(evaluate(expression.left, lookup)) + toNumber(evaluate(expression.right, lookup));
    case "-":
      return toNumber(evaluate(expression.left, lookup)) - toNumber(evaluate(expression.right, lookup));
    case "*":
      return toNumber(evaluate(expression.left, lookup)) * toNumber(evaluate(expression.right, lookup));
    case "/":
      return toNumber(evaluate(expression.left, lookup)) / toNumber(evaluate(expression.right, lookup));
    default:
      return compare(expression.kind, evaluate(expression.left, lookup), evaluate(expression.right, lookup));
  }
}

function compare(sign: "=" | "!=" | "<" | "<=" | ">" | ">=", a: Value, b: Value): boolean {
  if (a === null || b === null) return sign === "!=" && a !== b;
  // A label next to a number is a number if it reads as one.
  const numeric = typeof a === "number" || typeof b === "number";
  const left = numeric ? toNumber(a) : a;
  const right = numeric ? toNumber(b) : b;
  switch (sign) {
    case "=":
      return left === right;
    case "!=":
      return left !== right;
    case "<":
      return left < right;
    case "<=":
      return left <= right;
    case ">":
      return left > right;
    case ">=":
      return left >= right;
  }
}

function toNumber(value: Value): number {
  if (typeof value === "number") return value;
  if (typeof value === "string" && value.trim() !== "") return Number(value);
  return Number.NaN;
}
