/** What goes wrong in the HA simulation, and how it is mended in the end. */
import type { Consensus } from "./ha-consensus.ts";
import type { Mutation } from "./ha-mutations.ts";
import type { SimHost } from "./ha-node.ts";
import type { World } from "./ha-world.ts";

/** Faults come for so long. */
export const TROUBLE_MS = 60_000;

/** One fault after the other, several at once; each ends by itself. */
export function trouble(world: World, consensus: Consensus, hosts: SimHost[], mutation: Mutation): void {
  if (world.nowMs > TROUBLE_MS - 5_000) return;
  const host = hosts[world.random.below(hosts.length)] as SimHost;
  const leading = hosts.find((candidate) => candidate.peer.leading) ?? host;
  const victim = world.chance(0.4) ? leading : host;
  const lastsMs = world.between(200, 9_000);
  const id = victim.peer.id;
  const kind = world.random.below(14);
  const others = hosts.filter((other) => other !== victim);
  const cutLinks = (links: string[], set: Set<string>): void => {
    for (const link of links) set.add(link);
    world.after(lastsMs, () => {
      for (const link of links) set.delete(link);
    });
  };
  if (kind === 0) {
    victim.powerOff();
    world.after(lastsMs, () => {
      if (!victim.hostProcess.alive) victim.powerOn();
    });
  } else if (kind <= 2)
    cutLinks(
      others.flatMap(({ peer }) => [`${id}>${peer.id}`, `${peer.id}>${id}`]),
      world.cut,
    );
  else if (kind === 3) {
    // One more on the victim's side: a leader that keeps a follower, but not a quorum.
    const side = new Set([id, others[world.random.below(others.length)]?.peer.id]);
    const across = hosts.flatMap(({ peer: a }) =>
      hosts.filter(({ peer: b }) => side.has(a.id) !== side.has(b.id)).map(({ peer: b }) => `${a.id}>${b.id}`),
    );
    cutLinks(across, world.cut);
  } else if (kind === 4)
    cutLinks(
      others.map(({ peer }) => (world.chance(0.5) ? `${id}>${peer.id}` : `${peer.id}>${id}`)),
      world.cut,
    );
  else if (kind === 5)
    cutLinks(
      others.flatMap(({ peer }) => [`${id}>${peer.id}`, `${peer.id}>${id}`]),
      world.slow,
    );
  else if (kind === 11) {
    // Its acknowledgements are long under way while its heartbeats already fail to arrive.
    cutLinks(
      others.map(({ peer }) => `${peer.id}>${id}`),
      world.slow,
    );
    world.after(world.between(500, 2_000), () =>
      cutLinks(
        others.map(({ peer }) => `${id}>${peer.id}`),
        world.cut,
      ),
    );
  } else if (kind === 6) pause(world, [victim.peer.process], lastsMs);
  else if (kind === 7) pause(world, [victim.keeperProcess], lastsMs);
  else if (kind === 8) pause(world, [victim.keeperProcess, victim.peer.process], lastsMs);
  else if (kind === 9) {
    if (world.chance(0.5)) victim.killKeeper();
    if (world.chance(0.7)) {
      victim.killAgent();
      world.after(lastsMs, () => {
        if (!victim.peer.process.alive) victim.startAgent();
      });
    }
  } else if (kind === 12) victim.freeze(world.chance(0.5) ? lastsMs : world.between(4_000, 12_000));
  else if (kind === 13) removeDead(consensus, hosts, mutation);
  else if (world.chance(0.5)) victim.park(world.between(3_000, 9_000));
  else for (const vmId of [...victim.domains.keys()].slice(0, 2)) victim.domains.delete(vmId);
  world.lossRate = world.chance(0.2) ? 0.2 : 0.01;
  world.after(world.between(300, 6_000), () => trouble(world, consensus, hosts, mutation));
}

function pause(world: World, processes: SimHost["keeperProcess"][], lastsMs: number): void {
  for (const process of processes) {
    if (!process.works) continue;
    const { incarnation } = process;
    process.pause();
    world.after(lastsMs, () => {
      if (process.incarnation === incarnation) process.unpause();
    });
  }
}

export function heal(world: World, hosts: SimHost[]): void {
  world.cut.clear();
  world.slow.clear();
  world.lossRate = 0;
  for (const host of hosts) {
    if (!host.hostProcess.alive) host.powerOn();
    else if (!host.peer.process.alive) host.startAgent();
  }
}

/** An operator gives up a node that does not answer; later it comes back all the same. One of five at most: three remain. */
function removeDead(consensus: Consensus, hosts: SimHost[], mutation: Mutation): void {
  const leader = hosts.find(({ peer }) => peer.leading && peer.effective);
  if (leader === undefined || consensus.members.length < 5) return;
  const silent = [...leader.peer.state.nodes.values()].find((node) => node.state === "unreachable" || node.state === "fenced");
  if (silent === undefined) return;
  const proof = mutation === "remove-is-proof" ? ({ kind: "operator", nodeId: silent.id, user: "sim" } as const) : null;
  consensus.propose(leader.peer, { type: "node.remove", nodeId: silent.id, dead: true, proof }, {}, () => {});
}
