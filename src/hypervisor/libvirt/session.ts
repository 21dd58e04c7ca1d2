/** One logged-in session of the libvirt driver: every operation on domains, all through the inventory's mark check. */
import { access, constants as fsConstants } from "node:fs/promises";
import { dirname } from "node:path";
import { RoostError } from "../../base/errors.ts";
import type { Violation } from "../../base/errors.ts";
import type { DomainRef, DomainSpec, DomainStats, DomainStatus, Emigration, Immigration, Session } from "../driver.ts";
import { requireGoodSpec } from "../spec-check.ts";
import { buildDomainXml } from "./domain-xml.ts";
import type { LibvirtDriverContext } from "./context.ts";
import { hasLibvirtCode } from "./errors.ts";
import { constants } from "./protocol.gen.ts";
import type { NonnullDomain, TypedParam } from "./protocol.gen.ts";
import { noSuchDomain, refKey } from "../refs.ts";
import { emigrate, immigrate, takeBack } from "./migration.ts";

/** Pause before destroying again what libvirt could not end at once (a process stuck in disk I/O). */
const DESTROY_RETRY_MS = 200;

export class LibvirtSession implements Session {
  private readonly context: LibvirtDriverContext;
  private readonly release: () => void;
  private open = true;

  constructor(context: LibvirtDriverContext, release: () => void) {
    this.context = context;
    this.release = release;
  }

  async list(): Promise<DomainStatus[]> {
    this.requireOpen();
    const running = await this.context.inventory.list();
    const seen = new Set(running.map(refKey));
    for (const spec of this.context.defined.values()) if (!seen.has(refKey(spec))) running.push(definedStatus(spec));
    return running;
  }

  async define(spec: DomainSpec): Promise<void> {
    this.requireOpen();
    requireGoodSpec(spec, this.context.clusterId, await missingFiles(spec));
    this.context.defined.set(refKey(spec), structuredClone(spec));
  }

  async undefine(ref: DomainRef): Promise<void> {
    this.requireOpen();
    if ((await this.context.inventory.find(ref)) !== null) {
      throw new RoostError({ kind: "precondition", reason: `domain ${refKey(ref)} runs`, legal: ["shutdown", "destroy"] });
    }
    this.context.defined.delete(refKey(ref));
  }

  async start(ref: DomainRef, options: { paused: boolean }): Promise<void> {
    this.requireOpen();
    const { client, inventory, defined, emulatorPath, arch, startTimeoutMs } = this.context;
    const spec = defined.get(refKey(ref));
    if (spec === undefined) throw noSuchDomain(ref);
    const other = await inventory.lookup(ref.vmId);
    if (other !== null) throw new RoostError({ kind: "precondition", reason: `domain ${other.name} of this VM runs already` });
    const { kvm } = await this.context.acceleration();
    const xml = buildDomainXml(spec, { kvm, emulatorPath, arch });
    const expected = { vmId: spec.vmId, generation: spec.generation, clusterId: spec.clusterId, name: spec.name };
    inventory.expect(expected);
    const flags = options.paused ? constants.VIR_DOMAIN_START_PAUSED : 0;
    try {
      await client.call("DOMAIN_CREATE_XML", { xml_desc: xml, flags }, { timeoutMs: startTimeoutMs });
    } catch (error) {
      // Out of time or out of contact it may still start, and its events must find their mark.
      if (error instanceof RoostError && error.fault.kind !== "timeout" && error.fault.kind !== "unavailable") inventory.forget(expected);
      throw error;
    }
  }

  async shutdown(ref: DomainRef): Promise<void> {
    const dom = await this.require(ref);
    await this.context.client.call("DOMAIN_SHUTDOWN_FLAGS", { dom, flags: constants.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN });
  }

