/** roost vm export: definitions as they were understood, every default written out, so that reading them back changes nothing. */
import { writeDefinition } from "../../base/definition.ts";
import { printValue, yamlText } from "../output.ts";
import { eachItem } from "../session.ts";
import type { Session } from "../session.ts";

export async function exportVms(session: Session, names: string[]): Promise<void> {
  const definitions = new Map<string, Record<string, unknown>>();
  await eachItem(session.io, names, async (name) => {
    const { vm } = await session.client.call("VmService", "GetVm", { vm: name, consistency: session.consistency }, session.limits);
    if (vm?.definition !== null && vm?.definition !== undefined) definitions.set(name, writeDefinition(vm.definition));
  });
  const ordered = [...new Set(names)].flatMap((name) => definitions.get(name) ?? []);
  if (session.format === "json") return printValue(session.io, "json", ordered.length === 1 ? ordered[0] : ordered);
  const texts = await Promise.all(ordered.map(yamlText));
  session.io.out(texts.join("---\n"));
}
