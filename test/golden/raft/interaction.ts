/**
 * A small world of peers that transcript commands act on: a network that is a list of messages, storage and state machine of
 * each peer in memory, everything in an order that only the commands decide.
 */
import type { WireConfig, WireEntry, WireHardState, WireMessage, WireNode, WireSnapshot } from "./adapter.ts";
import { createCluster, WireError } from "./adapter.ts";
import { describeEntry, describeMessage, describeProgress, describeReady, describeState } from "./describe.ts";
import type { Directive } from "./transcript.ts";

interface Member {
  id: number;
  config: WireConfig;
  node: WireNode;
  appendWork: WireMessage[];
  applyWork: WireMessage[];
  /** The state machine after every applied entry: a string that data is appended to. */
  history: WireSnapshot[];
}

const CHANGE = /^([vlru])(\d+)$/;

export class Interaction {
  private readonly members: Member[] = [];
  private messages: WireMessage[] = [];
  private out: string[] = [];
  private quiet = false;

  /** Runs one directive; what it printed. */
  run(directive: Directive): string {
    this.out = [];
    try {
      this.dispatch(directive);
    } catch (error) {
      // Refusals and legal errors are part of a transcript; broken invariants are too, marked as such.
      if (!(error instanceof Error)) throw error;
      const line = error instanceof WireError ? error.message : `PANIC ${error.message}`;
      if (this.quiet) return line;
      this.out.push(line);
    }
    return this.quiet || this.out.length === 0 ? "ok" : this.out.join("\n");
  }

  private dispatch(d: Directive): void {
    const ids = d.args.filter(({ values }) => values.length === 0).map(({ key }) => Number(key));
    const value = (key: string): string | undefined => d.args.find((arg) => arg.key === key)?.values[0];
    switch (d.command) {
      case "log-level":
        this.quiet = d.args[0]?.key.toLowerCase() === "none";
        return;
      case "add-nodes":
        return this.addNodes(d);
      case "campaign":
        return this.member(ids[0]).node.campaign();
      case "compact":
        this.member(ids[0]).node.compact(ids[1]!);
        return this.printLog(ids[0]!);
      case "deliver-msgs":
        return this.deliverCommand(d);
      case "process-ready":
        return this.each(ids, "handling Ready", (id) => this.processReady(id));
      case "process-append-thread":
        return this.each(ids, "processing append thread", (id) => this.processAppend(id));
      case "process-apply-thread":
        return this.each(ids, "processing apply thread", (id) => this.processApply(id));
      case "stabilize":
        if (value("log-level") !== undefined) return this.quietly(() => this.stabilize(ids));
        return this.stabilize(ids);
      case "raft-log":
        return this.printLog(ids[0]!);
      case "raft-state":
        for (const { node } of this.members) this.out.push(describeState(node.status()));
        return;
      case "status": {
        const status = describeProgress(this.member(ids[0]).node.status());
        if (status !== "") this.out.push(status);
        return;
      }
      case "set-randomized-election-timeout":
        return this.member(ids[0]).node.setRandomizedElectionTimeout(Number(value("timeout")));
      case "tick-election":
        return this.tick(ids[0]!, this.member(ids[0]).config.electionTick!);
      case "tick-heartbeat":
        return this.tick(ids[0]!, this.member(ids[0]).config.heartbeatTick!);
      case "tick":
        return this.tick(ids[0]!, Number(value("count") ?? 1));
      case "transfer-leadership":
        return this.member(Number(value("from"))).node.transferLeader(Number(value("to")));
      case "forget-leader":
        return this.member(ids[0]).node.forgetLeader();
      case "send-snapshot":
        return this.sendSnapshot(ids[0]!, ids[1]!);
      case "propose":
        return this.member(ids[0]).node.propose(d.args[1]!.key);
      case "propose-empty":
        return this.member(ids[0]).node.propose("");
      case "propose-conf-change":
        return this.member(ids[0]).node.proposeConfChange({
          v1: value("v1") === "true",
          transition: value("transition"),
          changes: d.input
            .split(/\s+/)
            .filter((word) => word !== "")
            .map((word) => {
              const match = CHANGE.exec(word);
              if (match === null) throw new WireError(`unknown change ${word}`);
              return { op: match[1]!, id: Number(match[2]) };
            }),
        });
      case "report-unreachable":
        return this.member(ids[0]).node.reportUnreachable(ids[1]!);
      case "report-snapshot":
        return this.member(ids[0]).node.reportSnapshot(ids[1]!, value("ok") !== "false");
      case "read-index":
        return this.member(ids[0]).node.readIndex(d.args[1]!.key);
      case "restart":
        return this.restart(ids[0]!);
      default:
        throw new WireError(`unknown command ${d.command}`);
    }
  }

