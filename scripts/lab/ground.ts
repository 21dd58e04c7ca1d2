/** What the lab stands on: namespaces of this machine, or plain processes on loopback where those are refused. */
import type { NodePlace } from "./agent.ts";
import type { LabProcess } from "./processes.ts";

/** A node's folders and addresses. */
export interface LabPlace extends NodePlace {
  /** 1, 2, … */
  index: number;
  /** The node's own folder; `data`, `log` and `host` lie in it. */
  dir: string;
}

export interface NetworkState {
  /** False while the node receives nothing. */
  in: boolean;
  /** False while nothing that the node sends arrives. */
  out: boolean;
}

export type CutDirection = "in" | "out" | "both";

export interface Ground {
  readonly kind: "namespaces" | "loopback";
  /** Networks and folders that all nodes share; called once, before any powerOn. */
  lay(places: readonly LabPlace[]): Promise<void>;
  /** Starts the node's init (and with it libvirtd, and the agent if the node has an agent.argv). Ends when it can be used. */
  powerOn(place: LabPlace): Promise<void>;
  /** kill -9 of everything at once; ends when nothing of it is left. */
  powerOff(place: LabPlace): Promise<void>;
  isOn(place: LabPlace): boolean;
  processes(place: LabPlace): LabProcess[];
  /** The command line that runs `argv` inside the node. */
  inside(place: LabPlace, argv: readonly string[]): string[];
  /** Starts the agent from the node's agent.argv, or libvirtd, unless it runs. */
  start(place: LabPlace, what: "agent" | "libvirtd"): Promise<void>;
  cut(place: LabPlace, direction: CutDirection): Promise<void>;
  heal(place: LabPlace): Promise<void>;
  network(place: LabPlace): Promise<NetworkState>;
  /** Ends everything and takes away all but the base folder. Must also work on what a broken-off lab left. */
  raze(places: readonly LabPlace[]): Promise<void>;
}
