/** roost node … */
import type { Command } from "commander";
import { invalid, RoostError } from "../../base/errors.ts";
import { formatBytes, formatDuration, formatMib } from "../../base/units.ts";
import type { Node__Output } from "../../gen/types/roost/v1/Node.ts";
import { paint } from "../io.ts";
import type { Colour, Io } from "../io.ts";
import { printList, printValue, timeText } from "../output.ts";
import type { Column } from "../output.ts";
import { nodeRow } from "../rows.ts";
import { eachItem, withSession } from "../session.ts";
import type { Session } from "../session.ts";
import { facts } from "../table.ts";
import { addDrainCommands, drainText } from "./drain.ts";
import { addFencingCommands } from "./fencing.ts";

const COLOURS: Record<string, Colour> = {
  ready: "green",
  unreachable: "red",
  fenced: "red",
  removed: "red",
  disabled: "yellow",
  draining: "yellow",
  joining: "yellow",
};

function paintState(io: Io, state: string): string {
  const colour = COLOURS[state];
  return colour === undefined ? state : paint(io, colour, state);
}

function columns(io: Io): Column<Node__Output>[] {
  return [
    { header: "NAME", cell: (node) => node.name },
    { header: "STATE", cell: (node) => [paintState(io, node.state), ...node.problems.map((text) => paint(io, "red", text))].join(", ") },
    { header: "ROLE", cell: (node) => (node.leader ? "leader" : node.role) },
    { header: "VMS", cell: (node) => String(node.vms), right: true },
    { header: "CPUS", cell: (node) => `${node.cpusUsed}/${node.cpus}`, right: true },
    { header: "MEMORY", cell: (node) => `${node.memoryUsedMib}/${Math.max(0, node.memoryMib - node.reserveMib)}MiB`, right: true },
    { header: "ZONE", cell: (node) => node.zone },
    { header: "DRIVER", cell: (node) => node.driver },
    { header: "GUARDIAN", cell: (node) => node.guardian, wide: true },
    { header: "ADDRESS", cell: (node) => node.apiAddress, wide: true },
    { header: "VERSION", cell: (node) => node.version, wide: true },
    { header: "ID", cell: (node) => node.id, wide: true },
    { header: "SINCE", cell: (node) => formatDuration(io.nowMs() - node.stateSinceMs), right: true },
  ];
}

async function listNodes(session: Session): Promise<Node__Output[]> {
  const nodes: Node__Output[] = [];
  let pageToken = "";
  do {
    const answer = await session.client.call("NodeService", "ListNodes", { consistency: session.consistency, pageToken }, session.limits);
    nodes.push(...answer.nodes);
    pageToken = answer.nextPageToken;
  } while (pageToken !== "");
  return nodes;
}

async function getNode(session: Session, name: string): Promise<Node__Output> {
  const { node } = await session.client.call("NodeService", "GetNode", { node: name, consistency: session.consistency }, session.limits);
  if (node === null) throw new RoostError({ kind: "not-found", what: "node", name });
  return node;
}

function topologyText(node: Node__Output): string {
  const topology = node.cpuTopology;
  if (topology === null) return "";
  const { sockets, coresPerSocket, threadsPerCore, numa } = topology;
  const shape = `${sockets} × ${coresPerSocket} cores × ${threadsPerCore} threads`;
  const pinned = node.pinnedCpus === 0 ? "" : `; ${node.pinnedCpus} CPUs pinned`;
  const nodes = numa.map(({ id, cpus, memoryMib }) => `${id} (${cpus.length} CPUs, ${formatMib(memoryMib)})`).join(", ");
  return `${shape}; NUMA ${nodes}${pinned}`;
}

function loadText(node: Node__Output): string {
  const { freeMemoryMib, cpuUsedPercent } = node;
  const parts = [
    ...(cpuUsedPercent === undefined ? [] : [`CPUs ${cpuUsedPercent} % busy`]),
    ...(freeMemoryMib === undefined ? [] : [`${formatMib(freeMemoryMib)} of memory unused`]),
  ];
  return parts.join(", ");
}

