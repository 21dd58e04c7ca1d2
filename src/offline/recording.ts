/** `roost scheduler replay --cluster FILE`: the plans recorded in an exported file, made again by this release (SCH-19). */
import { invalid, RoostError } from "../base/errors.ts";
import type { Violation } from "../base/errors.ts";
import { parseSetting } from "../model/settings.ts";
import type { Settings } from "../model/settings.ts";
import type { Recording } from "../placing/export.ts";
import { replay } from "../placing/replay.ts";
import { State } from "../state/state.ts";
import type { Printed } from "./planfile-run.ts";
import { parseJson } from "./planfile-text.ts";

interface RecordingAnswer {
  plans: {
    revision: number;
    viewRevision: number;
    kind: string;
    vms: number;
    placed: number;
    /** null where the view is not in the recording. */
    placedAgain: number | null;
    same: boolean;
    differences: { vm: string; before: string | null; after: string | null; reasons: { code: string; nodes: number; detail: string }[] }[];
  }[];
}

export function runRecordingReplay(
  text: string,
  options: { from: number; to: number; settings: Record<string, string> },
): Printed<RecordingAnswer> {
  const state = stateFrom(text);
  const nameOf = (id: string | null): string | null => (id === null ? null : (state.nodes.get(id)?.name ?? id));
  const plans = replay(state, { from: options.from, to: options.to, settings: settingsFrom(options.settings) }).map((one) => ({
    revision: one.index,
    viewRevision: one.viewIndex,
    kind: one.certificate.kind,
    vms: one.certificate.vms.length,
    placed: one.certificate.decisions.filter(([, node]) => node !== -1).length,
    placedAgain: one.plan?.placements.length ?? null,
    same: one.same,
    differences: one.differences.map(({ vmId, before, after, reasons }) => ({
      vm: state.vms.get(vmId)?.definition.name ?? vmId,
      before: nameOf(before),
      after: nameOf(after),
      reasons,
    })),
  }));
  return {
    json: { plans },
    table: {
      head: ["REVISION", "KIND", "VMS", "PLACED", "AGAIN", "SAME", "DIFFERENCES"],
      rows: plans.map((one) => [
        String(one.revision),
        one.kind,
        String(one.vms),
        String(one.placed),
        one.placedAgain === null ? "out of retention" : String(one.placedAgain),
        one.same ? "yes" : "no",
        one.differences.map(({ vm, before, after }) => `${vm}: ${before ?? "-"} → ${after ?? "-"}`).join(", "),
      ]),
    },
  };
}

function stateFrom(text: string): State {
  const file = parseJson(text, "cluster") as { recording?: Recording } | null;
  const recording = file?.recording;
  if (recording === undefined || !Array.isArray(recording.rows))
    throw invalid("--cluster", "the file has no recording", "export one with `roost scheduler export --history FILE`, or give a --request");
  const state = new State();
  for (const row of recording.rows) state.write(row);
  state.index = recording.index;
  state.term = recording.term;
  return state;
}

function settingsFrom(wanted: Record<string, string>): Partial<Settings> {
  const faults: Violation[] = [];
  const settings: Record<string, string | number> = {};
  for (const [key, value] of Object.entries(wanted)) {
    const parsed = parseSetting(key, value);
    if (parsed.ok) settings[parsed.key] = parsed.value;
    else faults.push({ field: `--set ${key}`, message: `expected ${parsed.expected}, not ${JSON.stringify(value)}` });
  }
  if (faults.length > 0) throw new RoostError({ kind: "invalid", violations: faults });
  return settings;
}
