/** A placement policy as people write it, to the shape that the API takes. Only shape is judged; the server says what it means. */
import type { Violation } from "./errors.ts";
import { boolean, integer, labels, readObject, text, texts } from "./shape.ts";
import type { Keys } from "./shape.ts";

/** Same fields as roost.v1.Policy. */
export interface PolicyInput {
  name?: string;
  enabled?: boolean;
  rule?: string;
  weight?: number;
  members?: string[];
  memberLabels?: Record<string, string>;
  nodes?: string[];
  nodeLabels?: Record<string, string>;
  zones?: string[];
  place?: string;
}

const POLICY: Keys = {
  name: { read: text },
  enabled: { read: boolean },
  rule: { read: text },
  weight: { read: integer },
  members: { read: texts },
  "member-labels": { read: labels, to: "memberLabels", aliases: ["memberLabels", "member_labels"] },
  nodes: { read: texts },
  "node-labels": { read: labels, to: "nodeLabels", aliases: ["nodeLabels", "node_labels"] },
  zones: { read: texts },
  place: { read: text },
};

export function readPolicyFile(plain: unknown): { input: PolicyInput; violations: Violation[] } {
  const violations: Violation[] = [];
  const input = (readObject(plain, POLICY, "", violations) ?? {}) as PolicyInput;
  return { input, violations };
}