  async destroy(ref: DomainRef): Promise<void> {
    this.requireOpen();
    const { client, inventory, destroyTimeoutMs } = this.context;
    const deadlineMs = performance.now() + destroyTimeoutMs;
    for (;;) {
      const leftMs = Math.max(1, Math.ceil(deadlineMs - performance.now()));
      const dom = await inventory.find(ref, leftMs);
      if (dom === null) return;
      try {
        this.context.pushed.delete(refKey(ref));
        await client.call("DOMAIN_DESTROY", { dom }, { timeoutMs: leftMs });
      } catch (error) {
        if (!isPassing(error)) throw error;
        if (performance.now() >= deadlineMs) {
          throw new RoostError({ kind: "timeout", what: `destroying domain ${refKey(ref)}`, afterMs: destroyTimeoutMs }, undefined, {
            cause: error,
          });
        }
        if (hasLibvirtCode(error, constants.VIR_ERR_NO_DOMAIN)) continue;
        await new Promise((resolve) => setTimeout(resolve, DESTROY_RETRY_MS));
      }
    }
  }

  async confine(ref: DomainRef, to: { vcpus: number; cpus: readonly number[] }): Promise<void> {
    const { client } = this.context;
    const dom = await this.require(ref);
    const cpumap = cpuMap(to.cpus);
    for (let vcpu = 0; vcpu < to.vcpus; vcpu++) await client.call("DOMAIN_PIN_VCPU_FLAGS", { dom, vcpu, cpumap, flags: 0 });
    await client.call("DOMAIN_PIN_EMULATOR", { dom, cpumap, flags: 0 });
  }

  async reboot(ref: DomainRef): Promise<void> {
    const dom = await this.require(ref);
    // Without a guest agent libvirt presses the power button, and starts the guest anew instead of ending it.
    await this.context.client.call("DOMAIN_REBOOT", { dom, flags: 0 });
  }

  async reset(ref: DomainRef): Promise<void> {
    const dom = await this.require(ref);
    await this.context.client.call("DOMAIN_RESET", { dom, flags: 0 });
  }

  async pause(ref: DomainRef): Promise<void> {
    const dom = await this.require(ref);
    await this.context.client.call("DOMAIN_SUSPEND", { dom });
  }

  async resume(ref: DomainRef): Promise<void> {
    const dom = await this.require(ref);
    // libvirt would make the call wait, and let the guest run as soon as it has arrived.
    if (this.context.arriving.has(refKey(ref)))
      throw new RoostError({ kind: "precondition", reason: `domain ${refKey(ref)} is still arriving` });
    if (await takeBack(this.context, ref)) {
      if ((await this.context.inventory.status(dom))?.state === "running") return;
    }
    try {
      await this.context.client.call("DOMAIN_RESUME", { dom });
    } catch (error) {
      // libvirt refuses to resume what runs; the contract asks for no more than that it runs.
      if (!hasLibvirtCode(error, constants.VIR_ERR_OPERATION_INVALID)) throw error;
      if ((await this.context.inventory.status(dom))?.state !== "running") throw error;
    }
  }

  async state(ref: DomainRef): Promise<DomainStatus | null> {
    this.requireOpen();
    const dom = await this.context.inventory.find(ref);
    const status = dom === null ? null : await this.context.inventory.status(dom);
    if (status !== null) return status;
    const spec = this.context.defined.get(refKey(ref));
    return spec === undefined ? null : definedStatus(spec);
  }

  async stats(ref: DomainRef): Promise<DomainStats> {
    const dom = await this.require(ref);
    const { client } = this.context;
    const stats = constants.VIR_DOMAIN_STATS_BALLOON | constants.VIR_DOMAIN_STATS_INTERFACE | constants.VIR_DOMAIN_STATS_BLOCK;
    const [info, all] = await Promise.all([
      // CPU time from here: the bulk call has it only where libvirt may use cgroups.
      client.call("DOMAIN_GET_INFO", { dom }),
      client.call("CONNECT_GET_ALL_DOMAIN_STATS", { doms: [dom], stats, flags: 0 }),
    ]);
    const params = all.retStats[0]?.params ?? [];
    return {
      cpuTimeNs: Number(info.cpuTime),
      memoryRssKib: sum(params, /^balloon\.rss$/),
      diskReadBytes: sum(params, /^block\.\d+\.rd\.bytes$/),
      diskWriteBytes: sum(params, /^block\.\d+\.wr\.bytes$/),
      netRxBytes: sum(params, /^net\.\d+\.rx\.bytes$/),
      netTxBytes: sum(params, /^net\.\d+\.tx\.bytes$/),
    };
  }

