import t from "tap";
import { redfishFaults, redfishFence } from "../../src/fencing/redfish.ts";
import { PASSWORD, powerFenceContract } from "../contract/power-fence.ts";
import { fakeBmc } from "../support/fake-bmc.ts";

const never = new AbortController().signal;

t.test("contract", (t) => {
  powerFenceContract(t, async (t) => {
    const bmc = await fakeBmc();
    t.teardown(() => bmc.close());
    const options = { ip: bmc.address, username: "roost", fingerprint: bmc.fingerprint };
    return {
      open: (password) => Promise.resolve(redfishFence(options, { password })),
      openNowhere: () => Promise.resolve(redfishFence({ ...options, ip: "127.0.0.1:1" }, { password: PASSWORD })),
      set: (power, fault) => Object.assign(bmc.state, { power: power === "on" ? "On" : "Off", fault }),
      power: () => (bmc.state.power === "Off" ? "off" : "on"),
    };
  });
  t.end();
});

t.test("certificates: pinned, or signed by whom was named, or nothing is said", async (t) => {
  const bmc = await fakeBmc();
  t.teardown(() => bmc.close());
  const base = { ip: bmc.address, username: "roost" };
  const status = (options: Record<string, string>) => redfishFence({ ...base, ...options }, { password: PASSWORD }).status(never);
  t.equal(await status({ fingerprint: bmc.fingerprint.toUpperCase().replace(/..(?=.)/g, "$&:") }), "on");
  t.equal(await status({ ca: bmc.ca }), "on");
  bmc.asked.length = 0;
  await t.rejects(status({}), /certificate of redfish .* is not trusted/, "nobody signed it that the system knows");
  await t.rejects(status({ fingerprint: "0".repeat(64) }), /shows another certificate than the pinned one/);
  const stranger = await fakeBmc();
  t.teardown(() => stranger.close());
  await t.rejects(status({ ca: stranger.ca }), /is not trusted/);
  t.strictSame(bmc.asked, [], "the password went nowhere");
});

t.test("only Off is off, and only of the system that is meant", async (t) => {
  const bmc = await fakeBmc();
  t.teardown(() => bmc.close());
  const options = { ip: bmc.address, username: "roost", fingerprint: bmc.fingerprint };
  const open = (system?: string) => redfishFence({ ...options, ...(system === undefined ? {} : { system }) }, { password: PASSWORD });
  for (const power of ["PoweringOff", "Paused", "PoweringOn"]) {
    bmc.state.power = power;
    t.equal(await open().status(never), "on", power);
  }
  bmc.state.systems = ["left", "right"];
  await t.rejects(open().status(never), /has left, right/);
  await t.rejects(open("middle").status(never), /has left, right/);
  await open("right").off(never);
  t.equal(bmc.asked.at(-1), "POST /redfish/v1/Systems/right/Actions/ComputerSystem.Reset");
});

t.test("options: all that is wrong at once", (t) => {
  t.strictSame(redfishFaults({ ip: "10.0.0.5", username: "root" }, ["password"]), []);
  t.strictSame(redfishFaults({ ip: "10.0.0.5:8443", username: "root", fingerprint: "ab".repeat(32) }, ["password"]), []);
  const fields = redfishFaults({ ip: "http://x", insecure: "1", fingerprint: "12" }, ["pass"]).map(({ field }) => field);
  t.strictSame(fields, ["options.insecure", "options.pass", "options.username", "options.password", "options.ip", "options.fingerprint"]);
  t.end();
});
