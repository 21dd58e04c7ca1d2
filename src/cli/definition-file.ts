/** Files of definitions (of VMs, of policies): one or several YAML documents, `vms: [...]`, or a JSON array; faults with line and column. */
import { readDefinition } from "../base/definition.ts";
import type { DefinitionInput } from "../base/definition.ts";
import { readPolicyFile } from "../base/policy-definition.ts";
import type { PolicyInput } from "../base/policy-definition.ts";
import { RoostError } from "../base/errors.ts";
import type { Violation } from "../base/errors.ts";

export interface DefinitionFile<T> {
  definitions: T[];
  /** Faults of shape, with the index of their definition; several for one place are possible. */
  faults: FileFault[];
  /** `vm.yaml:4:9` of a field of a definition, or of the nearest part around it that is written down. */
  locate: (index: number, field: string) => Place;
}

interface FileFault {
  index: number;
  field: string;
  message: string;
}

/** What a file is of. */
interface FileKind<T> {
  /** Key of a list of them. */
  list: string;
  name: string;
  hint: string;
  read: (plain: unknown) => { input: T; violations: Violation[] };
}

const VMS: FileKind<DefinitionInput> = { list: "vms", name: "VM", hint: "roost help vm-file shows one", read: readDefinition };
const POLICIES: FileKind<PolicyInput> = {
  list: "policies",
  name: "policy",
  hint: "roost help policy-file shows one",
  read: readPolicyFile,
};

export const parseVmFile = (name: string, text: string): Promise<DefinitionFile<DefinitionInput>> => parseFile(name, text, VMS);
export const parsePolicyFile = (name: string, text: string): Promise<DefinitionFile<PolicyInput>> => parseFile(name, text, POLICIES);

export interface Place {
  text: string;
  line: number;
  column: number;
}

const MAX_BYTES = 4 * 2 ** 20;

/** Throws `invalid` where the file is no YAML at all; everything else is answered as faults beside what could be read. */
async function parseFile<T>(name: string, text: string, kind: FileKind<T>): Promise<DefinitionFile<T>> {
  if (text.length > MAX_BYTES) throw new RoostError({ kind: "invalid", violations: [{ field: name, message: "expected at most 4 MiB" }] });
  const { isMap, isScalar, isSeq, LineCounter, parseAllDocuments } = await import("yaml");
  const lines = new LineCounter();
  const parsed = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false });
  const documents = Array.isArray(parsed) ? parsed : [];
  const place = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { text: `${name}:${line}:${col}`, line, column: col };
  };
  const broken: Violation[] = documents.flatMap((document) =>
    document.errors.map((error) => ({ field: place(error.pos[0]).text, message: error.message })),
  );
  if (broken.length > 0)
    throw new RoostError({ kind: "invalid", violations: broken }, `this is the YAML itself, before any ${kind.name} was looked at`);

  const roots: { node: unknown; plain: unknown }[] = [];
  for (const document of documents) {
    const node: unknown = document.contents;
    if (node === null) continue;
    const plain: unknown = document.toJS({ maxAliasCount: 100 });
    const list = isMap(node) && node.items.length === 1 ? node.get(kind.list, true) : node;
    if (isSeq(list)) {
      const plainList = (Array.isArray(plain) ? plain : (plain as Record<string, unknown>)[kind.list]) as unknown[];
      list.items.forEach((item, i) => roots.push({ node: item, plain: plainList[i] }));
    } else {
      roots.push({ node, plain });
    }
  }
  if (roots.length === 0) {
    throw new RoostError(
      { kind: "invalid", violations: [{ field: name, message: `expected at least one ${kind.name} definition, found none` }] },
      kind.hint,
    );
  }

  const definitions: T[] = [];
  const faults: FileFault[] = [];
  roots.forEach(({ plain }, index) => {
    const { input, violations } = kind.read(plain);
    definitions.push(input);
    for (const { field, message } of violations) faults.push({ index, field, message });
  });

  const locate = (index: number, field: string): Place => {
    let at: unknown = roots[index]?.node;
    let offset = offsetOf(at) ?? 0;
    for (const part of field.matchAll(/[^.[\]]+/g)) {
      let next: unknown;
      if (isMap(at)) {
        const pair = at.items.find((item) => isScalar(item.key) && String(item.key.value) === part[0]);
        next = pair?.value;
        // The key is what people look for; its value may be on another line, or missing.
        offset = offsetOf(pair?.key) ?? offset;
        if (pair === undefined) break;
      } else if (isSeq(at)) {
        next = at.items[Number(part[0])];
        offset = offsetOf(next) ?? offset;
      }
      if (next === undefined || next === null) break;
      at = next;
    }
    return place(offset);
  };
  return { definitions, faults, locate };
}

function offsetOf(node: unknown): number | null {
  const range = typeof node === "object" && node !== null && "range" in node ? node.range : null;
  return Array.isArray(range) && typeof range[0] === "number" ? range[0] : null;
}

/** `definitions[2].disks[0].size`, or `drafts[1].nodes[0]`, of an answer as index and field of the file. */
export function splitField(field: string): { index: number; field: string } {
  const match = /^(?:definitions|drafts)\[(\d+)\]\.?(.*)$/.exec(field);
  return match === null ? { index: 0, field } : { index: Number(match[1]), field: match[2] ?? "" };
}