function show(io: Io, node: Node__Output): void {
  const accelerated = node.hardwareAccelerated ? "hardware acceleration" : "no hardware acceleration";
  io.out(
    facts([
      ["Name", node.name],
      ["Id", `${node.id}, peer ${node.peerId}`],
      ["State", `${paintState(io, node.state)} since ${timeText(node.stateSinceMs)}${node.stateWhy === "" ? "" : `: ${node.stateWhy}`}`],
      ["Waiting", node.waits],
      ["Role", node.leader ? "leader" : node.role],
      ["Zone", node.zone],
      ["Partition", node.partition],
      [
        "Labels",
        Object.entries(node.labels)
          .map(([key, value]) => `${key}=${value}`)
          .join(","),
      ],
      ["API", node.apiAddress],
      ["Peers", node.peerAddress],
      ["Joined", timeText(node.joinedAtMs)],
      ["Version", node.version],
      ["Driver", node.driver === "" ? "" : `${node.driver}, ${node.hypervisor}, ${accelerated}`],
      ["CPUs", node.cpus === 0 ? "" : `${node.cpus} × ${node.cpuModel} (${node.arch}), ${node.cpusUsed} vCPUs placed`],
      ["Topology", topologyText(node)],
      ["Load", loadText(node)],
      [
        "Values",
        Object.entries(node.values)
          .map(([key, value]) => `${key}=${value}`)
          .join(", "),
      ],
      [
        "Memory",
        node.memoryMib === 0
          ? ""
          : `${formatMib(node.memoryMib)}, ${formatMib(node.reserveMib)} kept for the node, ${formatMib(node.memoryUsedMib)} promised to VMs`,
      ],
      ["VMs", String(node.vms)],
      ["Drain", node.drain === null ? "" : drainText(node.drain, io.nowMs())],
      [
        "Guardian",
        node.guardian === "" ? "none: expiry is no proof for this node, recovery waits for release, fence or operator" : node.guardian,
      ],
      ["Bridges", node.bridges.join(", ")],
    ]),
  );
  for (const problem of node.problems) io.out(`${paint(io, "red", `Problem: ${problem}`)}\n`);
  for (const problem of node.probeProblems) io.out(`${paint(io, "yellow", `Probe ${problem}`)}\n`);
  for (const pool of node.pools) {
    const size = pool.available
      ? `${formatBytes(pool.freeBytes)} free of ${formatBytes(pool.totalBytes)}`
      : `not available: ${pool.problem}`;
    io.out(`Pool ${pool.name}: ${size}\n`);
  }
}

/** Taking nodes away is never refused, but what HA keeps room for may be gone with them (HA-16). */
async function tellTolerance(session: Session): Promise<void> {
  const { client, consistency, limits, io } = session;
  const { verdict, tolerate, tolerateZones, impossible } = await client.call("HaService", "GetHa", { consistency }, limits);
  if (verdict === "protected" || (tolerate === 0 && !tolerateZones)) return;
  io.err(`HA is ${verdict} now${impossible[0] === undefined ? "" : `: ${impossible[0].text}`}; \`roost ha show\` says more\n`);
}

/** `rack=r1` sets, `rack-` takes away. */
function labelEdit(texts: readonly string[]): { setLabels: Record<string, string>; removeLabels: string[] } {
  const setLabels: Record<string, string> = {};
  const removeLabels: string[] = [];
  for (const text of texts) {
    const at = text.indexOf("=");
    if (at > 0) setLabels[text.slice(0, at)] = text.slice(at + 1);
    else if (text.length > 1 && text.endsWith("-")) removeLabels.push(text.slice(0, -1));
    else throw invalid("--label", `expected key=value, or key- to take it away, not ${JSON.stringify(text)}`);
  }
  return { setLabels, removeLabels };
}

