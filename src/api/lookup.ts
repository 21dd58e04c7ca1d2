/** From what people write to rows, and pages of lists. */
import { invalid, RoostError } from "../base/errors.ts";
import { findRow } from "../base/ids.ts";
import { suggest } from "../base/suggest.ts";
import type { Node } from "../model/node.ts";
import type { Policy } from "../model/policy.ts";
import type { View } from "../model/view.ts";
import type { Vm } from "../model/vm.ts";

export function findVm(view: View, text: string): Vm {
  const vm = find(view.vms, view.vmIdByName, "vm", text);
  if (vm.state === "deleted") throw new RoostError({ kind: "not-found", what: "vm", name: text });
  return vm;
}

export function findNode(view: View, text: string): Node {
  return find(view.nodes, view.nodeIdByName, "node", text);
}

export function findPolicy(view: View, text: string): Policy {
  return find(view.policies, view.policyIdByName, "policy", text);
}

function find<T>(rows: ReadonlyMap<string, T>, idByName: ReadonlyMap<string, string>, what: "vm" | "node" | "policy", text: string): T {
  if (text === "") throw invalid(what, `expected a name, an id or the beginning of an id`);
  const found = findRow(rows, idByName, text);
  switch (found.kind) {
    case "one":
      return found.row;
    case "many":
      throw invalid(
        what,
        `${JSON.stringify(text)} is the beginning of ${found.ids.length} ids`,
        `write more of it: ${found.ids.slice(0, 5).join(", ")}`,
      );
    case "none": {
      const near = suggest(text, [...idByName.keys()]);
      throw new RoostError({ kind: "not-found", what, name: text }, near === null ? undefined : `did you mean ${near}?`);
    }
  }
}

export const MAX_PAGE = 1_000;

/** One page of rows sorted by a number that never changes, so that pages stay right while rows come and go. */
export function page<T>(
  rows: T[],
  numberOf: (row: T) => number,
  request: { pageSize: number; pageToken: string },
): { rows: T[]; nextPageToken: string } {
  if (request.pageSize < 0) throw invalid("page_size", `expected 0 to ${MAX_PAGE}`);
  const size = request.pageSize === 0 ? MAX_PAGE : Math.min(request.pageSize, MAX_PAGE);
  const after = parsePageToken(request.pageToken);
  const sorted = rows.toSorted((a, b) => numberOf(a) - numberOf(b));
  const begin = sorted.findIndex((row) => numberOf(row) > after);
  const shown = begin === -1 ? [] : sorted.slice(begin, begin + size);
  const last = shown.at(-1);
  const more = begin !== -1 && begin + size < sorted.length && last !== undefined;
  return { rows: shown, nextPageToken: more ? Buffer.from(`1:${numberOf(last)}`).toString("base64url") : "" };
}

function parsePageToken(token: string): number {
  if (token === "") return -Infinity;
  const match = /^1:(-?\d{1,15})$/.exec(Buffer.from(token, "base64url").toString("utf8"));
  if (match === null) throw invalid("page_token", "expected the next_page_token of an earlier answer");
  return Number(match[1]);
}
