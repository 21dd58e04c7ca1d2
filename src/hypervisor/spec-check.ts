/** Checks of a DomainSpec that need no hypervisor and no files: all faults at once, each with its field (VM-5). */
import { RoostError } from "../base/errors.ts";
import type { Violation } from "../base/errors.ts";
import type { DomainSpec } from "./driver.ts";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/;
const TARGET = { virtio: /^vd[a-z]{1,2}$/, sata: /^sd[a-z]{1,2}$/, scsi: /^sd[a-z]{1,2}$/, ide: /^hd[a-d]$/ };
/** Control characters that no domain definition can carry, not even escaped (XML 1.0 section 2.2), and line breaks. */
// oxlint-disable-next-line no-control-regex -- control characters are what it looks for
const CONTROL = /[\u0000-\u001f\ufffe\uffff]/;

/** Every fault of `spec`; empty if it is good. */
export function specViolations(spec: DomainSpec): Violation[] {
  const faults: Violation[] = [];
  const fault = (field: string, message: string): void => void faults.push({ field, message });
  const text = (field: string, value: string): void => {
    if (CONTROL.test(value)) fault(field, "holds a control character");
  };
  const path = (field: string, value: string): void => {
    text(field, value);
    if (!value.startsWith("/")) fault(field, `expected an absolute path, got ${JSON.stringify(value)}`);
  };
  if (!UUID.test(spec.vmId)) fault("vmId", `expected a lower-case UUID, got ${JSON.stringify(spec.vmId)}`);
  if (!Number.isSafeInteger(spec.generation) || spec.generation < 0) fault("generation", "expected a whole number from 0");
  if (spec.clusterId === "") fault("clusterId", "is empty");
  text("clusterId", spec.clusterId);
  if (spec.name === "") fault("name", "is empty");
  text("name", spec.name);
  if (!Number.isSafeInteger(spec.cpus) || spec.cpus < 1) fault("cpus", "expected a whole number from 1");
  if (!Number.isSafeInteger(spec.memoryMib) || spec.memoryMib < 1) fault("memoryMib", "expected a whole number of MiB from 1");
  const placement = spec.cpuPlacement ?? null;
  if (placement !== null) {
    if (placement.cpus.length === 0 || placement.cpus.some((cpu) => !Number.isSafeInteger(cpu) || cpu < 0))
      fault("cpuPlacement.cpus", "expected numbers of logical CPUs");
    if (placement.kind === "pinned" && placement.cpus.length !== spec.cpus)
      fault("cpuPlacement.cpus", `expected one CPU for each of ${spec.cpus} vCPUs, got ${placement.cpus.length}`);
  }
  if (spec.cpu !== null && spec.cpu !== undefined) {
    if (spec.cpu.model !== null) text("cpu.model", spec.cpu.model);
    for (const [index, feature] of spec.cpu.features.entries()) text(`cpu.features[${index}]`, feature);
  }
  if (spec.boot !== null) {
    path("boot.kernelPath", spec.boot.kernelPath);
    if (spec.boot.initrdPath !== null) path("boot.initrdPath", spec.boot.initrdPath);
    text("boot.cmdline", spec.boot.cmdline);
  }
  if (spec.serialLogPath !== null) path("serialLogPath", spec.serialLogPath);
  const targets = new Set<string>();
  for (const [index, disk] of spec.disks.entries()) {
    const field = `disks[${index}]`;
    path(`${field}.source.path`, disk.source.path);
    if (!TARGET[disk.bus].test(disk.target)) fault(`${field}.target`, `${JSON.stringify(disk.target)} is no target on bus ${disk.bus}`);
    if (targets.has(disk.target)) fault(`${field}.target`, `${disk.target} is taken by an earlier disk`);
    targets.add(disk.target);
    if (disk.device === "cdrom" && disk.bus === "virtio") fault(`${field}.bus`, "a cdrom needs bus sata, scsi or ide");
  }
  const macs = new Set<string>();
  for (const [index, nic] of spec.nics.entries()) {
    const field = `nics[${index}]`;
    if (!MAC.test(nic.mac)) fault(`${field}.mac`, `expected six lower-case hex pairs, got ${JSON.stringify(nic.mac)}`);
    if (macs.has(nic.mac)) fault(`${field}.mac`, `${nic.mac} is taken by an earlier nic`);
    macs.add(nic.mac);
    if (nic.bridge === "") fault(`${field}.bridge`, "is empty");
    text(`${field}.bridge`, nic.bridge);
  }
  return faults;
}

export function requireGoodSpec(spec: DomainSpec, clusterId: string, more: Violation[] = []): void {
  const violations = [...specViolations(spec), ...more];
  if (spec.clusterId !== clusterId) violations.push({ field: "clusterId", message: `this node belongs to cluster ${clusterId}` });
  if (violations.length > 0) throw new RoostError({ kind: "invalid", violations });
}
