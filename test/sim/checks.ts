/** What must hold in every run of the simulation (paper figure 3). Each check throws with the rule's name. */
import type { RaftLog } from "../../src/raft/core/log.ts";
import type { Entry, PeerId } from "../../src/raft/core/types.ts";

export class Violation extends Error {}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

export class Checks {
  private readonly leaders = new Map<number, PeerId>();
  /** Every entry that anybody has applied, by index. */
  private readonly applied: (Entry | undefined)[] = [];
  /** Highest index that anybody has applied: what a linearizable read must not miss. */
  highest = 0;

  /** Election safety, and leader completeness: at most one leader a term, and it has everything that was committed before. */
  leads(id: PeerId, term: number, log: RaftLog): void {
    const other = this.leaders.get(term);
    if (other === id) return;
    if (other !== undefined) throw new Violation(`election safety: ${other} and ${id} lead in term ${term}`);
    this.leaders.set(term, id);
    for (let index = log.firstIndex(); index <= this.highest; index++) {
      const entry = this.applied[index];
      if (entry !== undefined && entry.term < term && !log.matches(index, entry.term)) {
        throw new Violation(`leader completeness: leader ${id} of term ${term} lacks ${entry.term}/${index}`);
      }
    }
  }

  /** State machine safety: nobody applies another entry at the same index, and nobody leaves one out. */
  applies(id: PeerId, previous: number, entry: Entry): void {
    if (entry.index !== previous + 1) throw new Violation(`state machine safety: ${id} applies ${entry.index} after ${previous}`);
    const known = this.applied[entry.index];
    if (known === undefined) {
      this.applied[entry.index] = entry;
      this.highest = Math.max(this.highest, entry.index);
    } else if (known.term !== entry.term || known.kind !== entry.kind || !same(known.data, entry.data)) {
      throw new Violation(`state machine safety: ${id} applies ${entry.term}/${entry.index}, others ${known.term}/${known.index}`);
    }
  }

  /** Log matching: two logs that agree in one place agree before it. */
  match(a: RaftLog, b: RaftLog): void {
    const from = Math.max(a.firstIndex(), b.firstIndex());
    let agree = false;
    for (let index = Math.min(a.lastIndex(), b.lastIndex()); index >= from; index--) {
      const left = a.term(index);
      const equal = left === b.term(index);
      if (agree && !equal) throw new Violation(`log matching: logs agree above ${index} but not there`);
      agree ||= equal;
    }
  }

  /** Linearizable reads: one that was asked for when `before` was applied somewhere sees that. */
  reads(id: PeerId, before: number, index: number): void {
    if (index < before) throw new Violation(`read at ${id} sees ${index}, but ${before} was applied when it was asked for`);
  }
}
