/**
 * The agent's side of the keeper's socket; works on any thread. It reconnects by itself at the next call and never
 * repeats a request: after an error the caller does not know whether it counted, and all requests may be made again.
 */
import { createConnection } from "node:net";
import type { Socket } from "node:net";
import { RoostError } from "../../base/errors.ts";
import { LineReader } from "./lines.ts";
import { keeperPaths } from "./process.ts";
import type { Acknowledgement, VmGeneration } from "../../model/heartbeat.ts";
import type { AnswerFrame, Beat, KeeperAnswer, KeeperRequest, KeeperStatus, RefusalReason, Registration } from "./protocol.ts";

export type KeeperReply = { ok: true; deadlineMs: number } | { ok: false; reason: RefusalReason; detail: string };

/** What agents use of a keeper. Calls throw `unavailable` or `timeout`; a refusal is an answer, not an error. */
export interface Keeper {
  hello(killLeadMs: number): Promise<KeeperReply>;
  beat(): Promise<Beat>;
  ack(acknowledgement: Acknowledgement): Promise<KeeperReply>;
  register(registration: Registration): Promise<KeeperReply>;
  confirm(vm: VmGeneration): Promise<KeeperReply>;
  unregister(vm: VmGeneration): Promise<KeeperReply>;
  settled(): Promise<void>;
  park(seq: number, durationMs: number): Promise<KeeperReply>;
  unpark(): Promise<KeeperReply>;
  list(): Promise<KeeperStatus>;
  shutdown(): Promise<KeeperReply>;
  close(): void;
}

interface Waiting {
  resolve: (answer: KeeperAnswer) => void;
  reject: (error: RoostError) => void;
  timer: NodeJS.Timeout;
}

const MAX_WAITING = 1_024;

export class KeeperClient implements Keeper {
  readonly #path: string;
  readonly #limitMs: number;
  readonly #waiting = new Map<number, Waiting>();
  #socket: Socket | null = null;
  #lastId = 0;

  /** `limitMs`: time limit of each call, connecting included. */
  constructor(options: { dataDir: string; limitMs?: number }) {
    this.#path = keeperPaths(options.dataDir).socket;
    this.#limitMs = options.limitMs ?? 1_000;
  }

  async hello(killLeadMs: number): Promise<KeeperReply> {
    return reply(await this.#call({ op: "hello", killLeadMs }));
  }

  async beat(): Promise<Beat> {
    const answer = await this.#call({ op: "beat" });
    if (!("beat" in answer)) throw unexpected(answer);
    return answer.beat;
  }

  async ack(acknowledgement: Acknowledgement): Promise<KeeperReply> {
    return reply(await this.#call({ op: "ack", ...acknowledgement }));
  }

  async register(registration: Registration): Promise<KeeperReply> {
    return reply(await this.#call({ op: "register", ...registration }));
  }

  async confirm({ vmId, generation }: VmGeneration): Promise<KeeperReply> {
    return reply(await this.#call({ op: "confirm", vmId, generation }));
  }

  async unregister({ vmId, generation }: VmGeneration): Promise<KeeperReply> {
    return reply(await this.#call({ op: "unregister", vmId, generation }));
  }

  async settled(): Promise<void> {
    const answer = await this.#call({ op: "settled" });
    if (!answer.ok) throw unexpected(answer);
  }

  async park(seq: number, durationMs: number): Promise<KeeperReply> {
    return reply(await this.#call({ op: "park", seq, durationMs }));
  }

  async unpark(): Promise<KeeperReply> {
    return reply(await this.#call({ op: "unpark" }));
  }

  async list(): Promise<KeeperStatus> {
    const answer = await this.#call({ op: "list" });
    if (!("status" in answer)) throw unexpected(answer);
    return answer.status;
  }

  async shutdown(): Promise<KeeperReply> {
    return reply(await this.#call({ op: "shutdown" }));
  }

  close(): void {
    this.#drop("the client was closed");
  }

  #call(request: KeeperRequest): Promise<KeeperAnswer> {
    return new Promise((resolve, reject) => {
      if (this.#waiting.size >= MAX_WAITING) {
        reject(new RoostError({ kind: "exhausted", reason: `${MAX_WAITING} calls to the keeper wait for an answer` }));
        return;
      }
      const id = ++this.#lastId;
      // A keeper that does not answer in time is stuck; the next call opens a fresh connection.
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new RoostError({ kind: "timeout", what: `the keeper's answer to ${request.op}`, afterMs: this.#limitMs }));
        this.#drop(`no answer to ${request.op} within ${this.#limitMs} ms`);
      }, this.#limitMs);
      this.#waiting.set(id, { resolve, reject, timer });
      // Written to a socket that still connects, it waits there.
      (this.#socket ??= this.#connect()).write(`${JSON.stringify({ id, request })}\n`);
    });
  }

  #connect(): Socket {
    const socket = createConnection(this.#path);
    const gone = (reason: string): void => {
      if (this.#socket === socket) this.#drop(reason);
    };
    const reader = new LineReader((value) => this.#take(value));
    socket.on("data", (chunk: Buffer) => {
      const fault = reader.push(chunk);
      if (fault !== null) gone(fault);
    });
    socket.on("error", (error) => gone(error.message));
    socket.on("close", () => gone("the keeper closed the connection"));
    return socket;
  }

  #take(value: unknown): void {
    const frame = value as AnswerFrame;
    const waiting = this.#waiting.get(frame.id);
    if (waiting === undefined) return; // came after its time limit
    this.#waiting.delete(frame.id);
    clearTimeout(waiting.timer);
    waiting.resolve(frame.answer);
  }

  #drop(reason: string): void {
    const socket = this.#socket;
    this.#socket = null;
    socket?.destroy();
    for (const waiting of this.#waiting.values()) {
      clearTimeout(waiting.timer);
      waiting.reject(new RoostError({ kind: "unavailable", reason: `the keeper on ${this.#path} cannot be reached: ${reason}` }));
    }
    this.#waiting.clear();
  }
}

function reply(answer: KeeperAnswer): KeeperReply {
  if (!answer.ok) return answer;
  return { ok: true, deadlineMs: "deadlineMs" in answer ? answer.deadlineMs : 0 };
}

function unexpected(answer: KeeperAnswer): RoostError {
  const reason = answer.ok ? "the keeper's answer has the wrong shape" : `the keeper refused: ${answer.detail}`;
  return new RoostError({ kind: "internal", reason });
}
