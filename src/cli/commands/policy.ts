/** roost policy … and roost zone … */
import type { Command } from "commander";
import { invalid, RoostError } from "../../base/errors.ts";
import type { PolicyInput } from "../../base/policy-definition.ts";
import type { Policy__Output } from "../../gen/types/roost/v1/Policy.ts";
import type { PolicyFinding__Output } from "../../gen/types/roost/v1/PolicyFinding.ts";
import type { PolicyViolation__Output } from "../../gen/types/roost/v1/PolicyViolation.ts";
import { EXIT, Exit } from "../exit.ts";
import { paint } from "../io.ts";
import type { Io } from "../io.ts";
import { printList, printValue } from "../output.ts";
import type { Column } from "../output.ts";
import { policyRow, zoneRow } from "../rows.ts";
import { eachItem, withSession } from "../session.ts";
import type { Session } from "../session.ts";
import { facts } from "../table.ts";
import { parsePolicyFile } from "../definition-file.ts";
import { located, readInput, violationsOf } from "./vm-create.ts";

interface PolicyOptions {
  file?: string;
  rule?: string;
  vms?: string;
  label?: string[];
  nodes?: string;
  nodeLabel?: string[];
  zones?: string;
  place?: string;
  weight?: string;
  off?: boolean;
  plan?: boolean;
}

interface Answer {
  policy: Policy__Output | null;
  findings: PolicyFinding__Output[];
  violations: PolicyViolation__Output[];
}

const HINT = "nothing was changed; roost help policy-file shows whole policies";

function structured(session: Session): "json" | "yaml" | null {
  return session.format === "json" || session.format === "yaml" ? session.format : null;
}

function labelText(labels: Record<string, string>): string {
  return Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(",");
}

function parseLabels(texts: readonly string[], option: string): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const at = text.indexOf("=");
      if (at < 1) throw invalid(option, `expected key=value, not ${JSON.stringify(text)}`);
      return [text.slice(0, at), text.slice(at + 1)];
    }),
  );
}

const list = (text: string): string[] => text.split(",").filter((word) => word !== "");

/** Only what was said; the rest is as it is, or the default. */
function fromOptions(options: PolicyOptions): PolicyInput {
  const weight = options.weight === undefined ? undefined : Number(options.weight);
  if (weight !== undefined && !Number.isSafeInteger(weight))
    throw invalid("--weight", `expected a whole number, not ${JSON.stringify(options.weight)}`);
  const input: PolicyInput = {};
  if (options.rule !== undefined) input.rule = options.rule;
  if (options.vms !== undefined) input.members = list(options.vms);
  if (options.label !== undefined) input.memberLabels = parseLabels(options.label, "--label");
  if (options.nodes !== undefined) input.nodes = list(options.nodes);
  if (options.nodeLabel !== undefined) input.nodeLabels = parseLabels(options.nodeLabel, "--node-label");
  if (options.zones !== undefined) input.zones = list(options.zones);
  if (options.place !== undefined) input.place = options.place;
  if (weight !== undefined) input.weight = weight;
  if (options.off === true) input.enabled = false;
  return input;
}

/** `different nodes`, `n1,n2 or disk=ssd`, `zone east`. */
function wishOf(policy: Policy__Output): string {
  if (policy.place !== "") return policy.place.replace("-", " ");
  if (policy.zones.length > 0) return `zone ${policy.zones.join(",")}`;
  return [policy.nodes.join(","), labelText(policy.nodeLabels)].filter((part) => part !== "").join(" or ");
}

function columns(io: Io): Column<Policy__Output>[] {
  return [
    { header: "NAME", cell: (policy) => policy.name },
    { header: "ON", cell: (policy) => (policy.enabled === false ? paint(io, "dim", "off") : "on") },
    { header: "RULE", cell: (policy) => policy.rule },
    { header: "WHERE", cell: wishOf },
    { header: "VMS", cell: (policy) => String(policy.vms.length), right: true },
    { header: "MEMBERS", cell: membersText },
    { header: "WEIGHT", cell: (policy) => String(policy.weight ?? 1), right: true },
    { header: "ID", cell: (policy) => policy.id, wide: true },
  ];
}

function membersText(policy: Policy__Output): string {
  const shown = policy.members.length > 4 ? [...policy.members.slice(0, 4), "…"] : policy.members;
  return [shown.join(","), labelText(policy.memberLabels)].filter((part) => part !== "").join(" or ");
}

function printFindings(io: Io, findings: readonly PolicyFinding__Output[]): void {
  for (const finding of findings) {
    const mark = paint(io, finding.severity === "error" ? "red" : "yellow", `${finding.severity} ${finding.code}`);
    io.out(`${mark}: ${finding.message}\n  ${finding.policies.length === 1 ? "policy" : "policies"} ${finding.policies.join(", ")}`);
    io.out(`${finding.vms.length === 0 ? "" : `; VMs ${finding.vms.join(", ")}`}\n`);
  }
}

