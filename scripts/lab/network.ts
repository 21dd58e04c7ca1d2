/**
 * The lab's network: each node has a network namespace with one Ethernet port, and all ports end on a bridge in a
 * namespace of its own, the switch. So no firewall rule of the machine lies between nodes, and taking the namespaces away
 * takes all of it away. This machine itself has a port too, so that its shell reaches the nodes.
 */
import { createHash } from "node:crypto";
import { networkInterfaces } from "node:os";
import { run, tryRun } from "./run.ts";
import type { CutDirection, NetworkState } from "./ground.ts";

/** Names of one lab's parts, derived from its base folder: two labs never collide. */
export interface NetworkNames {
  /** Namespaces: the switch and one for each node. */
  switchNs: string;
  nodeNs: (node: string) => string;
  /** This machine's own port, in its own namespace; at most 15 characters. */
  hostPort: string;
  prefix: string;
}

export function networkNames(base: string): NetworkNames {
  const hash = createHash("sha256").update(base).digest("hex").slice(0, 6);
  const prefix = `roost-${hash}-`;
  return { prefix, switchNs: `${prefix}switch`, nodeNs: (node) => `${prefix}${node}`, hostPort: `rl${hash}` };
}

/** A /24 that this machine has no address in, "10.78.N": N begins at a number derived from the base folder. */
export function freeSubnet(base: string): string {
  const used = new Set(
    Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map((entry) => entry.address.split(".").slice(0, 3).join("."))),
  );
  const first = createHash("sha256").update(base).digest().readUInt8(0);
  for (let step = 0; step < 256; step += 1) {
    const subnet = `10.78.${(first + step) % 256}`;
    if (!used.has(subnet)) return subnet;
  }
  throw new Error("all of 10.78.0.0/16 is in use on this machine; name another network with --subnet");
}

/** Makes the switch, with this machine on it as SUBNET.254. */
export async function makeSwitch(names: NetworkNames, subnet: string): Promise<void> {
  await run(["ip", "netns", "add", names.switchNs]);
  await ip(names.switchNs, "link set lo up");
  await ip(names.switchNs, "link add br0 type bridge stp_state 0 forward_delay 0");
  await ip(names.switchNs, "link set br0 up");
  await run(["ip", "link", "add", names.hostPort, "type", "veth", "peer", "name", "host", "netns", names.switchNs]);
  await ip(names.switchNs, "link set host master br0 up");
  await run(["ip", "addr", "add", `${subnet}.254/24`, "dev", names.hostPort]);
  await run(["ip", "link", "set", names.hostPort, "up"]);
}

/** Makes a node's namespace with its port plugged in. */
export async function makePort(names: NetworkNames, node: string, address: string): Promise<void> {
  const ns = names.nodeNs(node);
  await run(["ip", "netns", "add", ns]);
  await ip(names.switchNs, `link add ${node} type veth peer name eth0 netns ${ns}`);
  await ip(names.switchNs, `link set ${node} master br0 up`);
  await ip(ns, "link set lo up");
  await ip(ns, `addr add ${address}/24 dev eth0`);
  await ip(ns, "link set eth0 up");
}

/** Both ways: the cable is pulled. One way: a queue that holds nothing drops what is to leave on that side. */
export async function cutPort(names: NetworkNames, node: string, direction: CutDirection): Promise<void> {
  if (direction === "both") await ip(names.switchNs, `link set ${node} down`);
  else if (direction === "in") await run(["tc", "-n", names.switchNs, ...`qdisc replace dev ${node} root pfifo limit 0`.split(" ")]);
  else await run(["tc", "-n", names.nodeNs(node), ...`qdisc replace dev eth0 root pfifo limit 0`.split(" ")]);
}

export async function healPort(names: NetworkNames, node: string): Promise<void> {
  await ip(names.switchNs, `link set ${node} up`);
  // Fails where there is no such queue, which is what is wanted.
  await tryRun(["tc", "-n", names.switchNs, "qdisc", "del", "dev", node, "root"]);
  await tryRun(["tc", "-n", names.nodeNs(node), "qdisc", "del", "dev", "eth0", "root"]);
}

export async function portState(names: NetworkNames, node: string): Promise<NetworkState> {
  const link = await run(["ip", "-n", names.switchNs, "-o", "link", "show", "dev", node]);
  if (!/<[^>]*\bUP\b[^>]*>/.test(link)) return { in: false, out: false };
  const dropped = async (ns: string, dev: string): Promise<boolean> =>
    /pfifo .*limit 0p/.test(await run(["tc", "-n", ns, "qdisc", "show", "dev", dev]));
  return { in: !(await dropped(names.switchNs, node)), out: !(await dropped(names.nodeNs(node), "eth0")) };
}

/** Namespaces of this lab that are there now, also of one that was broken off. */
export async function labNamespaces(names: NetworkNames): Promise<string[]> {
  const list = await tryRun(["ip", "netns", "list"]);
  return list.stdout
    .split("\n")
    .map((line) => line.split(" ")[0] ?? "")
    .filter((name) => name.startsWith(names.prefix));
}

/** Process ids in a network namespace, as this machine sees them. */
export async function pidsInNamespace(ns: string): Promise<number[]> {
  return (await tryRun(["ip", "netns", "pids", ns])).stdout.split("\n").filter(Boolean).map(Number);
}

export async function removeNetwork(names: NetworkNames): Promise<void> {
  await tryRun(["ip", "link", "del", names.hostPort]);
  for (const ns of await labNamespaces(names)) await run(["ip", "netns", "del", ns]);
}

async function ip(ns: string, words: string): Promise<void> {
  await run(["ip", "-n", ns, ...words.split(" ")]);
}
