/**
 * Looks at a lab over and over, whatever a test does meanwhile, and keeps every sight of a VM that runs twice: two live QEMU
 * processes with one VM id (their domains may be of different generations), or a list that shows one VM in two places.
 */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Lab } from "../../scripts/lab/lab.ts";
import type { VmRow } from "./e2e.ts";

const PS_EVERY_MS = 200;
const LIST_EVERY_MS = 1_000;

type Row = Pick<VmRow, "id" | "name" | "state" | "node" | "generation">;

export class Sampler {
  readonly #lab: Lab;
  readonly #list: () => Promise<Row[]>;
  readonly #abort = new AbortController();
  #loops: Promise<void>[] = [];
  /** What must not be, in words; empty at the end of a good test. */
  readonly violations: string[] = [];
  psLooks = 0;
  listLooks = 0;
  /** Longest time between two looks at the processes. */
  worstGapMs = 0;
  readonly #generations = new Map<string, { generation: number; node: string | null }>();

  constructor(lab: Lab, list: () => Promise<Row[]>) {
    this.#lab = lab;
    this.#list = list;
  }

  start(): void {
    if (this.#loops.length === 0) this.#loops = [this.#watchProcesses(), this.#watchList()];
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await Promise.all(this.#loops);
  }

  summary(): string {
    return `sampler: ${this.psLooks} looks at ps (worst gap ${this.worstGapMs.toFixed(0)} ms), ${this.listLooks} lists, ${this.violations.length} violations`;
  }

  async #watchProcesses(): Promise<void> {
    let lastMs = performance.now();
    while (await this.#pause(PS_EVERY_MS)) {
      const running = new Map<string, string[]>();
      for (const { uuid, sight } of qemusBelow(this.#lab.base)) running.set(uuid, [...(running.get(uuid) ?? []), sight]);
      for (const [uuid, sights] of running)
        if (sights.length > 1) this.#violation(`VM ${uuid} runs ${sights.length} times: ${sights.join("; ")}`);
      this.psLooks += 1;
      this.worstGapMs = Math.max(this.worstGapMs, performance.now() - lastMs);
      lastMs = performance.now();
    }
  }

  async #watchList(): Promise<void> {
    while (await this.#pause(LIST_EVERY_MS)) {
      // Without a leader there is no list; that is for the tests to judge.
      const rows = await this.#list().catch(() => null);
      if (rows === null) continue;
      this.listLooks += 1;
      for (const key of ["id", "name"] as const) {
        const seen = new Set<string>();
        for (const vm of rows) {
          if (seen.has(vm[key])) this.#violation(`two rows with ${key} ${vm[key]}`);
          seen.add(vm[key]);
        }
      }
      for (const vm of rows) this.#judge(vm);
    }
  }

  /** A generation belongs to one node, and never comes back. */
  #judge(vm: Row): void {
    if (vm.state === "running" && vm.node === null) this.#violation(`${vm.name} runs on no node`);
    const before = this.#generations.get(vm.id);
    if (before !== undefined && vm.generation < before.generation)
      this.#violation(`${vm.name} went back from generation ${before.generation} to ${vm.generation}`);
    if (before?.generation === vm.generation && before.node !== null && vm.node !== null && before.node !== vm.node)
      this.#violation(`${vm.name}: generation ${vm.generation} on ${before.node} and on ${vm.node}`);
    const node = vm.node ?? (before?.generation === vm.generation ? before.node : null);
    this.#generations.set(vm.id, { generation: vm.generation, node });
  }

  #violation(text: string): void {
    if (this.violations.length < 50) this.violations.push(`${new Date().toISOString()} ${text}`);
  }

  async #pause(ms: number): Promise<boolean> {
    await sleep(ms, undefined, { signal: this.#abort.signal }).catch(() => {});
    return !this.#abort.signal.aborted;
  }
}

/** Live QEMU processes whose command line names a file below the lab's folder. */
function qemusBelow(base: string): { uuid: string; sight: string }[] {
  const found: { uuid: string; sight: string }[] = [];
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      // A zombie has no command line any more.
      const line = readFileSync(`/proc/${entry}/cmdline`, "latin1");
      if (!line.startsWith("/usr/bin/qemu-system-") || !line.includes(`${base}/`)) continue;
      const argv = line.split("\0");
      const uuid = argv[argv.indexOf("-uuid") + 1] ?? "";
      const domain = /guest=([^,]*)/.exec(argv[argv.indexOf("-name") + 1] ?? "")?.[1] ?? "";
      found.push({ uuid, sight: `${domain} pid ${entry}` });
    } catch {
      // It ended while it was looked at.
    }
  }
  return found;
}
