/** Replays every transcript in this folder; `ROOST_GOLDEN=write` writes what happened into them instead (read before committing). */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { Interaction } from "./interaction.ts";
import { parseTranscript, printTranscript } from "./transcript.ts";

const folder = import.meta.dirname;
const rewrite = process.env["ROOST_GOLDEN"] === "write";
const files = readdirSync(folder).filter((name) => name.endsWith(".txt"));

t.ok(files.length > 0, "there are transcripts");
for (const name of files) {
  await t.test(name, async (t) => {
    const path = join(folder, name);
    const source = readFileSync(path, "utf8");
    const world = new Interaction();
    const blocks = parseTranscript(source);
    const outputs: string[] = [];
    for (const block of blocks) {
      if (!("directive" in block)) continue;
      const { directive } = block;
      const output = world.run(directive);
      outputs.push(output);
      if (!rewrite) t.equal(output, directive.expected, `line ${directive.line}: ${directive.command}`);
    }
    if (rewrite) writeFileSync(path, printTranscript(blocks, source, outputs));
  });
}

t.test("the transcript form", async (t) => {
  const source =
    "# a comment\n\nadd-nodes 2 voters=(1,2) index=3\n----\nold\n\npropose-conf-change 1 v1=true\nv3\n----\n----\na\n\nb\n----\n----\n\nstatus 1\n----\nok\n";
  const blocks = parseTranscript(source);
  const directives = blocks.flatMap((b) => ("directive" in b ? [b.directive] : []));
  t.strictSame(
    directives.map(({ line, command, args, input, expected }) => ({ line, command, args, input, expected })),
    [
      {
        line: 3,
        command: "add-nodes",
        args: [
          { key: "2", values: [] },
          { key: "voters", values: ["1", "2"] },
          { key: "index", values: ["3"] },
        ],
        input: "",
        expected: "old",
      },
      {
        line: 7,
        command: "propose-conf-change",
        args: [
          { key: "1", values: [] },
          { key: "v1", values: ["true"] },
        ],
        input: "v3",
        expected: "a\n\nb",
      },
      { line: 17, command: "status", args: [{ key: "1", values: [] }], input: "", expected: "ok" },
    ],
  );
  t.equal(printTranscript(blocks, source, ["old", "a\n\nb", "ok"]), source, "printing gives the source back");
});
