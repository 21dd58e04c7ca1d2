/** One run of a VM on one node, as that node's own records have it (HA-18). */

export interface NodeRun {
  vmId: string;
  generation: number;
  /** The guest executed nothing before, and nothing after; null if it runs yet. The node's wall clock, ms since 1970. */
  fromMs: number;
  toMs: number | null;
  /** False: it was found running, and began some time before `fromMs`. */
  sawBegin: boolean;
  /** Between these it was certainly there; equal if it was seen once or never. */
  sureFromMs: number;
  sureToMs: number;
  /** For people: how it ended; empty while it runs. */
  ended: string;
  /** Nobody saw it end: its host went down, and `toMs` is when the host was back. */
  hostWentDown: boolean;
}

/** What one node has to say of its runs. */
export interface NodeRuns {
  runs: NodeRun[];
  /** The oldest that is kept, wall clock ms; nothing before is known. 0: nothing was ever recorded. */
  sinceMs: number;
  /** Records that could not be written. */
  lost: number;
}
