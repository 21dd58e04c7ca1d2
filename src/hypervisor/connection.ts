/**
 * The contract of drivers for what is no hypervisor and has a pool of slots of its own: network devices and backup managers (LIM-1). The
 * worker of a node (src/agent/connections.ts) logs in once a job, so that sessions are what `device.openSession` and `backup.openSession`
 * count. Every implementation passes test/contract/connection.ts.
 *
 * Rules: `apply` sets a state, so that doing it again changes nothing more; `undo` takes back what this job made, whole or half, and is
 * content if nothing is there; both end soon after `signal` is given, by throwing.
 */
import type { JobName } from "../model/task.ts";

export interface ConnectionDriver {
  readonly pool: "device" | "backup";
  /** Of the device or manager; the same on every node that reaches it. */
  readonly name: string;
  /** By which its settings are called: `nsx` in `nsx.device.openSession`. */
  readonly kind: string;
  /** Sessions that it allows for, null: it does not say; and whether it knows vdcs (LIM-3). */
  readonly maxSessions: number | null;
  readonly vdcs: boolean;
  login(): Promise<ConnectionSession>;
  /** In use now. */
  sessions(): number;
}

export interface ConnectionSession {
  apply(work: ConnectionWork): Promise<void>;
  undo(work: ConnectionWork): Promise<void>;
  logout(): Promise<void>;
}

export interface ConnectionWork {
  job: JobName;
  /** The task's id: what one job made is told from what others did for the same VM. */
  taskId: string;
  vmId: string;
  vmName: string;
  vdc: string;
  signal: AbortSignal;
  /** For the step log (TSK-8). */
  step(name: string, detail: string): void;
}
