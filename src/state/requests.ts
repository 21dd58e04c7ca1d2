/**
 * Exactly once (STA-2): a repeated request gets the first answer, and one too old to be known is refused, never executed. An id
 * therefore says when it was made, and what is kept and what is refused follows from the log alone: no clock of a replica has a
 * say (docs/design/007-state-guarantees.md).
 *
 * - `#REVISION.TEXT`, a node's own: made at a revision of the log, so that a node with a wrong clock can still propose.
 * - `TEXT@MS` or a UUIDv7 (RFC 9562), a caller's: made at a wall-clock time, ms since 1970.
 */
import { RoostError } from "../base/errors.ts";
import type { Envelope } from "./commands.ts";
import type { Outcome } from "./outcome.ts";
import type { RowChange, State } from "./state.ts";

/** Answers to nodes' own proposals are kept for this many revisions. */
export const OWN_KEPT_REVISIONS = 65_536;
/** So many of the callers' answers are kept, the newest by the time in their ids. */
export const CALLERS_KEPT = 20_000;
/** A caller's clock may be ahead of the node's that it calls by this much; ids from further ahead would stay for ever. */
export const AHEAD_MAX_MS = 3_600_000;

/** A node's own proposal that was applied. */
export interface AppliedRequest {
  requestId: string;
  /** Index that applied it. */
  revision: number;
  outcome: Outcome;
}

/** A caller's request that was applied. */
export interface CallerRequest {
  requestId: string;
  /** The time in its id. */
  madeMs: number;
  outcome: Outcome;
}

export type RequestTime = { kind: "own"; revision: number } | { kind: "caller"; madeMs: number };

