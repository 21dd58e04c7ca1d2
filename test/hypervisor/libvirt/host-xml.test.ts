/** What libvirt says of the host. The forms are those of libvirt 9 on x86_64. */
import t from "tap";
import { readFeatures, readGuestCpus, readHostCpu, readTopology } from "../../../src/hypervisor/libvirt/host-xml.ts";

const capabilities = (cells: string): string =>
  `<capabilities><host><uuid>u</uuid><cpu><arch>x86_64</arch><model>EPYC</model><feature name='vme'/></cpu><topology>${cells}</topology></host></capabilities>`;

const cpu = (id: number, socket: number, core: number): string =>
  `<cpu id='${id}' socket_id='${socket}' die_id='0' core_id='${core}' siblings='${id}'/>`;

t.test("the host's CPU", async (t) => {
  t.same(readHostCpu(capabilities("")), { arch: "x86_64", model: "EPYC" });
  t.same(readHostCpu("<capabilities/>"), { arch: "unknown", model: "unknown" });
});

t.test("two sockets with threads: CPUs core by core", async (t) => {
  // Linux numbers the second threads of all cores after the first ones: 0..3 and 4..7.
  const cell = (id: number, cpus: string): string =>
    `<cell id='${id}'><memory unit='KiB'>8388608</memory><cpus num='4'>${cpus}</cpus></cell>`;
  const cells = `<cells num='2'>${cell(0, cpu(0, 0, 0) + cpu(1, 0, 1) + cpu(4, 0, 0) + cpu(5, 0, 1))}${cell(1, cpu(2, 1, 0) + cpu(3, 1, 1) + cpu(6, 1, 0) + cpu(7, 1, 1))}</cells>`;
  t.same(readTopology(capabilities(cells)), {
    sockets: 2,
    coresPerSocket: 2,
    threadsPerCore: 2,
    numa: [
      { id: 0, cpus: [0, 4, 1, 5], memoryMib: 8_192 },
      { id: 1, cpus: [2, 6, 3, 7], memoryMib: 8_192 },
    ],
  });
});

t.test("one CPU, a cell without CPUs, an offline CPU, nothing at all", async (t) => {
  const one = `<cells num='2'><cell id='0'><memory unit='KiB'>2048</memory><cpus num='2'>${cpu(0, 0, 0)}<cpu id='1'/></cpus></cell><cell id='1'><memory unit='KiB'>1024</memory></cell></cells>`;
  t.same(readTopology(capabilities(one)), { sockets: 1, coresPerSocket: 1, threadsPerCore: 1, numa: [{ id: 0, cpus: [0], memoryMib: 2 }] });
  t.equal(readTopology(capabilities("<cells num='0'/>")), null);
  t.equal(readTopology("<capabilities/>"), null);
});

t.test("what guests can have: usable models, and a CPU that stands for the host", async (t) => {
  const xml = `<domainCapabilities><cpu><mode name='host-passthrough' supported='no'/>
    <mode name='host-model' supported='yes'><model fallback='forbid'>EPYC</model><vendor>AMD</vendor><feature policy='require' name='acpi'/><feature policy='disable' name='vme'/></mode>
    <mode name='custom' supported='yes'><model usable='yes'>qemu64</model><model usable='no'>Snowridge</model><model usable='unknown'>max</model><model usable='yes' vendor='Intel'>Westmere</model></mode>
    </cpu></domainCapabilities>`;
  const { models, hostCpu } = readGuestCpus(xml);
  t.same(models, ["Westmere", "max", "qemu64"]);
  t.equal(
    hostCpu,
    '<cpu mode="custom" match="exact"><model fallback="forbid">EPYC</model><vendor>AMD</vendor><feature policy="require" name="acpi"/><feature policy="disable" name="vme"/></cpu>',
  );
  t.same(readFeatures(hostCpu ?? ""), ["acpi"]);
  t.same(readGuestCpus("<domainCapabilities/>"), { models: null, hostCpu: null });
});
