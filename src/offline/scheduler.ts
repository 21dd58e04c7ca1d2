/** `roost scheduler plan|explain`: the production scheduler on files, without any cluster. */
import { readFile } from "node:fs/promises";
import { text as readAll } from "node:stream/consumers";
import { stringify } from "yaml";
import { invalid } from "../base/errors.ts";
import { type Printed, runSchedulerExplain, runSchedulerPlan } from "./planfile-run.ts";

export interface SchedulerFiles {
  /** Path of the cluster's file, `-` for standard input. */
  cluster: string;
  request: string;
  output: string;
}

export async function schedulerPlan(files: SchedulerFiles): Promise<number> {
  return print(runSchedulerPlan(await read("--cluster", files.cluster), await read("--request", files.request)), files.output);
}

export async function schedulerExplain(files: SchedulerFiles): Promise<number> {
  return print(runSchedulerExplain(await read("--cluster", files.cluster), await read("--request", files.request)), files.output);
}

function print<T>({ json, table }: Printed<T>, output: string): number {
  const text = output === "json" ? `${JSON.stringify(json, null, 2)}\n` : output === "yaml" ? stringify(json) : table;
  process.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
  return 0;
}

async function read(field: string, path: string): Promise<string> {
  try {
    return path === "-" ? await readAll(process.stdin) : await readFile(path, "utf8");
  } catch (thrown) {
    throw invalid(field, thrown instanceof Error ? thrown.message : String(thrown), "give the path of a file, or - for standard input");
  }
}
