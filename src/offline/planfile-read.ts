/** Texts of plan files, parsed and checked; each fault with its line and column. */
import { asRoostError, RoostError } from "../base/errors.ts";
import { placeInJson, placeInLines } from "./place.ts";
import { clusterFrom, requestFrom } from "./planfile.ts";
import type { PlanCluster, PlanFileRequest } from "./planfile.ts";
import { isJson, parseClusterText, parseRequestText } from "./planfile-text.ts";

/** Each is looked up in the text, and nobody reads more. */
const MOST_FAULTS = 100;

export function readCluster(text: string): PlanCluster {
  const parsed = parseClusterText(text);
  return located(text, () => clusterFrom(parsed));
}

export function readRequest(text: string): PlanFileRequest {
  const parsed = parseRequestText(text);
  return located(text, () => requestFrom(parsed));
}

function located<T>(text: string, check: () => T): T {
  try {
    return check();
  } catch (thrown) {
    const { fault, hint } = asRoostError(thrown);
    if (fault.kind !== "invalid") throw thrown;
    const more = fault.violations.length - MOST_FAULTS;
    const violations = fault.violations.slice(0, MOST_FAULTS).map(({ field, message }) => {
      const { line, column } = isJson(text) ? placeInJson(text, field) : placeInLines(text, field);
      return { field: `${line}:${column} ${field}`.trimEnd(), message };
    });
    if (more > 0) violations.push({ field: "", message: `and ${more} more` });
    throw new RoostError({ kind: "invalid", violations }, hint, { cause: thrown });
  }
}
