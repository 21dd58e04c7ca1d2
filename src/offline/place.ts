/** Where in a text a fault is: `vms[3].ram` → line and column, for both forms of plan files. Looked up only once something is wrong. */

export interface TextPlace {
  line: number;
  column: number;
}

/** Names and indexes of a field path: `vms[3].ram` → ["vms", 3, "ram"]. */
function stepsOf(path: string): (string | number)[] {
  return [...path.matchAll(/\[(\d+)\]|([^.[\]]+)/g)].map(([, index, name]) => (index === undefined ? (name ?? "") : Number(index)));
}

/** The value's place in JSON text that is known to be well formed; of the nearest part around it that is there. */
export function placeInJson(text: string, path: string): TextPlace {
  let at = skipBlank(text, 0);
  for (const step of stepsOf(path)) {
    const next = typeof step === "number" ? elementAt(text, at, step) : memberAt(text, at, step);
    if (next === null) break;
    at = next;
  }
  return placeAt(text, at);
}

function placeAt(text: string, at: number): TextPlace {
  const before = text.slice(0, at);
  return { line: before.split("\n").length, column: at - before.lastIndexOf("\n") };
}

/** Begin of the member's key, so that an unknown one is pointed at; its value when more of the path follows is found from there. */
function memberAt(text: string, from: number, name: string): number | null {
  let at = text[from] === '"' ? valueAfterKey(text, from) : from;
  if (text[at] !== "{") return null;
  for (at = skipBlank(text, at + 1); text[at] === '"'; at = skipBlank(text, at + 1)) {
    const key = JSON.parse(text.slice(at, endOfString(text, at))) as string;
    if (key === name) return at;
    at = skipBlank(text, endOfValue(text, valueAfterKey(text, at)));
    if (text[at] !== ",") return null;
  }
  return null;
}

function elementAt(text: string, from: number, index: number): number | null {
  let at = text[from] === '"' ? valueAfterKey(text, from) : from;
  if (text[at] !== "[") return null;
  at = skipBlank(text, at + 1);
  for (let i = 0; text[at] !== "]"; i++) {
    if (i === index) return at;
    at = skipBlank(text, endOfValue(text, at));
    if (text[at] !== ",") return null;
    at = skipBlank(text, at + 1);
  }
  return null;
}

function valueAfterKey(text: string, key: number): number {
  const colon = skipBlank(text, endOfString(text, key));
  return text[colon] === ":" ? skipBlank(text, colon + 1) : key;
}

function skipBlank(text: string, from: number): number {
  let at = from;
  while (at < text.length && " \t\r\n\uFEFF".includes(text[at]!)) at++;
  return at;
}

function endOfString(text: string, from: number): number {
  let at = from + 1;
  while (at < text.length && text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
  return at + 1;
}

function endOfValue(text: string, from: number): number {
  if (text[from] === '"') return endOfString(text, from);
  let depth = 0;
  for (let at = from; at < text.length; at++) {
    const char = text[at]!;
    if (char === '"') at = endOfString(text, at) - 1;
    else if (char === "{" || char === "[") depth++;
    else if ((char === "}" || char === "]" || char === ",") && depth === 0) return at;
    else if (char === "}" || char === "]") {
      if (--depth === 0) return at + 1;
    }
  }
  return text.length;
}

const LISTS: Readonly<Record<string, string>> = { nodes: "node", vms: "vm", policies: "policy", zones: "zone", settings: "setting" };

/** The same in the text form: the n-th line that begins with the list's word, and there the field's `key=`. */
export function placeInLines(text: string, path: string): TextPlace {
  const [list, index, field] = stepsOf(path);
  const word = LISTS[String(list)] ?? String(list);
  // Settings are one object over all their lines.
  const named = word === "setting" ? index : field;
  let count = 0;
  for (const [i, line] of text.split("\n").entries()) {
    if (!new RegExp(`^\\s*${word}\\b`).test(line)) continue;
    const at = typeof named === "string" ? columnOf(line, named) : 0;
    if (word === "setting" ? at > 0 : count++ === (typeof index === "number" ? index : 0)) return { line: i + 1, column: Math.max(1, at) };
  }
  return { line: 1, column: 1 };
}

function columnOf(line: string, field: string): number {
  const short = { memoryMib: "memory", reserveMib: "reserve" }[field] ?? field;
  const dotted = { labels: "label\\.", values: "value\\.", vmLabels: "vmLabel\\.", nodeLabels: "nodeLabel\\." }[field] ?? `${field}=`;
  return line.search(new RegExp(`(?<=\\s)(${dotted}|${short}=)`)) + 1;
}
