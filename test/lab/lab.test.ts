/** The lab itself, on real namespaces, libvirtd and QEMU. One lab for all parts: they go on from each other's end. */
import { existsSync } from "node:fs";
import { copyFile, readFile, rename, truncate, writeFile } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import t from "tap";
import { ensureGuest, guestCmdline } from "../../scripts/guest.ts";
import { diskCounter, writeBootSectorDisk } from "../../scripts/guest/boot-sector.ts";
import { Lab, waitFor, type LabNode } from "../../scripts/lab/lab.ts";
import { labNamespaces, networkNames } from "../../scripts/lab/network.ts";
import { isAlive, processesOfFolder } from "../../scripts/lab/processes.ts";
import { run } from "../../scripts/lab/run.ts";
import { lastRunMarks, runInterval } from "../../scripts/guest/serial.ts";
import { domainXml, labForTest, labRefused, startDomain } from "../support/lab.ts";

/** A stand-in that looks like the agent to whoever reads command lines. */
const STAND_IN = { argv: ["bash", "-c", "exec -a roost perl '-esleep(1000)' up"], env: { STAND_IN: "yes" } };

/** CLOCK_BOOTTIME in ms, as the guardian reads it. */
async function bootTimeMs(): Promise<number> {
  return Math.round(Number((await readFile("/proc/uptime", "utf8")).split(" ")[0]) * 1000);
}

async function feed(node: LabNode, text: string): Promise<void> {
  await writeFile(`${node.guardianFeedPath}.new`, text);
  await rename(`${node.guardianFeedPath}.new`, node.guardianFeedPath);
}

async function pings(from: LabNode, to: LabNode): Promise<boolean> {
  return (await from.exec(["busybox", "ping", "-c", "1", "-W", "1", to.ip])).code === 0;
}

const received = async (node: LabNode): Promise<number> => Number(await node.must("cat /sys/class/net/eth0/statistics/rx_packets"));
const sendTwenty = async (from: LabNode, to: LabNode): Promise<void> => {
  await from.must(["bash", "-c", `for i in {1..20}; do echo x > /dev/udp/${to.ip}/9; done`]);
};

t.setTimeout(240_000);
/** Until libvirt, too, has seen that the guests of a node are gone: only then may one of the same name start. */
async function noGuests(node: LabNode): Promise<void> {
  await waitFor(
    `the end of all guests on ${node.name}`,
    async (saw) => (saw(await node.must(["virsh", "-q", "list"])), (await node.must(["virsh", "-q", "list"])).trim() === ""),
    20_000,
  );
}

const refused = await labRefused();

