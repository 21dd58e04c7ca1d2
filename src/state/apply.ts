/** Applies one committed command. Synchronous and pure but for the state it is given (STA-1). */
import { RoostError } from "../base/errors.ts";
import type { Membership } from "../model/membership.ts";
import * as bench from "./appliers/bench.ts";
import { defaultSettings } from "../model/settings.ts";
import * as cluster from "./appliers/cluster.ts";
import * as fencing from "./appliers/fencing.ts";
import * as digest from "./appliers/digest.ts";
import * as drain from "./appliers/drain.ts";
import * as node from "./appliers/node.ts";
import * as removal from "./appliers/removal.ts";
import * as policy from "./appliers/policy.ts";
import * as pool from "./appliers/pool.ts";
import * as recovery from "./appliers/recovery.ts";
import * as task from "./appliers/task.ts";
import * as token from "./appliers/token.ts";
import * as migration from "./appliers/vm-migration.ts";
import * as vm from "./appliers/vm.ts";
import type { Command, CommandType, Envelope } from "./commands.ts";
import { historyOf } from "./history.ts";
import type { CommandResult, Event, Outcome } from "./outcome.ts";
import { eventKey } from "./events.ts";
import { levelOf, PROGRAM_LEVEL, unknownCommand, whyNotYet } from "./levels.ts";
import { firstAnswer, remembered, whyExpired } from "./requests.ts";
import type { RowChange, State } from "./state.ts";
import { Transaction } from "./transaction.ts";

type CommandOf<T extends CommandType> = Extract<Command, { type: T }>;
type Applier<T extends CommandType> = (tx: Transaction, command: CommandOf<T>) => CommandResult;

/** One applier a command; the type makes the table exhaustive. */
const APPLIERS: { [T in CommandType]: Applier<T> } = {
  "cluster.init": cluster.init,
  "setting.update": cluster.updateSetting,
  "setting.reset": cluster.resetSetting,
  "settings.profile": cluster.applyProfile,
  "claims.shorten": cluster.shortenClaims,
  "cluster.recover": recovery.recover,
  "level.raise": cluster.raiseLevel,
  "digest.ask": digest.ask,
  "digest.report": digest.report,
  "node.join": node.join,
  "node.join-confirm": node.confirmJoin,
  "node.join-abort": node.abortJoin,
  "node.hello": node.hello,
  "node.info": node.report,
  "node.suspect": node.suspect,
  "node.alive": node.alive,
  "node.expire": node.expire,
  "node.park": node.park,
  "node.enable": node.enable,
  "node.drain": drain.drain,
  "node.undrain": drain.undrain,
  "node.drain-report": drain.report,
  "node.fence": node.fence,
  "fencing.set": fencing.set,
  "fencing.unset": fencing.unset,
  "fence.begin": fencing.begin,
  "fence.try": fencing.startTry,
  "fence.report": fencing.report,
  "fence.end": fencing.end,
  "node.remove": removal.remove,
  "node.removed": removal.removed,
  "node.edit": node.edit,
  "policy.create": policy.create,
  "policy.update": policy.update,
  "policy.enable": policy.enable,
  "policy.delete": policy.remove,
  "zone.set": policy.setZone,
  "token.create": token.create,
  "token.revoke": token.revoke,
  "pool.create": pool.create,
  "pool.delete": pool.remove,
  "vm.create": vm.create,
  "vm.desire": vm.desire,
  "vm.rehome": vm.rehome,
  "vm.migrate": migration.migrate,
  "vm.migrate-abort": migration.abort,
  "vm.place": vm.place,
  "vm.report": vm.report,
  "vm.retry": vm.retry,
  "task.cancel": task.cancel,
  "task.dispatch": task.dispatch,
  "task.begin": task.begin,
  "task.progress": task.progress,
  "task.answer": task.answer,
  "bench.put": bench.put,
};

export interface Applied {
  outcome: Outcome;
  events: Event[];
  changes: RowChange[];
  /** True if the request had been applied before and its first answer was returned. */
  repeated: boolean;
}

/**
 * @param position Raft index and term of the entry.
 * @throws AssertionError on a bug, RoostError `unsupported` on a command this version does not know: the replica must stop then,
 *   because going on would let it drift from the others.
 */