function printViolations(io: Io, violations: readonly PolicyViolation__Output[]): void {
  if (violations.length === 0) return;
  io.out("Running VMs that are not where the policy wants them (none was moved):\n");
  for (const { vm, node, wish, policy } of violations) io.out(`  ${vm} on ${node}: ${wish} (${policy})\n`);
}

async function printAnswer(session: Session, answer: Answer, done: string): Promise<void> {
  const form = structured(session);
  const { policy, findings, violations } = answer;
  if (form !== null) return printValue(session.io, form, { policy: policy === null ? null : policyRow(policy), findings, violations });
  session.io.out(`${policy?.name ?? ""}: ${done}\n`);
  printFindings(session.io, findings);
  printViolations(session.io, violations);
}

/** Drafts from a file, and how to tell a fault of the cluster with its line. */
async function readDrafts(
  session: Session,
  path: string,
): Promise<{ drafts: PolicyInput[]; locate: (error: unknown, index: number) => unknown }> {
  const { name, text } = await readInput(session, path);
  const file = await parsePolicyFile(name, text);
  if (file.faults.length > 0) throw located(file, name, [], HINT);
  const locate = (error: unknown, index: number): unknown => {
    const violations = violationsOf(error);
    if (violations === null) return error;
    const at = violations.map(({ field, message }) => ({
      field: field.startsWith("drafts[") ? field : `drafts[${index}].${field}`,
      message,
    }));
    return located(file, name, at, HINT);
  };
  return { drafts: file.definitions, locate };
}

async function createPolicies(session: Session, name: string | undefined, options: PolicyOptions): Promise<void> {
  const { io, client, limits } = session;
  const plan = options.plan ?? false;
  const done = (policy: Policy__Output | null): string =>
    `${plan ? "would be created" : "created"}${policy?.enabled === false ? ", off" : ""}, ${policy?.vms.length === 1 ? "1 VM" : `${policy?.vms.length ?? 0} VMs`}`;
  if (options.file === undefined) {
    if (name === undefined) throw invalid("name", "expected a name, or a file with --file");
    const answer = await client.call(
      "PolicyService",
      "CreatePolicy",
      { policy: { name, ...fromOptions(options) }, plan, requestId: io.newId() },
      limits,
    );
    return printAnswer(session, answer, done(answer.policy));
  }
  if (name !== undefined) throw invalid("name", "expected either a name or a file, not both");
  const { drafts, locate } = await readDrafts(session, options.file);
  for (const [i, policy] of drafts.entries()) {
    const answer = await client
      .call("PolicyService", "CreatePolicy", { policy, plan, requestId: io.newId() }, limits)
      .catch((error: unknown) => {
        throw locate(error, i);
      });
    await printAnswer(session, answer, done(answer.policy));
  }
}

async function lintPolicies(session: Session, names: string[], options: { file?: string }): Promise<void> {
  const { io, client, limits } = session;
  const file = options.file === undefined ? null : await readDrafts(session, options.file);
  const request = { policies: names, drafts: file?.drafts ?? [] };
  const answer = await client.call("PolicyService", "LintPolicies", request, limits).catch((error: unknown) => {
    throw file === null ? error : file.locate(error, 0);
  });
  const form = structured(session);
  if (form !== null) await printValue(io, form, answer);
  else {
    printFindings(io, answer.findings);
    printViolations(io, answer.violations);
    if (answer.findings.length === 0 && answer.violations.length === 0) io.out("nothing found\n");
    if (!answer.complete) io.err("there are too many nodes and policies to try every loss: the likeliest were tried\n");
  }
  if (answer.findings.some((finding) => finding.severity === "error")) throw new Exit(EXIT.failed);
}