await t.test("a lab of three nodes", { skip: refused, timeout: 180_000 }, async (t) => {
  const mountsBefore = await readFile("/proc/self/mountinfo", "utf8");
  const portsBefore = Object.keys(networkInterfaces());
  const lab = await labForTest(t, { nodes: 3 });
  const [n1, n2, n3] = [lab.node(1), lab.node("n2"), lab.node(3)];

  await t.test("each node has a libvirtd, a name and folders of its own, and the shared folder", async (t) => {
    await writeFile(join(lab.sharedDir, "note"), "seen by all");
    const uuids = new Set<string>();
    for (const node of lab.nodes) {
      t.equal((await node.must(["hostname"])).trim(), node.name);
      t.equal(await node.must(["cat", join(lab.sharedDir, "note")]), "seen by all");
      t.equal((await node.must("ls /sys/class/net | tr '\\n' ' '")).trim(), "eth0 lo");
      uuids.add(/<uuid>(.*)<\/uuid>/.exec(await node.must(["virsh", "capabilities"]))?.[1] ?? "");
      t.equal(node.processes("libvirtd").length, 1);
      await run(["virsh", "-c", `qemu+unix:///system?socket=${node.libvirtSocketPath}`, "list"]);
    }
    t.equal(uuids.size, 3, "three host UUIDs");
    t.same(await n1.exec("echo out; echo err >&2; exit 3"), { stdout: "out\n", stderr: "err\n", code: 3 });
    await t.rejects(n1.exec("sleep 100; echo", { timeoutMs: 300 }), /not done on n1 after 300 ms/);
    await waitFor("the end of the killed command", () => n1.processes("other").length === 0, 5_000);
  });

  await t.test("the network can be cut one way, both ways, and healed", async (t) => {
    for (const from of lab.nodes) for (const to of lab.nodes) t.ok(await pings(from, to), `${from.name} reaches ${to.name}`);
    await n1.cut();
    t.same(await n1.network(), { in: false, out: false });
    t.notOk(await pings(n2, n1), "cut off");
    t.ok(await pings(n2, n3), "the others see each other");
    await n1.heal();
    t.ok(await pings(n2, n1), "healed");

    await n1.cut("out");
    t.same(await n1.network(), { in: true, out: false });
    t.notOk(await pings(n2, n1), "no answer gets out");
    let before = await received(n1);
    await sendTwenty(n2, n1);
    t.ok((await received(n1)) >= before + 20, "but all gets in");
    await n1.heal();

    t.ok(await pings(n2, n1));
    await n1.cut("in");
    t.same(await n1.network(), { in: false, out: true });
    before = await received(n1);
    await sendTwenty(n2, n1);
    t.equal(await received(n1), before, "nothing gets in");
    before = await received(n2);
    await sendTwenty(n1, n2);
    t.ok((await received(n2)) >= before + 20, "but all gets out");
    await n1.heal();
    t.same(await n1.network(), { in: true, out: true });
    t.ok(await pings(n2, n1));
  });

  await t.test("the agent is started, stopped, continued, killed, and not restarted by itself", async (t) => {
    t.equal(n1.processes("agent").length, 0, "none before it is asked for");
    await n1.startAgent(STAND_IN);
    const [agent] = n1.processes("agent");
    t.ok(agent);
    t.match(await readFile(`/proc/${agent?.pid}/environ`, "utf8"), /STAND_IN=yes/);
    t.equal(await n1.pause("agent"), 1);
    t.equal(n1.processes("agent")[0]?.state, "T");
    t.equal(await n1.resume("agent"), 1);
    t.equal(await n1.kill("agent"), 1);
    t.equal(n1.processes("agent").length, 0);
    t.ok(n1.isOn());
    await n1.startAgent(STAND_IN);
    await n1.stopAgent();
    const bothEnds = /agent ended, pid \d+, signal 9[^]*agent ended, pid \d+, signal 15/;
    await waitFor(
      "both ends in init's log",
      async (saw) => (saw(await readFile(n1.initLogPath, "utf8")), bothEnds.test(await readFile(n1.initLogPath, "utf8"))),
      5_000,
    );
  });

  await t.test("a node's sudden end takes its guests with it, and it comes back empty", async (t) => {
    const diskPath = join(lab.sharedDir, "small.raw");
    await writeBootSectorDisk(diskPath, "small");
    const small = { name: "small", diskPath, memoryMib: 4, boot: null };
    t.equal((await startDomain(n2, small)).code, 0);
    await waitFor(
      "the guest's third mark",
      async (saw) => (saw(await n2.serialLog("small")), /mark n=00000003/.test(await n2.serialLog("small"))),
      20_000,
    );
    t.match(await n2.serialLog("small"), /ROOST-GUEST ready name=small disk=00000000/);
    t.same(
      n2.qemuProcesses().map((qemu) => qemu.domain),
      ["small"],
    );
    t.same(
      lab.nodesRunning("small").map((node) => node.name),
      ["n2"],
    );

    const second = await startDomain(n3, small);
    t.not(second.code, 0, "QEMU's lock on the image holds between nodes");
    t.match(second.stderr, /lock/i);

    await n2.setAgent(STAND_IN);
    const bootBefore = await n2.bootId();
    const all = n2.processes();
    t.ok((await n2.kill("all")) >= 3, "init, libvirtd and QEMU at least");
    t.notOk(
      all.some((one) => isAlive(one.pid, one.startTicks)),
      "none of them lives",
    );
    t.notOk(n2.isOn());
    t.equal(n2.powerNote(), "off: by command");
    await t.rejects(n2.exec("true"), /n2 is off \(off: by command\)/);
    t.ok((diskCounter(await readFile(diskPath)) ?? 0) >= 3, "the guest counted on its disk");
    t.ok(n1.isOn() && n3.isOn());

    t.equal((await startDomain(n3, small)).code, 0, "and now it starts elsewhere");
    await waitFor(
      "the guest to find its counter",
      async () => /ready name=small disk=0000000[3-9a-f]/.test(await n3.serialLog("small")),
      20_000,
    );
    await n3.kill("qemu");
    await noGuests(n3);

    await n2.powerOn();
    t.not(await n2.bootId(), bootBefore);
    t.equal((await n2.must(["virsh", "-q", "list", "--all"])).trim(), "");
    t.equal(n2.processes("agent").length, 1, "an agent that was set starts with its node");
    await n2.kill("agent");
  });

  await t.test("libvirtd dies alone, and guests outlive it", async (t) => {
    t.equal((await startDomain(n3, { name: "small", diskPath: join(lab.sharedDir, "small.raw"), memoryMib: 4, boot: null })).code, 0);
    t.equal(await n3.kill("libvirtd"), 1);
    t.equal(n3.qemuProcesses().length, 1);
    await n3.startLibvirtd();
    t.match(await n3.must(["virsh", "-q", "list"]), /small +running/);
    await n3.kill("qemu");
    await noGuests(n3);
  });

  await t.test("the guardian resets a node whose feed runs out, also while its agent is stopped", async (t) => {
    await n2.startAgent(STAND_IN);
    await feed(n2, `${await n2.bootId()} ${(await bootTimeMs()) + 60_000}\n`);
    await waitFor("the guardian to be armed", async () => /guardian armed/.test(await readFile(n2.initLogPath, "utf8")), 5_000);
    await n2.pause("all");
    const all = n2.processes();
    const deadlineMs = (await bootTimeMs()) + 500;
    await feed(n2, `${await n2.bootId()} ${deadlineMs}\n`);
    await waitFor("the node's reset", () => !n2.isOn(), 10_000, { everyMs: 10 });
    t.ok((await bootTimeMs()) >= deadlineMs, "not before the deadline");
    await waitFor("the end of all its processes", () => !all.some((one) => isAlive(one.pid, one.startTicks)), 5_000);
    t.match(n2.powerNote(), /guardian/);
    t.match(await readFile(n2.initLogPath, "utf8"), /guardian: the feed ran out \d+ ms ago/);
  });

  await t.test("the guardian minds only feeds of its own boot, and stands down when told", async (t) => {
    await n2.setAgent(null);
    await n2.powerOn();
    // The feed of the boot before is there still, and its deadline is over.
    await n2.must("sleep 0.3");
    t.ok(n2.isOn(), "a feed of another boot guards nothing");
    const boot = await n2.bootId();
    const armed = async (times: number): Promise<boolean> =>
      (await readFile(n2.initLogPath, "utf8")).split("guardian armed").length - 1 >= times;
    const deadlineMs = (await bootTimeMs()) + 1_500;
    await feed(n2, `${boot} ${deadlineMs}\n`);
    await waitFor("the guardian to be armed", () => armed(2), 5_000, { everyMs: 10 });
    await feed(n2, `${boot} disarmed\n`);
    await waitFor("the deadline to pass", async () => (await bootTimeMs()) > deadlineMs + 300, 5_000);
    t.ok(n2.isOn(), "disarmed in time");
    await feed(n2, `${boot} ${(await bootTimeMs()) + 700}\n`);
    await waitFor("the guardian to be armed", () => armed(3), 5_000, { everyMs: 10 });
    await feed(n2, "half a wri");
    await waitFor("the node's reset", () => !n2.isOn(), 5_000);
    t.match(n2.powerNote(), /guardian/, "a feed that cannot be read does not disarm it");
    await n2.powerOn();
  });

  await t.test("the Linux guest says who it is, counts on, and minds the power button", async (t) => {
    const guest = await ensureGuest(() => {});
    const boot = {
      kernelPath: join(lab.sharedDir, "vmlinuz"),
      initrdPath: join(lab.sharedDir, "initramfs.gz"),
      cmdline: guestCmdline("web1", 7),
    };
    await copyFile(guest.kernelPath, boot.kernelPath);
    await copyFile(guest.initrdPath, boot.initrdPath);
    const diskPath = join(lab.sharedDir, "web1.raw");
    await writeFile(diskPath, "");
    await truncate(diskPath, 1024 * 1024);
    const web1 = { name: "web1", diskPath, memoryMib: 96, boot };
    const serial = (): Promise<string> => n1.serialLog("web1");

    t.equal((await startDomain(n1, web1)).code, 0);
    await waitFor("ten marks", async (saw) => (saw((await serial()).slice(-300)), lastRunMarks(await serial()).length >= 10), 60_000);
    t.match(await serial(), /ROOST-GUEST ready name=web1 generation=7 up=\S+ disk=none/);
    await n1.must(["virsh", "shutdown", "web1"]);
    await noGuests(n1);
    t.equal(n1.qemuProcesses().length, 0);
    t.match(await serial(), /ROOST-GUEST power-button/);
    const marks = lastRunMarks(await serial());
    const interval = await runInterval(n1.serialLogPath("web1") ?? "");
    t.ok(
      interval !== null && interval.lastMs - interval.firstMs > 1_000 && interval.lastMs <= Date.now(),
      "ten marks are more than a second",
    );

    t.equal((await startDomain(n1, web1)).code, 0);
    await waitFor(
      "the second run",
      async (saw) => (saw((await serial()).slice(-300)), /disk=\d+,web1,7/.test(await serial())) && lastRunMarks(await serial()).length > 0,
      60_000,
    );
    const again = lastRunMarks(await serial())[0]?.n ?? 0;
    t.ok(again > 5 && again <= (marks.at(-1)?.n ?? 0) + 1, `the counter goes on (${again} after ${marks.at(-1)?.n})`);
    t.match(domainXml(web1), /<memory unit='MiB'>96</, "96 MiB are enough");
  });

  await t.test("a second lab beside it knows nothing of it", async (t) => {
    const other = await labForTest(t, { nodes: 1 });
    t.not(other.subnet, lab.subnet);
    t.equal((await other.node(1).must(["virsh", "-q", "list"])).trim(), "");
    t.match(await n1.must(["virsh", "-q", "list"]), /web1/);
    await other.down();
    t.ok(n1.isOn());
    t.equal((await n1.must(["hostname"])).trim(), "n1");
  });

  await t.test("another process finds the lab again, and none is made over it", async (t) => {
    const found = await Lab.open(lab.base);
    t.same(
      found.nodes.map((node) => node.isOn()),
      [true, true, true],
    );
    t.equal(found.subnet, lab.subnet);
    await t.rejects(Lab.up({ base: lab.base }), /a lab is there already/);
    await t.rejects(Lab.up({ base: "/usr" }), /holds files that are not a lab's/);
    await t.rejects(Lab.up({ nodes: 0 }), /1 to 20 nodes/);
  });

  await t.test("down leaves nothing", async (t) => {
    const all = lab.nodes.flatMap((node) => node.processes());
    t.ok(all.length >= 7, `${all.length} processes before`);
    await lab.down();
    t.notOk(
      all.some((one) => isAlive(one.pid, one.startTicks)),
      "no process of a node lives",
    );
    t.same(processesOfFolder(lab.base), [], "nothing names the lab's folder");
    t.same(await labNamespaces(networkNames(lab.base)), []);
    t.same(Object.keys(networkInterfaces()), portsBefore);
    t.equal(await readFile("/proc/self/mountinfo", "utf8"), mountsBefore);
    t.notOk(existsSync(lab.base));
    t.equal(await Lab.downAt(lab.base), false, "a second time does nothing");
  });
});

await t.test("without namespaces: processes on loopback", { timeout: 30_000 }, async (t) => {
  const said: string[] = [];
  const lab = await labForTest(t, { nodes: 2, ground: "loopback", progress: (line) => said.push(line) });
  t.match(said.join("\n"), /on loopback with simulated VMs, without guardian and without networks to cut/);
  const [n1, n2] = [lab.node(1), lab.node(2)];
  t.equal(n1.ip, "127.0.0.1");
  t.not(n1.place.port, n2.place.port);
  for (const node of lab.nodes) await node.startAgent({ ...STAND_IN, env: { ROOST_DATA: node.dataDir } });
  t.equal(n1.processes("agent").length, 1);
  t.not(n1.processes("agent")[0]?.pid, n2.processes("agent")[0]?.pid);
  await n1.pause("agent");
  t.equal(n1.processes("agent")[0]?.state, "T");
  t.equal(await n1.kill("all"), 1);
  t.notOk(n1.isOn());
  t.equal(n2.processes("agent").length, 1, "the other lives");
  await n1.powerOn();
  t.equal(n1.processes("agent").length, 1);
  await t.rejects(n1.cut(), /cutting the network in a lab on loopback is not supported/);
  await lab.down();
  t.same(processesOfFolder(lab.base), []);
  t.notOk(existsSync(lab.base));
});
