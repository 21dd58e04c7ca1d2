/**
 * Membership changes as entry data. The bytes are those of etcd's raftpb.ConfChange / ConfChangeV2 (protobuf), because the
 * size of an entry decides where limits cut (sizes.ts), and so that tools for etcd's log can read ours.
 */
import { assert } from "../../base/assert.ts";
import type { ChangeKind, ConfChange, Entry, PeerChange } from "./types.ts";

const KINDS: readonly ChangeKind[] = ["voter", "remove", "update", "learner"];
const TRANSITIONS: readonly ConfChange["transition"][] = ["auto", "implicit", "explicit"];

const VARINT = 0;
const BYTES = 2;

function writeVarint(out: number[], value: number): void {
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) out.push((rest % 128) + 128);
  out.push(rest);
}

function writeNumber(out: number[], field: number, value: number): void {
  out.push(field * 8 + VARINT);
  writeVarint(out, value);
}

function writeBytes(out: number[], field: number, bytes: ArrayLike<number>): void {
  out.push(field * 8 + BYTES);
  writeVarint(out, bytes.length);
  for (let i = 0; i < bytes.length; i++) out.push(bytes[i]!);
}

/** Entry data of a membership change. */
export function encodeConfChange(change: ConfChange): Uint8Array {
  const out: number[] = [];
  if (change.v1) {
    const [only] = change.changes;
    assert(only !== undefined && change.changes.length === 1 && change.transition === "auto", "the first form holds exactly one change");
    writeNumber(out, 2, KINDS.indexOf(only.kind));
    writeNumber(out, 3, only.peer);
    if (change.context !== null) writeBytes(out, 4, change.context);
  } else {
    writeNumber(out, 1, TRANSITIONS.indexOf(change.transition));
    for (const { kind, peer } of change.changes) {
      const inner: number[] = [];
      writeNumber(inner, 1, KINDS.indexOf(kind));
      writeNumber(inner, 2, peer);
      writeBytes(out, 2, inner);
    }
    if (change.context !== null) writeBytes(out, 3, change.context);
  }
  return Uint8Array.from(out);
}

/** One protobuf field: its number, and its value as a number or as bytes. */
type Field = { number: number; value: number; bytes: null } | { number: number; value: 0; bytes: Uint8Array };

function readFields(data: Uint8Array): Field[] {
  const fields: Field[] = [];
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = data[at++];
      assert(byte !== undefined && scale <= 2 ** 49, "membership change entry is cut off");
      value += (byte % 128) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < data.length) {
    const tag = varint();
    const number = Math.floor(tag / 8);
    if (tag % 8 === VARINT) fields.push({ number, value: varint(), bytes: null });
    else {
      assert(tag % 8 === BYTES, "membership change entry has an unknown field");
      const length = varint();
      assert(at + length <= data.length, "membership change entry is cut off");
      fields.push({ number, value: 0, bytes: data.slice(at, at + length) });
      at += length;
    }
  }
  return fields;
}

function kindOf(value: number): ChangeKind {
  const kind = KINDS[value];
  assert(kind !== undefined, "unknown kind of membership change");
  return kind;
}

/** The membership change in an entry of kind `conf-v1` or `conf`. An entry that does not hold one is a bug or damage. */
export function decodeConfChange(entry: Entry): ConfChange {
  assert(entry.kind === "conf" || entry.kind === "conf-v1", "entry holds no membership change");
  const v1 = entry.kind === "conf-v1";
  const single = { kind: "voter" as ChangeKind, peer: 0 };
  const changes: PeerChange[] = [];
  let transition: ConfChange["transition"] = "auto";
  let context: Uint8Array | null = null;
  for (const field of readFields(entry.data)) {
    if (v1) {
      if (field.number === 2) single.kind = kindOf(field.value);
      else if (field.number === 3) single.peer = field.value;
      else if (field.number === 4) context = field.bytes;
    } else if (field.number === 1) {
      const found = TRANSITIONS[field.value];
      assert(found !== undefined, "unknown transition in a membership change");
      transition = found;
    } else if (field.number === 2 && field.bytes !== null) {
      const change = { kind: "voter" as ChangeKind, peer: 0 };
      for (const inner of readFields(field.bytes)) {
        if (inner.number === 1) change.kind = kindOf(inner.value);
        else if (inner.number === 2) change.peer = inner.value;
      }
      changes.push(change);
    } else if (field.number === 3) context = field.bytes;
  }
  if (v1) changes.push(single);
  return { v1, transition, changes, context };
}

/** True if the change, applied in a joint configuration, leaves it. */
export function leavesJoint(change: ConfChange): boolean {
  return change.transition === "auto" && change.changes.length === 0;
}

/** Whether the change needs joint consensus, and whether that ends by itself; null: the simple protocol does. */
export function entersJoint(change: ConfChange): { autoLeave: boolean } | null {
  // More changes could go the simple way, but which ones depends on the configuration they meet; joint is always right.
  if (change.transition === "auto" && change.changes.length <= 1) return null;
  return { autoLeave: change.transition !== "explicit" };
}
