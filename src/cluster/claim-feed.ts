/** What the consensus thread must know of the state, sent only where it changed: claim sets, their settings, peers. */
import { claimOn } from "../model/claims.ts";
import { defaultSettings } from "../model/settings.ts";
import type { View } from "../model/view.ts";
import type { Peer } from "../raft/transport/links.ts";
import type { BeatSettings, ClaimSet } from "./consensus/protocol.ts";

export class ClaimFeed {
  readonly #sent = new Map<string, number>();
  settings: BeatSettings = beatSettings(null);
  #settingsSent = false;
  #peers = "";

  changes(view: View): {
    sets: { nodeId: string; set: ClaimSet }[];
    settings: BeatSettings | null;
    peers: Peer[] | null;
    removed: string[];
  } {
    const sets: { nodeId: string; set: ClaimSet }[] = [];
    for (const node of view.nodes.values()) {
      if (this.#sent.get(node.id) === node.claimRevision) continue;
      this.#sent.set(node.id, node.claimRevision);
      sets.push({ nodeId: node.id, set: claimSet(view, node.id, node.claimRevision) });
    }
    const settings = beatSettings(view);
    const settingsChanged = !this.#settingsSent || JSON.stringify(settings) !== JSON.stringify(this.settings);
    this.settings = settings;
    this.#settingsSent = true;

    const peers = [...view.nodes.values()]
      .filter((node) => node.role !== "none" && node.state !== "removed")
      .map((node) => ({ peerId: node.peerId, nodeId: node.id, address: node.peerAddress, zone: node.zone }))
      .toSorted((a, b) => a.peerId - b.peerId);
    const removed = [...view.nodes.values()].filter((node) => node.state === "removed").map((node) => node.id);
    const text = JSON.stringify([peers, removed]);
    const peersChanged = peers.length > 0 && text !== this.#peers;
    if (peersChanged) this.#peers = text;
    return { sets, settings: settingsChanged ? settings : null, peers: peersChanged ? peers : null, removed };
  }
}

function claimSet(view: View, nodeId: string, revision: number): ClaimSet {
  const items = [...(view.claimsByNode.get(nodeId) ?? [])].map((vmId) => ({
    vmId,
    generation: claimOn(view.vms.get(vmId) ?? { claim: null }, nodeId)?.generation ?? 0,
  }));
  return { revision, items };
}

function beatSettings(view: View | null): BeatSettings {
  const settings = view?.cluster?.settings ?? defaultSettings();
  return {
    heartbeatMs: settings["ha.heartbeatMs"],
    claimMs: settings["ha.claimMs"],
    checkpointMbps: settings["raft.checkpointMbps"],
  };
}
