import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { agentFence, findAgent, metadataFaults, readMetadata } from "../../src/fencing/fence-agent.ts";
import { PASSWORD, powerFenceContract } from "../contract/power-fence.ts";
import { fakeAgent } from "../support/fake-agent.ts";

t.test("contract", (t) => {
  powerFenceContract(t, (t) => {
    const agent = fakeAgent();
    t.teardown(() => agent.remove());
    const open = async (password: string, plug: string) => {
      const program = await findAgent("fence_fake", ["/nowhere", agent.folder]);
      return agentFence(program, { plug, username: "roost", password }, ["password"]);
    };
    return Promise.resolve({
      open: (password) => open(password, agent.plug),
      openNowhere: () => open(PASSWORD, "/nowhere"),
      set: (power, fault) => agent.set(power, fault),
      power: () => agent.power(),
    });
  });
  t.end();
});

t.test("options go by standard input only, and nothing of this process's environment", async (t) => {
  const agent = fakeAgent();
  t.teardown(() => agent.remove());
  const program = await findAgent("fence_fake", [agent.folder]);
  await agentFence(program, { plug: agent.plug, username: "u", password: PASSWORD }, ["password"]).off(new AbortController().signal);
  t.strictSame(agent.asked(), ["off"], "the agent would note arguments and HOME");
});

t.test("the agent's own description refuses what it does not know", async (t) => {
  const agent = fakeAgent();
  t.teardown(() => agent.remove());
  const metadata = await readMetadata(await findAgent("fence_fake", [agent.folder]), new AbortController().signal);
  t.ok(metadata.actions.includes("off"));
  t.strictSame(metadataFaults(metadata, ["plug", "username", "password"]), []);
  t.strictSame(metadataFaults(metadata, ["plugg", "username"]), [
    { field: "options.plugg", message: "is not known to the agent; did you mean plug?" },
    { field: "options.plug", message: "is needed by the agent" },
  ]);
  const program = join(agent.folder, "fence_odd");
  writeFileSync(program, "#!/bin/sh\necho '<resource-agent/>'\n");
  chmodSync(program, 0o755);
  await t.rejects(readMetadata({ name: "fence_odd", path: program }, new AbortController().signal), /cannot switch off/);
});

t.test("a program that others may write is not run, one that is not there is named", async (t) => {
  const agent = fakeAgent();
  t.teardown(() => agent.remove());
  chmodSync(join(agent.folder, "fence_fake"), 0o777);
  await t.rejects(findAgent("fence_fake", [agent.folder]), /may be written by others/);
  await t.rejects(findAgent("fence_none", ["/nowhere"]), /fence_none is not installed here \(looked in \/nowhere\)/);
});