/** When a request was made, by its id; null if the id does not say. */
export function requestTime(requestId: string): RequestTime | null {
  if (requestId.startsWith("#")) {
    const own = /^#(\d{1,15})\../.exec(requestId);
    return own === null ? null : { kind: "own", revision: Number(own[1]) };
  }
  const named = /^.+@(\d{12,14})$/.exec(requestId);
  if (named !== null) return { kind: "caller", madeMs: Number(named[1]) };
  const uuid = /^([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i.exec(requestId);
  return uuid === null ? null : { kind: "caller", madeMs: Number.parseInt(`${uuid[1] ?? ""}${uuid[2] ?? ""}`, 16) };
}

/** Id of a node's own proposal, made when its state was at `revision`; `text` tells it from all others made there. */
export function ownRequestId(revision: number, text: string): string {
  return `#${revision}.${text}`;
}

/** The first answer, if it is kept. */
export function firstAnswer(state: State, requestId: string): Outcome | undefined {
  return (state.requests.get(requestId) ?? state.callers.get(requestId))?.outcome;
}

/** Why a request without a kept answer must not be executed; null if it is new. `atMs`: its envelope's. */
export function whyExpired(state: State, requestId: string, atMs: number): RoostError | null {
  const time = requestTime(requestId);
  if (time === null) {
    return new RoostError(
      {
        kind: "expired",
        what: `request ${JSON.stringify(requestId)}: its id does not say when it was made, so it cannot be told from a repeat;`,
      },
      "use a UUIDv7 or TEXT@UNIX_MS, or leave the request id empty",
    );
  }
  if (time.kind === "own") {
    return time.revision > state.index - OWN_KEPT_REVISIONS
      ? null
      : new RoostError(
          { kind: "expired", what: `request ${requestId}, made ${state.index - time.revision} revisions ago,` },
          "propose it anew",
        );
  }
  if (time.madeMs > atMs + AHEAD_MAX_MS) {
    return new RoostError(
      {
        kind: "expired",
        what: `request ${requestId}: the time in its id is ${Math.round((time.madeMs - atMs) / 1000)} s ahead of the node's clock; it`,
      },
      "set the clocks, or leave the request id empty",
    );
  }
  const oldest = state.callerTimes[0];
  // Full, and older than all that is kept: it may have been one of those forgotten.
  if (state.callers.size < CALLERS_KEPT || oldest === undefined || time.madeMs > oldest.madeMs) return null;
  return new RoostError(
    { kind: "expired", what: `request ${requestId}: the last ${CALLERS_KEPT} requests' answers are kept, and this one is older; it` },
    "look whether it took effect, then ask again with a new request id",
  );
}

/**
 * Nodes' own proposals that were applied, oldest first. There are 65,536 of them and one more with each write, so they are no objects:
 * most answers say nothing but yes, or yes and the index, and take a number.
 */
export class OwnAnswers {
  readonly #kept = new Map<string, PlainAnswer | AppliedRequest>();
  /** Ids in order of revision; those before `first` are forgotten, and leave the array now and then. */
  #order: string[] = [];
  #first = 0;

  get size(): number {
    return this.#kept.size;
  }

  has(requestId: string): boolean {
    return this.#kept.has(requestId);
  }

  get(requestId: string): AppliedRequest | undefined {
    const kept = this.#kept.get(requestId);
    return typeof kept === "number" ? unpacked([requestId, kept]) : kept;
  }

  set(requestId: string, row: AppliedRequest | null): void {
    if (row === null) {
      this.#kept.delete(requestId);
      return;
    }
    this.#kept.set(requestId, plain(row) ?? row);
    this.#order.push(requestId);
  }

  /** Answers of revisions up to this one go. */
  forget(revision: number): void {
    for (; this.#first < this.#order.length; this.#first++) {
      const requestId = this.#order[this.#first] as string;
      const kept = this.#kept.get(requestId);
      if (kept !== undefined && (typeof kept === "number" ? Math.abs(kept) : kept.revision) > revision) break;
      this.#kept.delete(requestId);
    }
    if (this.#first < 8_192) return;
    this.#order = this.#order.slice(this.#first);
    this.#first = 0;
  }

  keys(): MapIterator<string> {
    return this.#kept.keys();
  }

  *values(): Generator<AppliedRequest> {
    for (const [requestId, kept] of this.#kept) yield typeof kept === "number" ? unpacked([requestId, kept]) : kept;
  }
}

/** The revision of an answer that is a plain yes; below zero: of one that also tells that index. */
type PlainAnswer = number;

/** An answer as it is stored: many of them are one row of the database. */
export type PackedAnswer = [requestId: string, answer: PlainAnswer] | [requestId: string, revision: number, outcome: Outcome];

export function packed(row: AppliedRequest): PackedAnswer {
  const answer = plain(row);
  return answer === null ? [row.requestId, row.revision, row.outcome] : [row.requestId, answer];
}

export function unpacked([requestId, answer, outcome]: PackedAnswer): AppliedRequest {
  if (outcome !== undefined) return { requestId, revision: answer, outcome };
  const revision = Math.abs(answer);
  return { requestId, revision, outcome: { ok: true, result: answer < 0 ? { index: revision } : {} } };
}

/** Null: the answer says more. */
function plain({ revision, outcome }: AppliedRequest): PlainAnswer | null {
  if (!outcome.ok) return null;
  let answer: PlainAnswer = revision;
  for (const [name, value] of Object.entries(outcome.result)) {
    if (value === undefined) continue;
    if (name !== "index" || value !== revision) return null;
    answer = -revision;
  }
  return answer;
}

/** The rows that keep an answer. */
export function remembered(state: State, envelope: Envelope, revision: number, outcome: Outcome): RowChange[] {
  const { requestId } = envelope;
  const time = requestTime(requestId);
  if (time === null) return [];
  if (time.kind === "own") return [{ table: "requests", key: requestId, row: { requestId, revision, outcome } }];
  const changes: RowChange[] = [{ table: "callers", key: requestId, row: { requestId, madeMs: time.madeMs, outcome } }];
  const oldest = state.callerTimes[0];
  if (state.callers.size >= CALLERS_KEPT && oldest !== undefined) changes.unshift({ table: "callers", key: oldest.requestId, row: null });
  return changes;
}