  emigrate(ref: DomainRef): Promise<Emigration> {
    this.requireOpen();
    return emigrate(this.context, ref);
  }

  async immigrate(spec: DomainSpec, offer: Uint8Array): Promise<Immigration> {
    this.requireOpen();
    requireGoodSpec(spec, this.context.clusterId, await missingFiles(spec));
    return await immigrate(this.context, spec, offer);
  }

  logout(): Promise<void> {
    this.open = false;
    this.release();
    return Promise.resolve();
  }

  private requireOpen(): void {
    if (!this.open) throw new RoostError({ kind: "precondition", reason: "this hypervisor session is logged out" });
  }

  private async require(ref: DomainRef): Promise<NonnullDomain> {
    this.requireOpen();
    const dom = await this.context.inventory.find(ref);
    if (dom === null) throw noSuchDomain(ref);
    return dom;
  }
}

function definedStatus({ vmId, generation, clusterId, name }: DomainSpec): DomainStatus {
  return { vmId, generation, clusterId, name, state: "defined" };
}

/** Failures of a destroy that another look and another try may settle: it ended by itself, or its process takes its time. */
function isPassing(error: unknown): boolean {
  const codes = [
    constants.VIR_ERR_NO_DOMAIN,
    constants.VIR_ERR_OPERATION_INVALID,
    constants.VIR_ERR_RESOURCE_BUSY,
    constants.VIR_ERR_SYSTEM_ERROR,
  ];
  return codes.some((code) => hasLibvirtCode(error, code));
}

function sum(params: TypedParam[], field: RegExp): number {
  let total = 0;
  for (const param of params) if (field.test(param.field)) total += Number(param.value.value);
  return total;
}

async function missingFiles(spec: DomainSpec): Promise<Violation[]> {
  const wanted: { field: string; path: string; mode: number }[] = [];
  const { R_OK, W_OK } = fsConstants;
  if (spec.boot !== null) {
    wanted.push({ field: "boot.kernelPath", path: spec.boot.kernelPath, mode: R_OK });
    if (spec.boot.initrdPath !== null) wanted.push({ field: "boot.initrdPath", path: spec.boot.initrdPath, mode: R_OK });
  }
  for (const [index, disk] of spec.disks.entries()) {
    const mode = disk.readonly || disk.device === "cdrom" ? R_OK : R_OK | W_OK;
    wanted.push({ field: `disks[${index}].source.path`, path: disk.source.path, mode });
  }
  if (spec.serialLogPath !== null) wanted.push({ field: "serialLogPath", path: dirname(spec.serialLogPath), mode: W_OK });
  const checked = await Promise.all(
    wanted.map(async ({ field, path, mode }) => {
      try {
        await access(path, mode);
        return null;
      } catch (error) {
        const code = error instanceof Error && "code" in error ? String(error.code) : String(error);
        return { field, message: `${path} cannot be used on this node (${code})` };
      }
    }),
  );
  return checked.filter((violation) => violation !== null);
}

/** One bit a CPU, the lowest first (virDomainPinVcpu). */
function cpuMap(cpus: readonly number[]): Uint8Array {
  const map = new Uint8Array(Math.floor(Math.max(0, ...cpus) / 8) + 1);
  for (const cpu of cpus) map[cpu >> 3]! |= 1 << (cpu & 7);
  return map;
}
