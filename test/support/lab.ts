/** What tests on the lab share: a lab that is taken down with the test, guests, and what guests' serial output proves. */
import { mkdtemp, readFile, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Lab, type LabNode, type LabOptions } from "../../scripts/lab/lab.ts";
import { namespacesRefused } from "../../scripts/lab/namespaces.ts";

/** Part of tap's `t` that is needed here. */
interface Teardown {
  teardown(fn: () => Promise<void>): void;
}

/** Why tests on real nodes cannot run here, for `t.skip`-options; false if they can. */
export async function labRefused(): Promise<string | false> {
  return (await namespacesRefused()) ?? false;
}

/** A new lab in a folder of its own, taken down after the test whatever happens. */
export async function labForTest(t: Teardown, options: LabOptions = {}): Promise<Lab> {
  const base = await mkdtemp(join(tmpdir(), "roost-lab-test-"));
  t.teardown(async () => {
    await Lab.downAt(base);
  });
  return await Lab.up({ ...options, base });
}

export interface TestDomain {
  name: string;
  /** Absolute path of a raw image. */
  diskPath: string;
  memoryMib: number;
  boot: { kernelPath: string; initrdPath: string; cmdline: string } | null;
}

/** libvirt's XML of a guest for tests that use no agent; the serial output goes to the node's /var/log/libvirt/NAME.serial. */
export function domainXml(domain: TestDomain): string {
  const direct =
    domain.boot === null
      ? ""
      : `<kernel>${domain.boot.kernelPath}</kernel><initrd>${domain.boot.initrdPath}</initrd><cmdline>${domain.boot.cmdline}</cmdline>`;
  return `<domain type='qemu'><name>${domain.name}</name><memory unit='MiB'>${domain.memoryMib}</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type>${direct}</os><features><acpi/><apic/><tcg><tb-cache unit='MiB'>16</tb-cache></tcg></features>
<cpu mode='custom' match='exact' check='none'><model fallback='allow'>qemu64</model></cpu>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator><controller type='usb' model='none'/><memballoon model='none'/>
<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none'/><source file='${domain.diskPath}'/><target dev='vda' bus='virtio'/></disk>
<serial type='pty'><log file='/var/log/libvirt/${domain.name}.serial' append='on'/></serial></devices></domain>`;
}

/** Starts a domain inside a node by virsh; gives virsh's answer whatever it is. */
export async function startDomain(node: LabNode, domain: TestDomain): Promise<{ code: number; stderr: string }> {
  return await node.exec(`cat > /run/${domain.name}.xml && virsh -q create /run/${domain.name}.xml`, {
    input: domainXml(domain),
    timeoutMs: 30_000,
  });
}

export interface GuestMark {
  name: string;
  generation: string;
  /** Counter, which goes on from what the disk held. */
  n: number;
  /** Seconds since the guest's kernel started. */
  upS: number;
}

/** The marks of the last run in a serial log. A line that the guest's end cut short does not count. */
export function lastRunMarks(serial: string): GuestMark[] {
  const run = serial.slice(Math.max(serial.lastIndexOf("ROOST-GUEST ready "), 0));
  return [...run.matchAll(/^ROOST-GUEST mark name=(\S+) generation=(\S+) n=(\d+) up=([\d.]+) time=\S+\r?$/gm)].map((found) => ({
    name: found[1] ?? "",
    generation: found[2] ?? "",
    n: Number(found[3]),
    upS: Number(found[4]),
  }));
}

/**
 * When, by this machine's clock, the guest of a log's last run printed its first and its last mark: the last at the file's
 * modification time, the first earlier by as much as its uptime is less. Two nodes' intervals for one VM must not overlap.
 * Holds for guests that were not paused in between.
 */
export async function runInterval(serialPath: string): Promise<{ firstMs: number; lastMs: number } | null> {
  const marks = lastRunMarks(await readFile(serialPath, "latin1"));
  const first = marks[0];
  const last = marks.at(-1);
  if (first === undefined || last === undefined) return null;
  const lastMs = (await stat(serialPath)).mtimeMs;
  return { firstMs: lastMs - (last.upS - first.upS) * 1000, lastMs };
}
