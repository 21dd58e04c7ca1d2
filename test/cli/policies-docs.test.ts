/** The commands of docs/policies.md are run as they stand there. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { cliHost, playAgents } from "../support/cli.ts";

const text = readFileSync(join(import.meta.dirname, "../../docs/policies.md"), "utf8");
const block = /```sh\n([\s\S]*?)```/.exec(text)?.[1] ?? "";
/** In the text; NODE, VM and [...] are for the reader to fill in. */
const inline = [...text.replaceAll(/```[\s\S]*?```/g, "").matchAll(/`roost ([^`]+)`/g)]
  .map(([, line = ""]) => line)
  .filter((line) => !/[A-Z[]{2}|[[<]|\bVM\b|--zone$|--hold$| show$/.test(line) && !line.startsWith("up "));

const VMS = `vms:
${["web1", "web2", "db1", "db2", "app"].map((name) => `  - {name: ${name}, cpus: 1, memory: 64MiB, labels: {app: ${name.replace(/\d/, "")}, tier: gold}}`).join("\n")}
`;

/** The answer's members and nodes are the document's; its lab nodes are two of the test's. */
const words = (line: string): string[] => line.replace("lab1,lab2", "n3,n4").split(/\s+/);

t.test("every command of the document does what it says", async (t) => {
  const host = await cliHost(4);
  t.teardown(() => host.close());
  t.teardown(playAgents(host.cluster));
  host.files.set("vms.yaml", VMS);
  host.files.set("policies.yaml", "name: from-file\nrule: prefer\nmembers: [web1]\nnodes: [n1]\n");
  t.equal((await host.run(words("vm create -f vms.yaml --hold"))).code, 0);
  for (const node of ["n1", "n2"]) await host.run(words(`node set ${node} --label disk=ssd`));
  const lines = block.split("\n").flatMap((line) => line.replace(/\s#.*$/, "").split(";"));
  const commands = lines.flatMap((line) => (line.trim() === "" ? [] : [line.trim().replace(/^roost /, "")]));
  t.ok(commands.length >= 11, `${commands.length} commands`);
  for (const line of commands) {
    const ran = await host.run(words(line));
    t.equal(ran.code, 0, `roost ${line}: ${ran.err}`);
  }
  const left = JSON.parse((await host.run(words("policy list -o json"))).out) as { name: string; rule: string; nodes: string[] }[];
  t.match(
    left.map(({ name }) => name),
    ["db-ssd", "from-file", "no-lab", "web-apart"],
    "near was deleted",
  );
  t.match(left.find(({ name }) => name === "db-ssd")?.nodes, ["n1", "n2"], "the update holds");
});

t.test("and every command in its sentences", async (t) => {
  const host = await cliHost(2);
  t.teardown(() => host.close());
  for (const line of ["node set n1 --zone east", "node set n2 --zone west"]) await host.run(words(line));
  t.ok(inline.length >= 5, inline.join("; "));
  for (const line of inline) {
    const ran = await host.run(words(line));
    t.equal(ran.code, 0, `roost ${line}: ${ran.err}`);
  }
});
