/**
 * Shows the main job on real parts: builds roost, makes a lab of three nodes on this machine, starts VMs, kills a node and
 * lets one see its VMs run elsewhere. Leaves the cluster up.
 *
 *   ./scripts/quickstart            do it (a lab left from before is taken down first)
 *   ./scripts/quickstart --down     take it all down again
 */
import { copyFile, mkdir, readdir, stat, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import { asRoostError } from "../src/base/errors.ts";
import { ensureGuest, GUEST_MEMORY_MIB, guestCmdline } from "./guest.ts";
import { runInterval } from "./guest/serial.ts";
import { answering, environmentLine, formCluster } from "./lab/cluster.ts";
import { DEFAULT_BASE, Lab, waitFor, type LabNode } from "./lab/lab.ts";
import { CHECKOUT, NODE } from "./lab/places.ts";
import { createSteps, type Steps } from "./lab/progress.ts";
import { run } from "./lab/run.ts";
import { ensurePackages } from "./packages.ts";

const VM_NAMES = ["web1", "web2", "web3", "db1"];
const BINARY = join(CHECKOUT, "dist", "roost");
const RUNNING_MS = 90_000;

const { values } = parseArgs({
  options: {
    down: { type: "boolean", default: false },
    base: { type: "string", default: DEFAULT_BASE },
    help: { type: "boolean", short: "h", default: false },
  },
});

interface ListedVm {
  name: string;
  state: string;
  /** null while no node may run it. */
  node: string | null;
}

async function quickstart(steps: Steps): Promise<void> {
  const isRoot = process.getuid?.() === 0;
  if (isRoot) await steps.step("Debian packages", () => ensurePackages(steps.line));
  else steps.line("this is not root: the lab will be on loopback with simulated VMs, and nothing is installed");

  // Building takes the processor, the guest the network, the lab neither.
  const [lab, guest] = await allOrNone([
    steps.step(`lab of three nodes in ${values.base}`, () => Lab.up({ base: values.base, nodes: 3, replace: true, progress: steps.line })),
    isRoot ? steps.step("test guest", () => ensureGuest(steps.line)) : Promise.resolve(null),
    build(steps),
  ] as const);

  await steps.step("cluster", () => formCluster(lab, steps.line));
  const roost = (...words: string[]): Promise<string> =>
    run([BINARY, ...words], { env: { ROOST_CONTEXT: lab.contextPath }, timeoutMs: RUNNING_MS });
  steps.text(await roost("node", "list"));

  await steps.step(`creating VMs ${VM_NAMES.join(", ")}`, async () => {
    if (guest !== null) {
      await copyFile(guest.kernelPath, join(lab.sharedDir, "vmlinuz"));
      await copyFile(guest.initrdPath, join(lab.sharedDir, "initramfs.gz"));
    } else
      for (const file of ["vmlinuz", "initramfs.gz"])
        await writeFile(join(lab.sharedDir, file), "stands for a file that no simulated VM reads");
    await roost("pool", "create", "shared", "--path", lab.sharedDir, "--shared");
    await poolOnAllNodes(roost);
    await mkdir(join(lab.base, "vms"), { recursive: true });
    await Promise.all(
      VM_NAMES.map(async (name) => {
        const file = join(lab.base, "vms", `${name}.yaml`);
        await writeFile(file, definition(name));
        await roost("vm", "create", "-f", file, "--wait");
        steps.line(`VM ${name} is running`);
      }),
    );
  });
  const before = await vms(roost);
  steps.text(await roost("vm", "list"));

  const victim = lab.node(before.find((vm) => vm.name === VM_NAMES[0])?.node ?? "n1");
  const hit = before.filter((vm) => vm.node === victim.name).map((vm) => vm.name);
  if (lab.ground === "namespaces") await firstSigns(victim, hit);
  steps.line(`kill -9 of all that is ${victim.name}: agent, keeper, libvirtd and the QEMU of ${hit.join(", ")}`);
  await victim.kill("all");
  if (lab.ground === "loopback") {
    // There is no guardian here, so silence is no proof: somebody has to say that the node is off.
    await roost("node", "fence", victim.name, "--confirmed");
  }
  await steps.step(`${hit.join(", ")} on another node`, () => elsewhere(roost, victim, hit, steps));
  steps.text(await roost("vm", "list"));
  steps.line("the failover's time line (roost ha show):");
  steps.text(await roost("ha", "show"));
  if (lab.ground === "namespaces") await gaps(lab, victim, hit, steps);

  await steps.step(`powering ${victim.name} on again`, async () => {
    await victim.powerOn();
    await answering(victim);
  });
  steps.text(await roost("node", "list"));
  goOn(lab, steps);
}

/** Builds dist/roost unless it is newer than all that it is made of. */
async function build(steps: Steps): Promise<void> {
  const builtMs = (await stat(BINARY).catch(() => null))?.mtimeMs ?? 0;
  const sources = ["src", "proto", "scripts/bundle", "scripts/bundle.ts", "package-lock.json", "pkg.config.json"];
  const newestMs = Math.max(...(await Promise.all(sources.map((path) => newest(join(CHECKOUT, path))))));
  if (builtMs > newestMs) return steps.line("dist/roost: kept, nothing it is made of has changed");
  await steps.step("building dist/roost", () => run([NODE, join(CHECKOUT, "scripts", "bundle.ts")], { cwd: CHECKOUT, timeoutMs: 240_000 }));
}

/** Newest modification time of a file or of all files below a folder; 0 if it is not there. */
async function newest(path: string): Promise<number> {
  const self = await stat(path).catch(() => null);
  if (self === null) return 0;
  if (!self.isDirectory()) return self.mtimeMs;
  const files = await readdir(path, { recursive: true });
  const times = await Promise.all(files.map(async (file) => (await stat(join(path, file))).mtimeMs));
  return Math.max(0, ...times);
}

function definition(name: string): string {
  return `name: ${name}
cpus: 1
memory: ${GUEST_MEMORY_MIB}MiB
boot:
  kernel: shared/vmlinuz
  initrd: shared/initramfs.gz
  cmdline: "${guestCmdline(name)}"
disks:
  - {pool: shared, size: 16MiB}
labels: {app: demo}
`;
}

/** A node that has not seen the pool yet is passed over by the scheduler, and all VMs would go to the first that has. */
async function poolOnAllNodes(roost: (...words: string[]) => Promise<string>): Promise<void> {
  await waitFor(
    "the pool on all nodes",
    async (saw) => {
      const [pool] = JSON.parse(await roost("pool", "list", "-o", "json")) as {
        nodes: { node: string; available: boolean; problem: string | null }[];
      }[];
      saw(pool?.nodes);
      return pool !== undefined && pool.nodes.length > 0 && pool.nodes.every((node) => node.available);
    },
    60_000,
    { everyMs: 200 },
  );
}

async function vms(roost: (...words: string[]) => Promise<string>): Promise<ListedVm[]> {
  const told: unknown = JSON.parse(await roost("vm", "list", "-o", "json"));
  const rows = Array.isArray(told) ? told : (told as { vms?: unknown[] }).vms;
  if (!Array.isArray(rows)) throw new Error(`roost vm list -o json gave no list of VMs: ${JSON.stringify(told).slice(0, 300)}`);
  return rows as ListedVm[];
}

async function elsewhere(roost: (...words: string[]) => Promise<string>, victim: LabNode, hit: string[], steps: Steps): Promise<void> {
  const told = new Map<string, string>();
  await waitFor(
    `${hit.join(", ")} to run on another node than ${victim.name}`,
    async (saw) => {
      const mine = (await vms(roost)).filter((vm) => hit.includes(vm.name));
      saw(mine);
      for (const vm of mine) {
        const state = (vm.node ?? "") === "" ? vm.state : `${vm.state} on ${vm.node}`;
        if (told.get(vm.name) !== state) steps.line(`${vm.name}: ${state}`);
        told.set(vm.name, state);
      }
      return mine.length === hit.length && mine.every((vm) => vm.state === "running" && vm.node !== victim.name);
    },
    RUNNING_MS,
    { everyMs: 250 },
  );
}

/** Until the guests have printed: `running` means that QEMU runs, not that the guest in it has booted. */
async function firstSigns(node: LabNode, names: string[]): Promise<void> {
  for (const name of names) await waitFor(`signs of life of ${name}`, () => signs(node, name), RUNNING_MS, { everyMs: 200 });
}

async function signs(node: LabNode, vm: string): Promise<{ firstMs: number; lastMs: number } | null> {
  const path = node.serialLogPath(vm);
  return path === null ? null : await runInterval(path);
}

/** What the guests themselves say: the last mark on the dead node, the first on the other. */
async function gaps(lab: Lab, victim: LabNode, names: string[], steps: Steps): Promise<void> {
  for (const name of names) {
    const last = await signs(victim, name);
    const found = await waitFor(
      `signs of life of ${name} on another node`,
      async () => {
        for (const node of lab.nodes) {
          const first = node.name === victim.name ? null : await signs(node, name);
          if (first !== null) return { node, first };
        }
        return null;
      },
      RUNNING_MS,
      { everyMs: 200 },
    );
    if (last === null) continue;
    const gapS = (found.first.firstMs - last.lastMs) / 1000;
    steps.line(
      `${name} by its own serial output: last sign on ${victim.name}, first on ${found.node.name} ${gapS.toFixed(1)} s later (with the guest's boot)`,
    );
    if (gapS < 0) throw new Error(`${name} ran on two nodes at once`);
  }
}

function goOn(lab: Lab, steps: Steps): void {
  const here = relative(process.cwd(), CHECKOUT);
  const at = (path: string): string => (here === "" ? path : join(here, path));
  const base = lab.base === DEFAULT_BASE ? "" : ` --base ${lab.base}`;
  steps.text(`
The cluster is up. Go on in this shell:
  ${environmentLine(lab)}
  ${at("dist/roost")} vm list -o json
Break something:
  npm run lab -- status${base}
  npm run lab -- kill n3${base}
Stop and remove it all:
  ./${at("scripts/quickstart")} --down${base}
`);
}

/** Waits for all, so that nothing goes on in the background when one has failed; then throws the first failure. */
async function allOrNone<T extends readonly unknown[]>(work: { [K in keyof T]: Promise<T[K]> }): Promise<T> {
  await Promise.allSettled(work);
  return (await Promise.all(work)) as unknown as T;
}

const steps = createSteps();
try {
  if (values.help) {
    console.log(
      "usage: ./scripts/quickstart [--down] [--base DIR]\nWithout --down: builds roost, starts a lab of three nodes, and shows VMs outliving one of them.",
    );
  } else if (values.down) {
    const was = await Lab.downAt(values.base);
    steps.line(was ? `the lab in ${values.base} is gone: its nodes, VMs, networks and files` : `there is no lab in ${values.base}`);
    steps.line(`kept for the next time: ${join(CHECKOUT, "dist")}, ${join(CHECKOUT, ".lab")} and the Debian packages`);
  } else {
    await quickstart(steps);
  }
} catch (error) {
  const told = asRoostError(error);
  console.error(`\nquickstart: ${told.message}`);
  if (told.hint !== undefined) console.error(told.hint);
  if (!values.down)
    console.error(
      `What there is of the lab is left for a look (npm run lab -- status --base ${values.base}); ./scripts/quickstart --down takes it away.`,
    );
  process.exitCode = 1;
}
