/** What tests on the lab share: a lab that is taken down with the test, and guests for it. */
import { mkdtemp } from "node:fs/promises";
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
