/** What every driver of power devices must do; run on each with a device that misbehaves on request. */
import type { Test } from "tap";
import { systemClock } from "../../src/base/clock.ts";
import { asRoostError, RoostError } from "../../src/base/errors.ts";
import { type PowerFence, switchOff } from "../../src/fencing/driver.ts";

/** How the device misbehaves: hangs on `off`; takes it and stays on; breaks off before, or after it is off. */
export type PowerFault = "slow" | "lies" | "dies-early" | "dies-late";

export interface FakeDevice {
  open(password: string): Promise<PowerFence>;
  /** A device that is not there. */
  openNowhere(): Promise<PowerFence>;
  set(power: "on" | "off", fault: PowerFault | null): void;
  power(): "on" | "off";
}

export const PASSWORD = "secret-of-the-bmc";

const never = new AbortController().signal;
const anyway = { clock: systemClock, signal: never, confirm: () => Promise.resolve() };

export function powerFenceContract(t: Test, setUp: (t: Test) => Promise<FakeDevice>): void {
  t.test("on, switched off, seen off; off already is no error", async (t) => {
    const device = await setUp(t);
    const fence = await device.open(PASSWORD);
    t.equal(await fence.status(never), "on");
    t.same(await switchOff([{ fence, timeoutMs: 5_000 }], anyway), { off: true, devices: [fence.name] });
    t.equal(device.power(), "off");
    t.equal(await fence.status(never), "off");
    t.ok((await switchOff([{ fence, timeoutMs: 5_000 }], anyway)).off);
    t.notMatch(fence.name, PASSWORD);
  });

  t.test("a wrong password proves nothing, and is repeated nowhere", async (t) => {
    const device = await setUp(t);
    const fence = await device.open("wrong-password");
    await t.rejects(fence.status(never), RoostError);
    // Off in truth: that it may not be asked is all that counts.
    device.set("off", null);
    const error = asRoostError(await switchOff([{ fence, timeoutMs: 1_500 }], anyway).catch((thrown: unknown) => thrown));
    t.equal(error.fault.kind, "unavailable");
    t.match(error.message, /was not seen off/);
    t.notMatch(error.message, /wrong-password/);
  });

  t.test("it takes the order and stays on: no proof", async (t) => {
    const device = await setUp(t);
    device.set("on", "lies");
    const fence = await device.open(PASSWORD);
    await fence.off(never);
    await t.rejects(switchOff([{ fence, timeoutMs: 1_500 }], anyway), /was not seen off within 1500 ms: says on/);
  });

  t.test("it breaks off in the middle: what it says afterwards counts", async (t) => {
    const device = await setUp(t);
    const fence = await device.open(PASSWORD);
    device.set("on", "dies-early");
    await t.rejects(fence.off(never), RoostError);
    await t.rejects(switchOff([{ fence, timeoutMs: 1_500 }], anyway), /says on; the order:/);
    device.set("on", "dies-late");
    t.ok((await switchOff([{ fence, timeoutMs: 5_000 }], anyway)).off);
  });

  t.test("it hangs: the call ends with its signal, and nothing is proven", async (t) => {
    const device = await setUp(t);
    device.set("on", "slow");
    const fence = await device.open(PASSWORD);
    const controller = new AbortController();
    const off = fence.off(controller.signal);
    controller.abort(new Error("told to stop"));
    await t.rejects(off, /told to stop/);
    await t.rejects(switchOff([{ fence, timeoutMs: 1_000 }], anyway), /was not seen off/);
    t.equal(device.power(), "on");
  });

  t.test("a device that is not there proves nothing", async (t) => {
    const device = await setUp(t);
    const fence = await device.openNowhere();
    await t.rejects(switchOff([{ fence, timeoutMs: 1_000 }], anyway), RoostError);
  });

  t.test("nobody stands behind it any more: no order goes out", async (t) => {
    const device = await setUp(t);
    const fence = await device.open(PASSWORD);
    const confirm = (): Promise<void> => Promise.reject(new Error("no majority"));
    await t.rejects(switchOff([{ fence, timeoutMs: 1_000 }], { ...anyway, confirm }), /no majority/);
    t.equal(device.power(), "on");
  });

  t.test("two supplies: off together, or not at all", async (t) => {
    const [one, two] = [await setUp(t), await setUp(t)];
    const steps = [one, two].map(async (device) => ({ fence: await device.open(PASSWORD), timeoutMs: 1_500 }));
    const both = await Promise.all(steps);
    two.set("on", "lies");
    await t.rejects(switchOff(both, anyway), /says on/);
    // The first comes on again while the second is being switched off.
    one.set("on", null);
    two.set("on", null);
    let orders = 0;
    const confirm = (): Promise<void> => {
      orders += 1;
      if (orders === 2) one.set("on", null);
      return Promise.resolve();
    };
    await t.rejects(switchOff(both, { ...anyway, confirm }), /was off and is on again/);
    t.same((await switchOff(both, anyway)).devices.length, 2);
  });
}