export function addPolicyCommands(program: Command, io: Io): void {
  const policy = program.command("policy").description("placement policies: where VMs must or should run");
  const withRule = (command: Command): Command =>
    command
      .option("--rule <rule>", "must, must-not, prefer, prefer-not")
      .option("--vms <vm,...>", "its members")
      .option("-l, --label <key=value...>", "VMs with all these labels are members, too")
      .option("--nodes <node,...>", "the nodes it is about")
      .option("--node-label <key=value...>", "nodes with all these labels")
      .option("--zones <zone,...>", "the zones it is about, or primary, secondary")
      .option("--place <place>", "same-node, different-nodes: how its members are to each other")
      .option("--weight <n>", "of preferences: higher first (default 1)");

  withRule(policy.command("create [name]"))
    .description("make a policy, or those of a file (roost help policy-file)")
    .option("-f, --file <file>", "YAML or JSON; - reads standard input")
    .option("--off", "do not switch it on yet")
    .option("--plan", "check everything, create nothing")
    .action((name: string | undefined, options: PolicyOptions, command: Command) =>
      withSession(io, command, (session) => createPolicies(session, name, options)),
    );

  withRule(policy.command("update <policy>"))
    .description("change what is given; the rest stays")
    .action((name: string, options: PolicyOptions, command: Command) =>
      withSession(io, command, async (session) => {
        const { client, limits } = session;
        const before = (await client.call("PolicyService", "GetPolicy", { policy: name }, limits)).policy;
        if (before === null) throw new RoostError({ kind: "not-found", what: "policy", name });
        const wish = fromOptions(options);
        // Another target takes the place of the one before.
        const target = ["nodes", "nodeLabels", "zones", "place"].some((key) => Object.hasOwn(wish, key));
        const kept = target ? { ...before, nodes: [], nodeLabels: {}, zones: [], place: "" } : before;
        const answer = await client.call(
          "PolicyService",
          "UpdatePolicy",
          { policy: name, definition: { ...kept, ...wish }, requestId: io.newId() },
          limits,
        );
        await printAnswer(session, answer, "changed");
      }),
    );

  policy
    .command("list")
    .alias("ls")
    .description("all policies")
    .action((_options: object, command: Command) =>
      withSession(io, command, async (session) => {
        const { policies } = await session.client.call(
          "PolicyService",
          "ListPolicies",
          { consistency: session.consistency },
          session.limits,
        );
        await printList(io, session.format, policies, columns(io), policyRow);
      }),
    );

  policy
    .command("show <policy...>")
    .description("all about policies, and the running VMs that are not where they want them")
    .action((names: string[], _options: object, command: Command) =>
      withSession(io, command, async (session) => {
        const rows: object[] = [];
        const form = structured(session);
        await eachItem(io, names, async (name) => {
          const answer = await session.client.call(
            "PolicyService",
            "GetPolicy",
            { policy: name, consistency: session.consistency },
            session.limits,
          );
          if (answer.policy === null) return;
          if (form !== null) return void rows.push({ ...policyRow(answer.policy), violations: answer.violations });
          const { policy: found } = answer;
          io.out(
            facts([
              ["Name", found.name],
              ["Id", found.id],
              ["On", found.enabled === false ? "no" : "yes"],
              ["Rule", `${found.rule}: ${wishOf(found)}`],
              ["Weight", String(found.weight ?? 1)],
              ["Members", membersText(found)],
              ["VMs", found.vms.join(", ")],
            ]),
          );
          printViolations(io, answer.violations);
        });
        if (form !== null) await printValue(io, form, names.length === 1 ? rows[0] : rows);
      }),
    );

  policy
    .command("enable <policy...>")
    .description("switch policies on; running VMs that violate them are listed, none is moved")
    .action((names: string[], _options: object, command: Command) =>
      withSession(io, command, (session) =>
        eachItem(io, names, async (name) => {
          const answer = await session.client.call(
            "PolicyService",
            "EnablePolicy",
            { policy: name, requestId: io.newId() },
            session.limits,
          );
          await printAnswer(session, answer, "on");
        }),
      ),
    );
  policy
    .command("disable <policy...>")
    .description("switch policies off")
    .action((names: string[], _options: object, command: Command) =>
      withSession(io, command, (session) =>
        eachItem(io, names, async (name) => {
          const answer = await session.client.call(
            "PolicyService",
            "DisablePolicy",
            { policy: name, requestId: io.newId() },
            session.limits,
          );
          await printAnswer(session, { policy: answer.policy, findings: [], violations: [] }, "off");
        }),
      ),
    );
  policy
    .command("delete <policy...>")
    .alias("rm")
    .description("delete policies")
    .action((names: string[], _options: object, command: Command) =>
      withSession(io, command, (session) =>
        eachItem(io, names, async (name) => {
          await session.client.call("PolicyService", "DeletePolicy", { policy: name, requestId: io.newId() }, session.limits);
          io.out(`${name}: deleted\n`);
        }),
      ),
    );
  policy
    .command("lint [policy...]")
    .description("what is wrong with policies, also if any one node or zone were lost; those that are on, if none is named")
    .option("-f, --file <file>", "policies that do not exist yet, as if they were on")
    .action((names: string[], options: { file?: string }, command: Command) =>
      withSession(io, command, (session) => lintPolicies(session, names, options)),
    );
}

export function addZoneCommands(program: Command, io: Io): void {
  const zone = program.command("zone").description("availability zones, and which is primary in an active-active pair");
  zone
    .command("list")
    .alias("ls")
    .description("zones with their roles and nodes")
    .action((_options: object, command: Command) =>
      withSession(io, command, async (session) => {
        const { zones } = await session.client.call("PolicyService", "ListZones", { consistency: session.consistency }, session.limits);
        await printList(
          io,
          session.format,
          zones,
          [
            { header: "NAME", cell: (row) => row.name },
            { header: "ROLE", cell: (row) => row.role },
            { header: "NODES", cell: (row) => row.nodes.join(",") },
          ],
          zoneRow,
        );
      }),
    );
  zone
    .command("set <zone> <role>")
    .description("primary, secondary, or none; VMs go to primary zones while there is room")
    .action((name: string, role: string, _options: object, command: Command) =>
      withSession(io, command, async (session) => {
        const answer = await session.client.call("PolicyService", "SetZone", { zone: name, role, requestId: io.newId() }, session.limits);
        const form = structured(session);
        if (form !== null) return printValue(io, form, answer.zone === null ? null : zoneRow(answer.zone));
        io.out(`${name}: ${answer.zone === null || answer.zone.role === "" ? "no role" : answer.zone.role}\n`);
      }),
    );
}
