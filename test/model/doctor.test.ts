import t from "tap";
import { diagnose, vmOfVolume, volumeNameOf } from "../../src/model/doctor.ts";
import type { Inspection } from "../../src/model/doctor.ts";
import type { Vm } from "../../src/model/vm.ts";
import { diskIn } from "../state/log.ts";
import { testNode, testPool, testView, testVm } from "../support/world.ts";

function inspection(nodeId: string, changes: Partial<Inspection> = {}): Inspection {
  const nothing = { domains: [], registrations: [], volumes: [], missingPools: [], sessions: 0 };
  return { nodeId, hypervisorProblem: "", keeperProblem: "", ...nothing, ...changes };
}

const ID = "00000000-0000-4000-8000-00000000000a";

/** A VM with a disk, running on n1. */
function withDisk(pool: string, changes: Partial<Vm> = {}): Vm {
  const vm = testVm(ID, { disks: [diskIn(pool)] }, { claim: "n1", home: "n1" });
  return { ...vm, history: [{ state: "running", atMs: 0, nodeId: "n1", generation: 1, why: "" }], ...changes };
}

const domain = (generation: number) => ({ vmId: ID, generation, name: "a", state: "running" });
const volume = (poolId: string, vmId = ID) => ({
  poolId,
  name: volumeNameOf(vmId, { target: "vda", format: "raw" }),
  vmId,
  allocatedBytes: 0,
});
const nodes = [testNode("n1", {}), testNode("n2", {})];
const shared = testPool("images", true);
const local = testPool("local", false);

const codes = (vms: Vm[], inspections: Inspection[]): string[] =>
  diagnose(testView(nodes, vms, [shared, local]), inspections).map(({ code, where, subject }) => `${code}: ${where}: ${subject}`);

t.test("as it should be, nothing is found", async (t) => {
  const whole = inspection("n1", {
    domains: [domain(1)],
    registrations: [{ vmId: ID, generation: 1, phase: "live" }],
    volumes: [volume("p-images")],
  });
  t.same(codes([withDisk("images")], [whole, inspection("n2", { volumes: [volume("p-images")] })]), []);
});

t.test("what runs or is registered without a claim, what should run and does not", async (t) => {
  const vm = withDisk("images");
  const disk = { volumes: [volume("p-images")] };
  t.same(codes([vm], [inspection("n1", { domains: [domain(2)], ...disk })]), ["orphan-domain: n1: domain a"], "another generation");
  t.same(codes([vm], [inspection("n1", disk)]), [`lost-domain: n1: vm ${ID}`]);
  t.same(
    codes([vm], [inspection("n1", { hypervisorProblem: "down", ...disk })]),
    ["hypervisor: n1: hypervisor"],
    "who cannot say has lost nothing",
  );
  t.same(codes([], [inspection("n2", { registrations: [{ vmId: ID, generation: 1, phase: "live" }] })]), [
    `orphan-registration: n2: vm ${ID}`,
  ]);
});

t.test("volumes of nobody, volumes that are gone; never what could not be listed", async (t) => {
  const vm = withDisk("images");
  const runs = { domains: [domain(1)] };
  t.same(codes([vm], [inspection("n1", runs)]), [`lost-volume: pool images: vm ${ID}`]);
  const missing = [{ poolId: "p-images", available: false, problem: "not mounted", totalBytes: 0, freeBytes: 0 }];
  t.same(codes([vm], [inspection("n1", { ...runs, missingPools: missing })]), ["pool: n1: pool images"]);
  const stopped = withDisk("images", { state: "stopped", claim: null });
  t.same(codes([stopped], [inspection("n1", { volumes: [volume("p-images")] })]), [], "a stopped VM keeps its disks");
  t.same(codes([{ ...stopped, history: [] }], [inspection("n1")]), [], "one that never ran has none");
  const name = volume("p-images").name;
  t.same(codes([], [inspection("n1", { volumes: [volume("p-images")] }), inspection("n2", { volumes: [volume("p-images")] })]), [
    `orphan-volume: pool images: volume ${name}`,
  ]);
  // A node's own disk is looked for where the VM is at home.
  const own = withDisk("local");
  t.same(codes([own], [inspection("n1", { ...runs, volumes: [volume("p-local")] }), inspection("n2")]), []);
  t.same(codes([own], [inspection("n1", runs), inspection("n2", { volumes: [volume("p-local")] })]), [
    `orphan-volume: pool local on n2: volume ${name}`,
    `lost-volume: pool local on n1: vm ${ID}`,
  ]);
});

t.test("names of volumes and the VMs they are of", async (t) => {
  t.equal(vmOfVolume(volumeNameOf(ID, { target: "sdb", format: "qcow2" })), ID);
  for (const other of ["base.raw", "vm.raw", "vm-x", ".roost-pool"]) t.equal(vmOfVolume(other), null, other);
});
