/** Readable one-line forms of what crosses the adapter. */
import type { WireConfState, WireEntry, WireHardState, WireId, WireMessage, WireReady, WireSnapshot, WireStatus } from "./adapter.ts";

function target(id: WireId): string {
  return id === "A" ? "AppendThread" : id === "P" ? "ApplyThread" : id === 0 ? "None" : id.toString(16);
}

function list(ids: readonly number[]): string {
  return `[${ids.join(" ")}]`;
}

export function describeEntry(entry: WireEntry): string {
  let body = JSON.stringify(entry.data);
  if (entry.type !== "EntryNormal") body = (entry.cc?.changes ?? []).map(({ op, id }) => `${op}${id}`).join(" ");
  return `${entry.term}/${entry.index} ${entry.type}${body === "" ? "" : ` ${body}`}`;
}

export function describeConfState(state: WireConfState): string {
  return `Voters:${list(state.voters)} VotersOutgoing:${list(state.votersOutgoing)} Learners:${list(state.learners)} LearnersNext:${list(state.learnersNext)} AutoLeave:${state.autoLeave}`;
}

function describeSnapshot({ index, term, confState }: WireSnapshot): string {
  return `Index:${index} Term:${term} ConfState:${describeConfState(confState)}`;
}

function describeHardState({ term, vote, commit }: WireHardState): string {
  return `Term:${term}${vote === 0 ? "" : ` Vote:${vote}`} Commit:${commit}`;
}

export function describeMessage(m: WireMessage, indent = ""): string {
  let out = `${indent}${target(m.from)}->${target(m.to)} ${m.type} Term:${m.term} Log:${m.logTerm}/${m.index}`;
  if (m.reject) out += ` Rejected (Hint: ${m.rejectHint})`;
  if (m.commit !== 0) out += ` Commit:${m.commit}`;
  if (m.vote !== 0) out += ` Vote:${m.vote}`;
  if (m.entries.length === 1) out += ` Entries:[${describeEntry(m.entries[0]!)}]`;
  else if (m.entries.length > 1) out += ` Entries:[${m.entries.map((e) => `\n${indent}  ${describeEntry(e)}`).join("")}\n${indent}]`;
  if (m.snapshot !== null && m.snapshot.index !== 0) out += `\n${indent}  Snapshot: ${describeSnapshot(m.snapshot)}`;
  if (m.responses.length > 0) out += ` Responses:[${m.responses.map((r) => `\n${describeMessage(r, `${indent}  `)}`).join("")}\n${indent}]`;
  return out;
}

export function describeReady(ready: WireReady): string {
  const lines: string[] = [];
  if (ready.soft !== null) lines.push(`Lead:${ready.soft.lead} State:${ready.soft.state}`);
  if (ready.hard !== null) lines.push(`HardState ${describeHardState(ready.hard)}`);
  if (ready.readStates.length > 0) {
    const reads = ready.readStates.map(({ index, ctx }) => `{${index} ${list([...Buffer.from(ctx)])}}`);
    lines.push(`ReadStates [${reads.join(" ")}]`);
  }
  if (ready.entries.length > 0) lines.push("Entries:", ...ready.entries.map(describeEntry));
  if (ready.snapshot !== null && ready.snapshot.index !== 0) lines.push(`Snapshot ${describeSnapshot(ready.snapshot)}`);
  if (ready.committed.length > 0) lines.push("CommittedEntries:", ...ready.committed.map(describeEntry));
  if (ready.messages.length > 0) lines.push("Messages:", ...ready.messages.map((m) => describeMessage(m)));
  if (lines.length === 0) return "<empty Ready>";
  return [`Ready MustSync=${ready.mustSync}:`, ...lines].join("\n");
}

export function describeProgress(status: WireStatus): string {
  return status.progress
    .map((p) => {
      let out = `${p.id}: ${p.state} match=${p.match} next=${p.next}`;
      if (p.learner) out += " learner";
      if (p.paused) out += " paused";
      if (p.pendingSnap > 0) out += ` pendingSnap=${p.pendingSnap}`;
      if (p.inactive) out += " inactive";
      if (p.inflight > 0) out += ` inflight=${p.inflight}${p.full ? "[full]" : ""}`;
      return out;
    })
    .join("\n");
}

export function describeState(status: WireStatus): string {
  const { id, state, isVoter, term, lead } = status;
  return `${id}: ${state} ${isVoter ? "(Voter)" : "(Non-Voter)"} Term:${term} Lead:${lead}`;
}