export function apply(state: State, envelope: Envelope, position: { index: number; term: number }): Applied {
  state.moveTo(position);
  const before = firstAnswer(state, envelope.requestId);
  if (before !== undefined) return { outcome: before, events: [], changes: [], repeated: true };
  const expired = whyExpired(state, envelope.requestId, envelope.atMs);
  if (expired !== null) return { outcome: refusal(expired), events: [], changes: [], repeated: false };

  const { type } = envelope.command;
  if (!Object.hasOwn(APPLIERS, type) || levelOf(type) > PROGRAM_LEVEL) throw unknownCommand(type, position.index);
  const applier = APPLIERS[type] as Applier<CommandType>;

  const tx = new Transaction(state, envelope, position);
  let outcome: Outcome;
  try {
    const notYet = whyNotYet(state, type);
    if (notYet !== null) throw notYet;
    fencing.noteLife(tx, envelope.origin);
    outcome = { ok: true, result: applier(tx, envelope.command) };
  } catch (thrown) {
    if (!(thrown instanceof RoostError)) throw thrown;
    outcome = refusal(thrown);
  }
  const changes = outcome.ok ? tx.changes() : [];
  if (outcome.ok) changes.push(...retired(state, changes));
  if (outcome.ok) changes.push(...historyOf(state, changes, { index: position.index, atMs: envelope.atMs, certificate: tx.certificate }));
  const events = outcome.ok ? tx.events : [];
  changes.push(...remembered(state, envelope, position.index, outcome), ...kept(state, position.index, events));
  for (const change of changes) state.write(change);
  return { outcome, events, changes, repeated: false };
}

function refusal(error: RoostError): Outcome {
  return error.hint === undefined ? { ok: false, fault: error.fault } : { ok: false, fault: error.fault, hint: error.hint };
}

/** A configuration entry of Raft: its membership, mirrored into the nodes' rows. */
export function applyMembership(
  state: State,
  membership: Membership,
  position: { index: number; term: number },
): Omit<Applied, "outcome" | "repeated"> {
  state.moveTo(position);
  // No clock speaks here, so events of it carry the time of nobody.
  const envelope: Envelope = {
    requestId: "",
    origin: "",
    atMs: 0,
    actor: "raft",
    term: position.term,
    command: { type: "vm.retry", vmId: "" },
  };
  const tx = new Transaction(state, envelope, position);
  node.mirrorMembership(tx, membership);
  const changes = tx.changes();
  changes.push(...historyOf(state, changes, { index: position.index, atMs: 0, certificate: null }));
  changes.push(...kept(state, position.index, tx.events));
  for (const change of changes) state.write(change);
  return { events: tx.events, changes };
}

/** An entry that changes nothing: only the position moves. */
export function applyNothing(state: State, position: { index: number; term: number }): void {
  state.moveTo(position);
}

/** More than these are not dropped by one command, so that a smaller `tasks.kept` costs no long moment. */
const RETIRED_MAX = 200;

/** Finished tasks that go because there are more than are kept. */
function retired(state: State, changes: readonly RowChange[]): RowChange[] {
  const ended = changes.filter(({ table, row }) => table === "tasks" && row !== null && row.endedRevision !== null).length;
  const limit = (state.cluster?.settings ?? defaultSettings())["tasks.kept"];
  const surplus = Math.min(state.taskIndex.finished + ended - limit, state.taskIndex.finished, RETIRED_MAX);
  if (surplus <= 0) return [];
  return state.taskIndex.oldest(surplus).map((key): RowChange => ({ table: "tasks", key, row: null }));
}

/** The row that keeps a revision's events, and those that go for it. */
function kept(state: State, revision: number, events: readonly Event[]): RowChange[] {
  if (events.length === 0) return [];
  const limit = (state.cluster?.settings ?? defaultSettings())["state.eventsKept"];
  const changes: RowChange[] = [];
  for (const row of state.events.surplus(limit, events.length)) changes.push({ table: "events", key: eventKey(row.revision), row: null });
  const previous = state.events.newest;
  changes.push({ table: "events", key: eventKey(revision), row: { revision, previous, events: [...events] } });
  return changes;
}
