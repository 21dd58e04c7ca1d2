/** `roost scheduler plan|explain|replay|what-if|rebalance`: the production scheduler on files, without any cluster. */
import { readFile } from "node:fs/promises";
import { text as readAll } from "node:stream/consumers";
import { invalid } from "../base/errors.ts";
import { type Printed, runSchedulerExplain, runSchedulerPlan, runSchedulerReplay, runWhatIf } from "./planfile-run.ts";
import type { RebalanceOptions } from "../scheduler/rebalance.ts";
import { runRebalance } from "./rebalance.ts";
import { runRecordingReplay } from "./recording.ts";

/** Paths; `-` is standard input, for one of them. */
export interface SchedulerFiles {
  cluster: string;
  request: string;
}

export async function schedulerPlan(files: SchedulerFiles): Promise<Printed<unknown>> {
  const { cluster, request } = await readBoth(files);
  return runSchedulerPlan(cluster, request);
}

/** @param question the VM of the request, and the node (or `all`) for which to say what would make it fit; null for the verdicts only. */
export async function schedulerExplain(files: SchedulerFiles, question: { vm: string; whyNot: string | null }): Promise<Printed<unknown>> {
  const { cluster, request } = await readBoth(files);
  return runSchedulerExplain(cluster, request, question.vm, question.whyNot);
}

/** Without a request: the recording in the cluster's file. `answer`: path of what `plan -o json` printed before; null to compare two plans of now. */
export async function schedulerReplay(
  files: { cluster: string; request: string | null },
  options: { answer: string | null; from: number; to: number; settings: Record<string, string> },
): Promise<Printed<unknown>> {
  if (files.request === null) return runRecordingReplay(await read("--cluster", files.cluster), options);
  const { cluster, request } = await readBoth({ cluster: files.cluster, request: files.request });
  return runSchedulerReplay(cluster, request, options.answer === null ? null : await read("--answer", options.answer));
}

export async function schedulerWhatIf(cluster: string, script: string): Promise<Printed<unknown>> {
  return runWhatIf(await read("--cluster", cluster), script);
}

/** Limits as written on the command line, checked there. */
export async function schedulerRebalance(cluster: string, options: RebalanceOptions): Promise<Printed<unknown>> {
  return runRebalance(await read("--cluster", cluster), options);
}

async function readBoth(files: SchedulerFiles): Promise<SchedulerFiles> {
  if (files.cluster === "-" && files.request === "-") throw invalid("--request", "only one of both can be standard input");
  return { cluster: await read("--cluster", files.cluster), request: await read("--request", files.request) };
}

async function read(field: string, path: string): Promise<string> {
  try {
    return path === "-" ? await readAll(process.stdin) : await readFile(path, "utf8");
  } catch (thrown) {
    throw invalid(field, thrown instanceof Error ? thrown.message : String(thrown), "give the path of a file, or - for standard input");
  }
}
