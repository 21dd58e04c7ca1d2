/** Placement policies and the roles of zones: names become ids here, what is wrong is told before anything is proposed. */
import { invalid, RoostError } from "../../base/errors.ts";
import type { Violation } from "../../base/errors.ts";
import type { ServiceMethods } from "../../base/rpc.ts";
import { didYouMean } from "../../base/suggest.ts";
import { policyFaults, zonesOf } from "../../model/policy-check.ts";
import { describePolicy, membersOf } from "../../model/policy.ts";
import type { Policy, PolicyTarget } from "../../model/policy.ts";
import type { View } from "../../model/view.ts";
import { lint, violationsOf } from "../../scheduler/lint.ts";
import type { Finding } from "../../scheduler/lint.ts";
import type { Policy__Output as PolicyInput } from "../../gen/types/roost/v1/Policy.ts";
import type { Policy as PolicyMessage } from "../../gen/types/roost/v1/Policy.ts";
import type { PolicyFinding } from "../../gen/types/roost/v1/PolicyFinding.ts";
import type { PolicyViolation } from "../../gen/types/roost/v1/PolicyViolation.ts";
import type { Zone } from "../../gen/types/roost/v1/Zone.ts";
import { propose, readState } from "../context.ts";
import type { CallContext } from "../context.ts";
import { nodeName } from "../convert.ts";
import { findNode, findPolicy, findVm } from "../lookup.ts";

const RULES = ["must", "must-not", "prefer", "prefer-not"] as const;
const PLACES = ["same-node", "different-nodes"] as const;
const ROLES = ["primary", "secondary"] as const;

/** Violations shown of one policy; a policy over thousands of VMs must still answer. */
const SHOWN = 200;

interface Answer {
  policy: PolicyMessage | null;
  findings: PolicyFinding[];
  violations: PolicyViolation[];
}

/** Reads a policy with all its faults, each with the field of the message; `prefix` comes before them. */
function readPolicy(view: View, input: PolicyInput, id: string, prefix = ""): { policy: Policy; faults: Violation[] } {
  const faults: Violation[] = [];
  const choice = <const T extends string>(field: string, value: string, choices: readonly T[], initial: T): T => {
    const found = choices.find((one) => one === value);
    if (found === undefined)
      faults.push({
        field,
        message: `expected one of ${choices.join(", ")}${value === "" ? "" : `, not ${JSON.stringify(value)}`}${didYouMean(value, choices)}`,
      });
    return found ?? initial;
  };
  const idsOf = (field: string, names: readonly string[], find: (text: string) => { id: string }): string[] => {
    const ids = new Set<string>();
    for (const [i, name] of names.entries()) {
      try {
        ids.add(find(name).id);
      } catch (error) {
        if (!(error instanceof RoostError)) throw error;
        faults.push({ field: `${field}[${i}]`, message: error.hint === undefined ? error.message : `${error.message}; ${error.hint}` });
      }
    }
    return [...ids];
  };
  const strength = choice("rule", input.rule, RULES, "must");
  const members = idsOf("members", input.members, (text) => findVm(view, text));
  const named = input.nodes.length > 0 || Object.keys(input.nodeLabels).length > 0;
  const targets = [named, input.zones.length > 0, input.place !== ""].filter(Boolean).length;
  if (targets !== 1)
    faults.push({
      field: "",
      message: `expected exactly one of nodes (or node-labels), zones and place${targets === 0 ? "" : ": a policy names nodes or zones, or says how its members are to each other"}`,
    });
  let target: PolicyTarget = { kind: "vms", rule: "different-nodes" };
  if (named)
    target = { kind: "nodes", nodeIds: idsOf("nodes", input.nodes, (text) => findNode(view, text)), labels: sorted(input.nodeLabels) };
  else if (input.zones.length > 0) target = { kind: "zones", zones: [...new Set(input.zones)] };
  else if (input.place !== "") target = { kind: "vms", rule: choice("place", input.place, PLACES, "different-nodes") };
  const policy: Policy = {
    id,
    name: input.name,
    enabled: input.enabled ?? true,
    members,
    memberLabels: sorted(input.memberLabels),
    strength,
    weight: input.weight ?? 1,
    target,
    revision: 0,
  };
  const said = new Set(faults.map((fault) => fault.field));
  // What could not be found has been said, with the name as it was written.
  faults.push(...policyFaults(policy, view).filter((fault) => !said.has(fault.field) && !(fault.field === "nodes" && said.size > 0)));
  return { policy, faults: faults.map(({ field, message }) => ({ field: `${prefix}${field}`, message })) };
}

