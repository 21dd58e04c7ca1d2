/** From a configured device to what switches it. */
import type { Violation } from "../base/errors.ts";
import { type FenceDevice, REDFISH } from "../model/fencing.ts";
import type { PowerFence } from "./driver.ts";
import { agentFence, findAgent, metadataFaults, readMetadata } from "./fence-agent.ts";
import { redfishFaults, redfishFence } from "./redfish.ts";

/** Throws `unavailable` if its program is not here. */
export async function openFence(device: FenceDevice, folders: readonly string[]): Promise<PowerFence> {
  if (device.agent === REDFISH) return redfishFence(device.options, device.secrets);
  const program = await findAgent(device.agent, folders);
  return agentFence(program, { ...device.options, ...device.secrets }, Object.keys(device.secrets));
}

/** What its driver finds wrong with the options. Throws `unavailable` if its program is not here, or does not describe itself. */
export async function optionFaults(device: FenceDevice, folders: readonly string[], signal: AbortSignal): Promise<Violation[]> {
  const secrets = Object.keys(device.secrets);
  if (device.agent === REDFISH) return redfishFaults(device.options, secrets);
  const metadata = await readMetadata(await findAgent(device.agent, folders), signal);
  return metadataFaults(metadata, [...Object.keys(device.options), ...secrets]);
}
