/**
 * Transcript files: blocks of a command line (with arguments `key`, `key=value`, `key=(a,b)`), optional input lines, `----`
 * and the expected output up to an empty line (or between two `----` lines, if the output has empty lines itself).
 */
export interface Directive {
  /** Line number of the command, from 1. */
  line: number;
  command: string;
  args: { key: string; values: string[] }[];
  input: string;
  expected: string;
}

/** A file in order: texts to be kept as they are, and directives. */
export type Block = { comment: string } | { directive: Directive };

function parseArgs(text: string): { key: string; values: string[] }[] {
  const args = [];
  for (const match of text.matchAll(/([^\s=]+)(?:=(\(([^)]*)\)|\S*))?/g)) {
    const [, key = "", value, list] = match;
    const values = list !== undefined ? list.split(/[,\s]+/).filter((v) => v !== "") : value === undefined ? [] : [value];
    args.push({ key, values });
  }
  return args;
}

export function parseTranscript(text: string): Block[] {
  const lines = text.split("\n");
  const blocks: Block[] = [];
  let at = 0;
  while (at < lines.length) {
    const first = lines[at]!;
    if (first.trim() === "" || first.startsWith("#")) {
      blocks.push({ comment: first });
      at++;
      continue;
    }
    const line = at + 1;
    const [command = "", rest = ""] = first.trim().split(/\s+(.*)/s);
    const input: string[] = [];
    for (at++; at < lines.length && lines[at] !== "----"; at++) input.push(lines[at]!);
    at++;
    const expected: string[] = [];
    if (lines[at] === "----") {
      for (at++; at < lines.length && !(lines[at] === "----" && lines[at + 1] === "----"); at++) expected.push(lines[at]!);
      at += 2;
    } else {
      for (; at < lines.length && lines[at]!.trim() !== ""; at++) expected.push(lines[at]!);
    }
    blocks.push({ directive: { line, command, args: parseArgs(rest), input: input.join("\n"), expected: expected.join("\n") } });
  }
  return blocks;
}

/** The text of a file with the outputs replaced. */
export function printTranscript(blocks: readonly Block[], source: string, outputs: readonly string[]): string {
  const lines = source.split("\n");
  const out: string[] = [];
  let next = 0;
  for (const block of blocks) {
    if ("comment" in block) {
      out.push(block.comment);
      continue;
    }
    const { line, input } = block.directive;
    const output = outputs[next++]!;
    out.push(lines[line - 1]!);
    if (input !== "") out.push(input);
    out.push("----");
    if (/^\s*$/m.test(output)) out.push("----", output, "----", "----");
    else out.push(output);
  }
  return out.join("\n");
}