function sorted(labels: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

function requirePolicy(view: View, input: PolicyInput | null, id: string): Policy {
  if (input === null) throw invalid("policy", "expected a policy");
  const { policy, faults } = readPolicy(view, input, id);
  if (faults.length > 0) throw new RoostError({ kind: "invalid", violations: faults }, "nothing was changed");
  return policy;
}

/** Lints a policy that is to be on; an error is thrown, because applying it would refuse it. */
function lintNew(view: View, policy: Policy): PolicyFinding[] {
  if (!policy.enabled) return [];
  const { findings } = lint(view, [policy]);
  const error = findings.find((finding) => finding.severity === "error");
  if (error !== undefined) {
    throw new RoostError(
      { kind: "precondition", reason: `policies ${error.policies.map((one) => one.name).join(", ")} ${error.message}` },
      "switch off or change one of them first; without any one of these the others go together",
    );
  }
  return findings.map((finding) => toFinding(view, finding));
}

function answer(view: View, id: string, findings: PolicyFinding[]): Answer {
  const policy = view.policies.get(id);
  return {
    policy: policy === undefined ? null : toPolicy(view, policy),
    findings,
    violations: policy === undefined || !policy.enabled ? [] : toViolations(view, policy),
  };
}

function toPolicy(view: View, policy: Policy): PolicyMessage {
  const { target } = policy;
  const nameOf = (id: string): string => view.vms.get(id)?.definition.name ?? id;
  return {
    id: policy.id,
    name: policy.name,
    enabled: policy.enabled,
    rule: policy.strength,
    weight: policy.weight,
    members: policy.members.map(nameOf),
    memberLabels: policy.memberLabels ?? {},
    nodes: target.kind === "nodes" ? target.nodeIds.map((id) => nodeName(view, id)) : [],
    nodeLabels: target.kind === "nodes" ? (target.labels ?? {}) : {},
    zones: target.kind === "zones" ? target.zones : [],
    place: target.kind === "vms" ? target.rule : "",
    revision: policy.revision,
    vms: membersOf(view, policy).map(nameOf),
  };
}

function toFinding(view: View, finding: Finding): PolicyFinding {
  return {
    code: finding.code,
    severity: finding.severity,
    message: finding.message,
    policies: finding.policies.map((policy) => policy.name),
    vms: finding.vmIds.map((id) => view.vms.get(id)?.definition.name ?? id),
    lost: finding.lost,
  };
}

function toViolations(view: View, policy: Policy): PolicyViolation[] {
  const wish = describePolicy(view, policy).replace(`policy ${policy.name}: `, "");
  return violationsOf(view, policy)
    .slice(0, SHOWN)
    .map(({ vm, node }) => ({ policy: policy.name, vm: vm.definition.name, node: node.name, wish }));
}

function toZone(view: View, name: string): Zone {
  const nodes = [...view.nodes.values()].filter((node) => node.zone === name && node.state !== "removed");
  return { name, role: view.zoneRoles.get(name) ?? "", nodes: nodes.map((node) => node.name).toSorted() };
}

const byName = (a: { name: string }, b: { name: string }): number => (a.name < b.name ? -1 : 1);

async function write(context: CallContext): Promise<View> {
  return (await readState(context, "CONSISTENCY_LINEARIZABLE")).view;
}

export const policyService: ServiceMethods<"PolicyService", CallContext> = {
  async CreatePolicy(request, context) {
    const view = await write(context);
    const policy = requirePolicy(view, request.policy, context.newId());
    if (request.plan && view.policyIdByName.has(policy.name)) throw new RoostError({ kind: "exists", what: "policy", name: policy.name });
    const findings = lintNew(view, policy);
    if (request.plan) return { policy: toPolicy(view, policy), findings, violations: policy.enabled ? toViolations(view, policy) : [] };
    const { revision: _revision, ...row } = policy;
    const result = await propose(context, { type: "policy.create", policy: row }, request.requestId);
    return answer(context.store.view(), result.ids?.[0] ?? policy.id, findings);
  },

  async ListPolicies(request, context) {
    const { view, info } = await readState(context, request.consistency);
    return { policies: [...view.policies.values()].toSorted(byName).map((policy) => toPolicy(view, policy)), read: info };
  },

  async GetPolicy(request, context) {
    const { view, info } = await readState(context, request.consistency);
    const policy = findPolicy(view, request.policy);
    return { policy: toPolicy(view, policy), violations: toViolations(view, policy), read: info };
  },

  async UpdatePolicy(request, context) {
    const view = await write(context);
    const before = findPolicy(view, request.policy);
    const policy = { ...requirePolicy(view, request.definition, before.id), enabled: before.enabled };
    const findings = lintNew(view, policy);
    const { revision: _revision, enabled: _enabled, ...row } = policy;
    await propose(context, { type: "policy.update", policy: row }, request.requestId);
    return answer(context.store.view(), before.id, findings);
  },

  async EnablePolicy(request, context) {
    const view = await write(context);
    const policy = findPolicy(view, request.policy);
    const findings = lintNew(view, { ...policy, enabled: true });
    await propose(context, { type: "policy.enable", policyId: policy.id, enabled: true }, request.requestId);
    return answer(context.store.view(), policy.id, findings);
  },

  async DisablePolicy(request, context) {
    const policy = findPolicy(await write(context), request.policy);
    await propose(context, { type: "policy.enable", policyId: policy.id, enabled: false }, request.requestId);
    const { policy: after } = answer(context.store.view(), policy.id, []);
    return { policy: after };
  },

  async DeletePolicy(request, context) {
    const policy = findPolicy(await write(context), request.policy);
    await propose(context, { type: "policy.delete", policyId: policy.id }, request.requestId);
    return {};
  },

  async LintPolicies(request, context) {
    const view = await write(context);
    const faults: Violation[] = [];
    const drafts = request.drafts.map((draft, i) => {
      // A draft with the name of a policy of the cluster stands in its place.
      const id = view.policyIdByName.get(draft.name) ?? context.newId();
      const read = readPolicy(view, draft, id, request.drafts.length === 1 ? "" : `drafts[${i}].`);
      faults.push(...read.faults);
      return read.policy;
    });
    if (faults.length > 0) throw new RoostError({ kind: "invalid", violations: faults });
    const named = request.policies.map((text) => findPolicy(view, text));
    const focus = drafts.length + named.length > 0 ? [...drafts, ...named] : [...view.policies.values()].filter((policy) => policy.enabled);
    const { findings, complete } = lint(view, focus);
    return {
      findings: findings.map((finding) => toFinding(view, finding)),
      violations: focus.flatMap((policy) => toViolations(view, policy)),
      complete,
    };
  },

  async ListZones(request, context) {
    const { view, info } = await readState(context, request.consistency);
    return { zones: [...zonesOf(view)].toSorted().map((name) => toZone(view, name)), read: info };
  },

  async SetZone(request, context) {
    const role = ROLES.find((one) => one === request.role) ?? null;
    if (role === null && request.role !== "none" && request.role !== "")
      throw invalid("role", `expected one of ${[...ROLES, "none"].join(", ")}, not ${JSON.stringify(request.role)}`);
    const view = await write(context);
    const names = [...zonesOf(view)].toSorted();
    if (!names.includes(request.zone))
      throw new RoostError(
        { kind: "not-found", what: "zone", name: request.zone },
        `no node is in it${didYouMean(request.zone, names)}; there are ${names.length === 0 ? "none" : names.join(", ")}; \`roost node set NODE --zone ${request.zone}\` puts one there`,
      );
    await propose(context, { type: "zone.set", zone: request.zone, role }, request.requestId);
    return { zone: toZone(context.store.view(), request.zone) };
  },
};
