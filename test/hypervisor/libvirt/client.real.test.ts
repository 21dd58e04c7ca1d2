import t from "tap";
import { silentLogger } from "../../../src/base/log.ts";
import { DEFAULT_CLIENT_OPTIONS, LibvirtClient } from "../../../src/hypervisor/libvirt/client.ts";
import type { LibvirtClientOptions } from "../../../src/hypervisor/libvirt/client.ts";
import { constants } from "../../../src/hypervisor/libvirt/protocol.gen.ts";
import { fakeLibvirtd } from "../../support/fake-libvirtd.ts";
import { startLibvirtd } from "../../support/libvirtd.ts";

interface Heard {
  log: string[];
  until(wanted: string): Promise<void>;
}

function client(options: Partial<LibvirtClientOptions>): { client: LibvirtClient; heard: Heard } {
  const waiting = new Map<string, () => void>();
  const log: string[] = [];
  const add = (what: string): void => {
    log.push(what);
    waiting.get(what)?.();
  };
  const listener = {
    lifecycle: ({ dom, event, detail }: { dom: { name: string }; event: number; detail: number }): void =>
      add(`${dom.name} ${event}/${detail}`),
    connected: (): void => add("connected"),
    disconnected: (): void => add("disconnected"),
  };
  const until = (wanted: string): Promise<void> =>
    new Promise((resolve, reject) => {
      if (log.includes(wanted)) return resolve();
      const timer = setTimeout(() => reject(new Error(`no ${wanted} in ${log.join(", ")}`)), 10_000);
      waiting.set(wanted, () => {
        clearTimeout(timer);
        resolve();
      });
    });
  const all = { ...DEFAULT_CLIENT_OPTIONS, reconnect: { minMs: 5, maxMs: 20 }, ...options };
  return { client: new LibvirtClient(all, { listener, log: silentLogger }), heard: { log, until } };
}

void t.test("a lost connection is told once, comes back by itself, and calls fail meanwhile", async (t) => {
  const daemon = await fakeLibvirtd();
  const { client: libvirt, heard } = client({ socketPaths: ["/nonexistent/sock", daemon.socketPath] });
  await libvirt.connect();
  t.equal(libvirt.socketPath, daemon.socketPath, "the second path, because the first is not there");
  t.strictSame(heard.log, []);
  const open = libvirt.call("CONNECT_GET_HOSTNAME", null).catch((error: Error) => error.message);
  await daemon.until(() => daemon.open.length === 1);
  for (const socket of daemon.connections) socket.destroy();
  t.match(await open, /closed the connection/);
  await heard.until("connected");
  t.strictSame(heard.log, ["disconnected", "connected"]);
  const answer = libvirt.call("CONNECT_GET_HOSTNAME", null);
  daemon.open.length = 0;
  await daemon.until(() => daemon.open.length === 1);
  daemon.reply("CONNECT_GET_HOSTNAME", { hostname: "back" });
  t.equal((await answer).hostname, "back");
  await libvirt.close();
  await t.rejects(libvirt.connect(), /closed/);
  await daemon.close();
});

void t.test("without a daemon every attempt fails, and one that comes later is found", async (t) => {
  const gone = await fakeLibvirtd();
  await gone.close();
  const { client: libvirt, heard } = client({ socketPaths: [gone.socketPath] });
  await t.rejects(libvirt.connect(), /ENOENT/);
  await t.rejects(libvirt.call("CONNECT_GET_HOSTNAME", null), /not connected|ENOENT/);
  t.strictSame(heard.log, ["disconnected"]);
  await t.rejects(libvirt.connect(), /ENOENT/);
  t.strictSame(heard.log, ["disconnected"], "told once");
  await libvirt.close();
});

void t.test("libvirt's own test driver: list, define, start, events, errors", async (t) => {
  const libvirtd = await startLibvirtd();
  if ("skip" in libvirtd) {
    console.log(`# test:///default skipped: ${libvirtd.skip}`);
    t.pass("skipped", { skip: libvirtd.skip });
    return;
  }
  t.teardown(() => libvirtd.stop());
  const { client: libvirt, heard } = client({ socketPaths: [libvirtd.socketPath], uri: "test:///default" });
  await libvirt.connect();
  t.equal((await libvirt.call("CONNECT_GET_TYPE", null)).type, "TEST");
  // The test driver has one domain, "test", running from the start.
  const { domains } = await libvirt.call("CONNECT_LIST_ALL_DOMAINS", { need_results: 1, flags: 0 });
  t.match(domains, [{ name: "test", id: 1 }]);
  const xml = `<domain type="test"><name>new</name><memory>1024</memory><os><type>hvm</type></os></domain>`;
  const { dom } = await libvirt.call("DOMAIN_CREATE_XML", { xml_desc: xml, flags: 0 });
  await heard.until(`new ${constants.VIR_DOMAIN_EVENT_STARTED}/0`);
  t.match((await libvirt.call("DOMAIN_GET_XML_DESC", { dom, flags: 0 })).xml, /<name>new<\/name>/);
  t.equal((await libvirt.call("DOMAIN_GET_STATE", { dom, flags: 0 })).state, constants.VIR_DOMAIN_RUNNING);
  await libvirt.call("DOMAIN_SUSPEND", { dom });
  await heard.until(`new ${constants.VIR_DOMAIN_EVENT_SUSPENDED}/0`);
  await libvirt.call("DOMAIN_DESTROY", { dom });
  await heard.until(`new ${constants.VIR_DOMAIN_EVENT_STOPPED}/${constants.VIR_DOMAIN_EVENT_STOPPED_DESTROYED}`);
  await t.rejects(libvirt.call("DOMAIN_LOOKUP_BY_NAME", { name: "new" }), /no domain/);
  await t.rejects(libvirt.call("DOMAIN_CREATE_XML", { xml_desc: "<nonsense", flags: 0 }), /libvirt refused/);
  // 200 calls side by side through five places in flight.
  const names = await Promise.all(Array.from({ length: 200 }, () => libvirt.call("CONNECT_GET_HOSTNAME", null)));
  t.equal(new Set(names.map((answer) => answer.hostname)).size, 1);
  await libvirt.close();
});
