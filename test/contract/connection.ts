/** The contract of drivers for devices and backup managers as a suite: whoever writes one runs it through this. */
import t from "tap";
import type { ConnectionDriver, ConnectionWork } from "../../src/hypervisor/connection.ts";

export interface ConnectionHarness {
  driver: ConnectionDriver;
  /** Whether the device or manager has what a job makes for that VM. */
  has: (vmId: string) => Promise<boolean>;
  /** The next call hangs until it is called off. */
  hang: () => void;
}

export function testConnection(name: string, open: () => Promise<ConnectionHarness>): void {
  t.test(`${name} keeps the contract of connections`, async (t) => {
    const { driver, has, hang } = await open();
    const job = driver.pool === "device" ? "configure-device" : "perform-backup";
    const controller = new AbortController();
    const work = (vmId: string, taskId: string): ConnectionWork => ({
      job,
      taskId,
      vmId,
      vmName: vmId,
      vdc: "default",
      signal: controller.signal,
      step: () => {},
    });

    t.equal(driver.sessions(), 0);
    const session = await driver.login();
    t.equal(driver.sessions(), 1, "sessions are counted");
    await session.apply(work("a", "t1"));
    await session.apply(work("a", "t1"));
    t.ok(await has("a"), "twice is once");
    await session.undo(work("a", "t1"));
    await session.undo(work("a", "t1"));
    t.notOk(await has("a"), "and is taken back, twice as well");

    await session.apply(work("b", "t2"));
    await session.undo(work("b", "t3"));
    t.ok(await has("b"), "what another task made stays");

    hang();
    const hung = session.apply({ ...work("c", "t4"), signal: controller.signal });
    controller.abort();
    await t.rejects(hung, "it ends when it is called off");
    await session.logout();
    await session.logout();
    t.equal(driver.sessions(), 0, "logging out twice is once");
  });
}