  private member(id: number | undefined): Member {
    const member = this.members[(id ?? 0) - 1];
    if (member === undefined) throw new WireError(`no node ${id}`);
    return member;
  }

  private each(ids: readonly number[], what: string, action: (id: number) => void): void {
    for (const id of ids) {
      if (ids.length === 1) action(id);
      else {
        this.out.push(`> ${id} ${what}`);
        this.indented(() => action(id));
      }
    }
  }

  private indented(action: () => void): void {
    const before = this.out;
    this.out = [];
    try {
      action();
    } finally {
      before.push(...this.out.flatMap((text) => text.split("\n")).map((line) => `  ${line}`));
      this.out = before;
    }
  }

  private quietly(action: () => void): void {
    const before = this.out;
    this.out = [];
    action();
    this.out = before;
  }

  private print(text: string): void {
    this.out.push(text);
  }

  private addNodes(d: Directive): void {
    const one = (key: string): string | undefined => d.args.find((arg) => arg.key === key)?.values[0];
    const many = (key: string): number[] => (d.args.find((arg) => arg.key === key)?.values ?? []).map(Number);
    const flag = (key: string): boolean => one(key) === "true";
    const index = Number(one("index") ?? 0);
    const voters = many("voters");
    const learners = many("learners");
    const snapshot: WireSnapshot = {
      index,
      term: 1,
      data: one("content") ?? "",
      confState: { voters, votersOutgoing: [], learners, learnersNext: [], autoLeave: false },
    };
    const bootstrap = index > 0 || voters.length > 0 || learners.length > 0;
    if (bootstrap && index <= 1) throw new WireError("index must be specified as > 1 due to bootstrap");
    for (let i = 0; i < Number(d.args[0]!.key); i++) {
      const id = this.members.length + 1;
      const config: WireConfig = {
        id,
        electionTick: Number(one("election-tick") ?? 3),
        heartbeatTick: 1,
        maxSizePerMsg: Number(one("max-size-per-msg") ?? Infinity),
        maxInflightMsgs: Number(one("inflight") ?? Infinity),
        maxInflightBytes: Number(one("inflight-bytes") ?? 0),
        maxCommittedSizePerReady: Number(one("max-committed-size-per-ready") ?? 0),
        maxUncommittedEntriesSize: Number(one("max-uncommitted-size") ?? 0),
        async: flag("async-storage-writes"),
        preVote: flag("prevote"),
        checkQuorum: flag("checkquorum"),
        readOnly: one("read-only") ?? "safe",
        disableConfChangeValidation: flag("disable-conf-change-validation"),
        disableProposalForwarding: flag("disable-proposal-forwarding"),
        stepDownOnRemoval: flag("step-down-on-removal"),
        applied: index,
      };
      const first = bootstrap ? snapshot : { ...snapshot, term: 0 };
      const history = [first];
      const node = createCluster().newNode(
        config,
        bootstrap ? snapshot : null,
        () => {},
        () => history.at(-1)!,
      );
      this.members.push({ id, config, node, appendWork: [], applyWork: [], history });
    }
  }

  private tick(id: number, count: number): void {
    for (let i = 0; i < count; i++) this.member(id).node.tick();
  }

  /** A crash: what was not written is gone, what was applied is applied again from the checkpoint on. */
  private restart(id: number): void {
    const member = this.member(id);
    member.appendWork = [];
    member.applyWork = [];
    member.node.restart(member.node.firstIndex() - 1);
  }

  private processReady(id: number): void {
    const member = this.member(id);
    const ready = member.node.ready();
    this.print(describeReady(ready));
    const async = member.config.async === true;
    if (!async) {
      this.write(member, ready.hard, ready.entries, ready.snapshot);
      this.apply(member, ready.committed);
    }
    for (const m of ready.messages) {
      if (m.to === "A") member.appendWork.push(m);
      else if (m.to === "P") member.applyWork.push(m);
      else this.messages.push(m);
    }
    if (!async) member.node.advance();
  }

  private processAppend(id: number): void {
    const member = this.member(id);
    const m = member.appendWork.shift();
    if (m === undefined) return this.print("no append work to perform");
    this.print("Processing:");
    this.print(describeMessage({ ...m, responses: [] }));
    this.write(member, m, m.entries, m.snapshot);
    this.respond(m);
  }

