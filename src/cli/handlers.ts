/** What the program hands over to higher floors: src/main.ts gives these, loaded only when called. */
import type { ConfigKey } from "../base/config.ts";

/** Flags as written; the daemon resolves them with the environment and the config file (resolveConfig). */
export interface DaemonOptions {
  flags: Partial<Record<ConfigKey, string>>;
  /** Path of the config file, or null for `<data>/config.yaml` if there is one. */
  configFile: string | null;
  /** Stay in the foreground and log to standard error; else start a daemon of its own and return when it serves. */
  foreground: boolean;
}

/** Those that are processes of their own resolve with the exit code. */
export interface Handlers {
  /** Founds a cluster of one in an empty data folder, or starts the node that the folder knows. */
  up: (options: DaemonOptions & { clusterName: string | null }) => Promise<number>;
  join: (token: string, options: DaemonOptions & { witness?: boolean }) => Promise<number>;
  /** The daemon proper, started by `up` and `join` without --foreground. */
  daemon: (options: DaemonOptions) => Promise<number>;
  /** The process that owns the deadlines; words are between agent and keeper only. */
  keeper: (words: string[]) => Promise<number>;
  /** Beside a stopped agent, on its data folder; with `yes` false nothing is changed. */
  recover: (options: { dataDir: string; off: readonly string[]; yes: boolean; acceptLoss: boolean }) => Promise<RecoverAnswer>;
  rejoin: (options: { dataDir: string; address: string; yes: boolean }) => Promise<RejoinAnswer>;
  restore: (options: {
    file: string;
    flags: DaemonOptions["flags"];
    as: string | null;
    off: readonly string[];
    generation: number | null;
    yes: boolean;
  }) => Promise<RestoreAnswer>;
  /** Paths of files, `-` for standard input. */
  schedulerPlan: (files: { cluster: string; request: string }) => Promise<OfflineAnswer>;
  schedulerExplain: (
    files: { cluster: string; request: string },
    question: { vm: string; whyNot: string | null },
  ) => Promise<OfflineAnswer>;
  /** A request planned again and compared with an answer of before; without a request, the recording in the cluster's file. */
  schedulerReplay: (files: { cluster: string; request: string | null }, options: ReplayOptions) => Promise<OfflineAnswer>;
  /** Migrations that even out the cluster in a file; null for no limit, `minGain` absent for the default. */
  schedulerRebalance: (
    cluster: string,
    options: { maxMib: number | null; maxSteps: number | null; minGain?: number },
  ) => Promise<OfflineAnswer>;
  schedulerWhatIf: (cluster: string, script: string) => Promise<OfflineAnswer>;
}

export interface ReplayOptions {
  /** Path of what `plan -o json` printed before; null to compare two plans of now. */
  answer: string | null;
  /** Revisions of a recording. */
  from: number;
  to: number;
  /** Settings of a recording that shall be others, as written. */
  settings: Record<string, string>;
}

/** What a command without a cluster answers: data for programs, a table for people. */
export interface OfflineAnswer {
  json: unknown;
  table: { head: string[]; rows: string[][] };
}

export interface RecoverAnswer {
  done: boolean;
  node: string;
  clusterId: string;
  generation: number;
  lastTerm: number;
  lastIndex: number;
  /** Entries that this node did not know to be committed, and keeps. */
  uncertain: number;
  nodes: {
    name: string;
    fate: "goes on" | "survives" | "off" | "unknown";
    lastTerm: number | null;
    lastIndex: number | null;
    vms: number;
  }[];
}

export interface RejoinAnswer {
  done: boolean;
  node: string;
  from: number;
  generation: number;
  /** Suffix of the folders put aside. */
  aside: string;
}

export interface RestoreAnswer {
  done: boolean;
  node: string;
  clusterId: string;
  clusterName: string;
  generation: number;
  revision: number;
  createdAtMs: number;
  vms: number;
  nodes: { name: string; off: boolean; vms: number }[];
}