export function addNodeCommands(program: Command, io: Io): void {
  const node = program.command("node").description("machines of the cluster");

  node
    .command("list")
    .alias("ls")
    .description("all nodes with what they run")
    .option("--removed", "those, too, that were removed for good")
    .action((options: { removed?: boolean }, command: Command) =>
      withSession(io, command, async (session) => {
        const nodes = (await listNodes(session)).filter((row) => options.removed === true || row.state !== "removed");
        await printList(io, session.format, nodes, columns(io), nodeRow);
      }),
    );

  node
    .command("show <node...>")
    .description("all about nodes")
    .action((names: string[], _options: object, command: Command) =>
      withSession(io, command, async (session) => {
        const found: Node__Output[] = [];
        await eachItem(io, names, async (name) => void found.push(await getNode(session, name)));
        found.sort((a, b) => a.peerId - b.peerId);
        if (session.format === "json" || session.format === "yaml") {
          return printValue(io, session.format, names.length === 1 && found[0] !== undefined ? nodeRow(found[0]) : found.map(nodeRow));
        }
        found.forEach((row, i) => {
          if (i > 0) io.out("\n");
          show(io, row);
        });
      }),
    );

  const change = async (
    session: Session,
    names: string[],
    call: (name: string, session: Session) => Promise<{ node: Node__Output | null }>,
  ): Promise<void> => {
    const done: Node__Output[] = [];
    await eachItem(io, names, async (name) => {
      const answer = await call(name, session);
      if (answer.node === null) return;
      done.push(answer.node);
      if (session.format === "table" || session.format === "wide") io.out(`${answer.node.name}: ${answer.node.state}\n`);
    });
    if (session.format === "json" || session.format === "yaml") await printValue(io, session.format, done.map(nodeRow));
  };

  node
    .command("disable <node...>")
    .description("nothing new lands on them; what runs there goes on")
    .action((names: string[], _options: object, command: Command) =>
      withSession(io, command, async (session) => {
        await change(session, names, (name) =>
          session.client.call("NodeService", "DisableNode", { node: name, requestId: io.newId() }, session.limits),
        );
        await tellTolerance(session);
      }),
    );
  node
    .command("enable <node...>")
    .description("VMs may be placed on them again")
    .action((names: string[], _options: object, command: Command) =>
      withSession(io, command, (session) =>
        change(session, names, (name) =>
          session.client.call("NodeService", "EnableNode", { node: name, requestId: io.newId() }, session.limits),
        ),
      ),
    );
  addDrainCommands(node, io, change);
  interface Edit {
    setLabels?: Record<string, string>;
    removeLabels?: string[];
    zone?: string;
    partition?: string;
  }
  const edit = (session: Session, names: string[], wish: Edit): Promise<void> =>
    change(session, names, (name) =>
      session.client.call("NodeService", "EditNode", { node: name, ...wish, requestId: io.newId() }, session.limits),
    );

  node
    .command("set <node...>")
    .description("change labels, zone or partition; VMs that run there stay")
    .option("-l, --label <key=value...>", "set labels; key- takes one away")
    .option("--zone <zone>", 'availability zone; "" for none')
    .option("--partition <name>", 'VMs of one partition never land in another; "" for none')
    .action((names: string[], options: { label?: string[]; zone?: string; partition?: string }, command: Command) =>
      withSession(io, command, (session) => {
        const { zone, partition } = options;
        const wish = {
          ...labelEdit(options.label ?? []),
          ...(zone === undefined ? {} : { zone }),
          ...(partition === undefined ? {} : { partition }),
        };
        return edit(session, names, wish);
      }),
    );
  node
    .command("label <node> <labels...>")
    .description("set labels: key=value, or take them away: key-")
    .action((name: string, labels: string[], _options: object, command: Command) =>
      withSession(io, command, (session) => edit(session, [name], labelEdit(labels))),
    );
  for (const what of ["zone", "partition"] as const) {
    node
      .command(`${what} <node> <name>`)
      .description(`put a node into a ${what}; "" takes it out`)
      .action((name: string, value: string, _options: object, command: Command) =>
        withSession(io, command, (session) => edit(session, [name], { [what]: value })),
      );
  }
  node
    .command("remove <node>")
    .description("take a node out for good: its certificate is refused from then on")
    .option("--dead", "it does not answer and never will")
    .option("--confirmed", "with --dead: you have made sure that the machine is off; its VMs start elsewhere at once")
    .action((name: string, options: { dead?: boolean; confirmed?: boolean }, command: Command) =>
      withSession(io, command, (session) =>
        change(session, [name], async () => {
          const answer = await session.client.call(
            "NodeService",
            "RemoveNode",
            { node: name, dead: options.dead ?? false, confirmed: options.confirmed ?? false, requestId: io.newId() },
            session.limits,
          );
          if (answer.node?.removing === true)
            io.err(`${name} is on its way out: Raft needs another voter, or a majority, first; \`roost node show ${name}\` follows it\n`);
          return answer;
        }),
      ),
    );
  addFencingCommands(node, io);
}