  private processApply(id: number): void {
    const member = this.member(id);
    const m = member.applyWork.shift();
    if (m === undefined) return this.print("no apply work to perform");
    this.print("Processing:");
    this.print(describeMessage({ ...m, responses: [] }));
    this.apply(member, m.entries);
    this.respond(m);
  }

  private respond(m: WireMessage): void {
    this.print("Responses:");
    for (const response of m.responses) this.print(describeMessage(response));
    this.messages.push(...m.responses);
  }

  private write({ node }: Member, hard: WireHardState | null, entries: WireEntry[], snapshot: WireSnapshot | null): void {
    if (hard !== null && (hard.term !== 0 || hard.vote !== 0 || hard.commit !== 0)) node.setHardState(hard);
    if (snapshot !== null && snapshot.index !== 0) {
      if (entries.length > 0) throw new WireError("can't apply snapshot and entries at the same time");
      node.applySnapshot(snapshot);
    } else node.append(entries);
  }

  private apply({ node, history }: Member, entries: WireEntry[]): void {
    for (const entry of entries) {
      const last = history.at(-1)!;
      const confState = entry.type === "EntryNormal" ? last.confState : node.applyConfChange(entry.cc);
      history.push({ index: entry.index, term: entry.term, data: last.data + entry.data, confState });
    }
  }

  private sendSnapshot(from: number, to: number): void {
    const { node, history } = this.member(from);
    const m: WireMessage = {
      type: "MsgSnap",
      to,
      from,
      term: node.status().term,
      logTerm: 0,
      index: 0,
      commit: 0,
      vote: 0,
      reject: false,
      rejectHint: 0,
      entries: [],
      snapshot: history.at(-1)!,
      responses: [],
    };
    this.messages.push(m);
    this.print(describeMessage(m));
  }

  private deliverCommand(d: Directive): void {
    const type = d.args.find(({ key }) => key === "type")?.values[0];
    let count = 0;
    for (const { key, values } of d.args) {
      if (values.length === 0) count += this.deliver(Number(key), type, false);
      else if (key === "drop") for (const id of values) count += this.deliver(Number(id), type, true);
    }
    if (count === 0) this.print("no messages");
  }

  private deliver(to: number, type: string | undefined, drop: boolean): number {
    const isLocal = (m: WireMessage): boolean => m.from === m.to || m.from === "A" || m.from === "P";
    const taken = this.messages.filter((m) => m.to === to && !(drop && isLocal(m)) && (type === undefined || m.type === type));
    this.messages = this.messages.filter((m) => !taken.includes(m));
    for (const m of taken) {
      this.print(`${drop ? "dropped: " : ""}${describeMessage(m)}`);
      if (drop) continue;
      try {
        this.member(to).node.step(m);
      } catch (error) {
        if (!(error instanceof WireError)) throw error;
        this.print(error.message);
      }
    }
    return taken.length;
  }

  private stabilize(ids: readonly number[]): void {
    const members = ids.length === 0 ? this.members : ids.map((id) => this.member(id));
    for (let rounds = 0, done = false; !done; rounds++) {
      if (rounds > 200) throw new WireError("does not become stable");
      done = true;
      const turn = (id: number, what: string, action: () => void): void => {
        this.print(`> ${id} ${what}`);
        this.indented(action);
        done = false;
      };
      for (const { id, node } of members) if (node.hasReady()) turn(id, "handling Ready", () => this.processReady(id));
      for (const { id } of members) {
        if (this.messages.some((m) => m.to === id)) turn(id, "receiving messages", () => this.deliver(id, undefined, false));
      }
      for (const member of members) {
        if (member.appendWork.length === 0) continue;
        this.print(`> ${member.id} processing append thread`);
        while (member.appendWork.length > 0) this.indented(() => this.processAppend(member.id));
        done = false;
      }
      for (const member of members) {
        if (member.applyWork.length === 0) continue;
        this.print(`> ${member.id} processing apply thread`);
        while (member.applyWork.length > 0) this.indented(() => this.processApply(member.id));
        done = false;
      }
    }
  }

  private printLog(id: number): void {
    const { node } = this.member(id);
    const first = node.firstIndex();
    const last = node.lastIndex();
    if (last < first) this.print(`log is empty: first index=${first}, last index=${last}`);
    else for (const entry of node.entries(first, last + 1)) this.print(describeEntry(entry));
  }
}
