/** The cluster as a whole: joining, tokens, settings, certificates, events, failovers. */
import { invalid, RoostError } from "../../base/errors.ts";
import type { Violation } from "../../base/errors.ts";
import { parseAddress } from "../../base/rpc.ts";
import type { ServiceMethods } from "../../base/rpc.ts";
import { expiresAtMs, fingerprint, issue, NODE_TTL_MS, USER_TTL_MS } from "../../cluster/certificates.ts";
import { formatToken, hashSecret, secretText } from "../../cluster/tokens.ts";
import type { Cluster } from "../../model/cluster.ts";
import { didYouMean } from "../../base/suggest.ts";
import { isName, labelFaults, NAME_RULE } from "../../model/definition.ts";
import {
  defaultSettings,
  parseSetting,
  SETTING_KEYS,
  SETTING_PROFILES,
  SETTING_RULES,
  settingsConflict,
  vdcSettingFault,
} from "../../model/settings.ts";
import { limitKey, parseLimit } from "../../model/limit-settings.ts";
import type { SettingKey, Settings } from "../../model/settings.ts";
import { describeImpossible } from "../../model/tolerance-text.ts";
import { goalOf } from "../../model/tolerance.ts";
import { toleranceOf } from "../../scheduler/tolerance.ts";
import { clusterLevel } from "../../state/levels.ts";
import type { View } from "../../model/view.ts";
import type { JoinRequest__Output } from "../../gen/types/roost/v1/JoinRequest.ts";
import type { Command } from "../../state/commands.ts";
import { actorOf } from "../auth.ts";
import type { Setting as SettingMessage } from "../../gen/types/roost/v1/Setting.ts";
import type { UpdateSettingRequest__Output } from "../../gen/types/roost/v1/UpdateSettingRequest.ts";
import { propose, readState } from "../context.ts";
import type { CallContext } from "../context.ts";
import { toEvent, toFailover, toLimit, toSetting, toToken } from "../convert.ts";
import { eventsFrom } from "../watch.ts";
import { QUORUM_SILENCE_MS, alarmsOf, levelHeldBackBy, stateMethods } from "./state.ts";

const HOUR_MS = 3_600_000;
const DEFAULT_TOKEN_MS = HOUR_MS;
const MAX_TOKEN_MS = 7 * 24 * HOUR_MS;
const MIN_TOKEN_MS = 1_000;
const MAX_USES = 1_000;

function clusterOf(view: View): Cluster {
  if (view.cluster === null)
    throw new RoostError({ kind: "unavailable", reason: "the cluster's state is not here yet" }, "try again in a moment");
  return view.cluster;
}

function checkJoin(request: JoinRequest__Output): void {
  const violations: Violation[] = [];
  if (request.tokenId === "" || request.tokenSecret === "")
    violations.push({ field: "token", message: "expected the id and secret of a join token" });
  if (!isName(request.nodeName)) violations.push({ field: "node_name", message: `expected ${NAME_RULE}` });
  if (parseAddress(request.apiAddress) === null) violations.push({ field: "api_address", message: "expected host:port" });
  if (parseAddress(request.peerAddress) === null) violations.push({ field: "peer_address", message: "expected host:port" });
  if (request.zone !== "" && !isName(request.zone)) violations.push({ field: "zone", message: `expected ${NAME_RULE}` });
  violations.push(...labelFaults(request.labels, "labels"));
  if (violations.length > 0) throw new RoostError({ kind: "invalid", violations });
}

/** Addresses of the nodes that can be dialled, the answering one first. */
function apiAddresses(view: View, nodeId: string): string[] {
  const nodes = [...view.nodes.values()].filter((node) => node.state !== "removed" && (node.state !== "joining" || node.id === nodeId));
  nodes.sort((a, b) => Number(b.id === nodeId) - Number(a.id === nodeId) || a.peerId - b.peerId);
  return nodes.slice(0, 16).map((node) => node.apiAddress);
}

/** A concurrency limit of one kind of driver (LIM-2). */
async function updateLimit(request: UpdateSettingRequest__Output, context: CallContext): Promise<{ setting: SettingMessage | null }> {
  const { key } = request;
  if (request.vdc !== "")
    throw invalid(
      "vdc",
      `${key} is the cluster's alone; ${key.replace(/\.(byvdc|faststatechanges)$/, "")}.byvdc makes it hold for each vdc`,
    );
  const parsed = parseLimit(key, request.value);
  if (!request.reset && parsed?.ok !== true)
    throw invalid("value", `expected ${parsed?.expected ?? "a limit"} for ${key}, not ${JSON.stringify(request.value)}`);
  const command: Command =
    request.reset || parsed?.ok !== true ? { type: "setting.reset", key, vdc: "" } : { type: "setting.update", key, value: parsed.value };
  await propose(context, command, request.requestId);
  return { setting: toLimit(context.store.view(), key) };
}

/** What is proven impossible is not promised (HA-16); what is only not shown is. */
function requireTolerable(view: View, settings: Settings, key: SettingKey): void {
  if (key !== "ha.tolerate" && key !== "ha.tolerateZones") return;
  if (settings[key] <= clusterOf(view).settings[key]) return;
  const [impossible] = toleranceOf(view, goalOf(settings), { first: true }).impossible;
  if (impossible === undefined) return;
  throw new RoostError(
    { kind: "precondition", reason: `${key} ${settings[key]} cannot be kept: ${describeImpossible(view, impossible)}` },
    "make room first; `roost ha show --tolerate N` says what is in the way",
  );
}

export const clusterService: ServiceMethods<"ClusterService", CallContext> = {
  ...stateMethods,

  async GetCluster(request, context) {
    const { view, info } = await readState(context, request.consistency);
    const cluster = clusterOf(view);
    const { leading, leaderNodeId, term, silentMs } = context.store.leadership();
    const nodes = [...view.nodes.values()].filter((node) => node.state !== "removed");
    return {
      id: cluster.id,
      name: cluster.name,
      generation: cluster.generation,
      leaderNodeId: leaderNodeId ?? "",
      term,
      voters: nodes.filter((node) => node.role === "voter").length,
      nodes: nodes.length,
      vms: [...view.vms.values()].filter((vm) => vm.state !== "deleted").length,
      hasQuorum: info.linearizable === true || leading || (leaderNodeId !== null && silentMs < QUORUM_SILENCE_MS),
      read: info,
      level: clusterLevel(view),
      levelHeldBackBy: levelHeldBackBy(view),
      alarms: alarmsOf(view, context.hooks.leftOut()),
    };
  },

  async Join(request, context) {
    checkJoin(request);
    const { view } = await readState(context, "CONSISTENCY_LINEARIZABLE");
    const cluster = clusterOf(view);
    const ca = { certificatePem: cluster.caCertificate, keyPem: cluster.caKey };
    const sign = (nodeId: string): Promise<string> =>
      issue(ca, request.certificateRequest, {
        subject: { kind: "node", nodeId },
        names: [parseAddress(request.apiAddress)?.host ?? "", parseAddress(request.peerAddress)?.host ?? "", request.nodeName],
        nowMs: context.nowMs(),
        ttlMs: NODE_TTL_MS,
        serial: context.newSecret(16),
      });
    const mintedId = context.newId();
    // Signed before the token is used up: a bad request must leave the cluster as it was. Handed out only after it.
    const prepared = await sign(mintedId);
    const result = await propose(
      context,
      {
        type: "node.join",
        tokenId: request.tokenId,
        secretHash: hashSecret(request.tokenSecret),
        node: {
          id: mintedId,
          name: request.nodeName,
          zone: request.zone,
          labels: request.labels,
          apiAddress: request.apiAddress,
          peerAddress: request.peerAddress,
          level: Math.max(1, request.level),
          ...(request.witness ? { witness: true } : {}),
        },
      },
      request.requestId,
    );
    // A repeated request gets the node that its first run made.
    const nodeId = result.ids?.[0] ?? mintedId;
    const after = context.store.view();
    context.log.info("node joins", { node: nodeId, name: request.nodeName, token: request.tokenId });
    return {
      clusterId: cluster.id,
      generation: cluster.generation,
      nodeId,
      peerId: result.peerId ?? after.nodes.get(nodeId)?.peerId ?? 0,
      caCertificate: cluster.caCertificate,
      certificate: nodeId === mintedId ? prepared : await sign(nodeId),
      peers: [...after.nodes.values()]
        .filter((node) => node.state !== "removed" && node.id !== nodeId)
        .map(({ id, peerId, apiAddress, peerAddress }) => ({ nodeId: id, peerId, apiAddress, peerAddress })),
    };
  },

  async ConfirmJoin(request, context) {
    const { identity } = context;
    if (identity.kind !== "node" || identity.nodeId !== request.nodeId) {
      throw new RoostError({ kind: "denied", reason: `only node ${request.nodeId} itself may confirm its join, not ${actorOf(identity)}` });
    }
    await propose(context, { type: "node.join-confirm", nodeId: request.nodeId }, "");
    return {};
  },

  async CreateToken(request, context) {
    const ttlMs = request.ttlMs === 0 ? DEFAULT_TOKEN_MS : request.ttlMs;
    const uses = request.uses === 0 ? 1 : request.uses;
    const violations: Violation[] = [];
    if (ttlMs < MIN_TOKEN_MS || ttlMs > MAX_TOKEN_MS)
      violations.push({ field: "ttl_ms", message: `expected ${MIN_TOKEN_MS} to ${MAX_TOKEN_MS} (7 days), not ${ttlMs}` });
    if (uses < 1 || uses > MAX_USES) violations.push({ field: "uses", message: `expected 1 to ${MAX_USES}, not ${uses}` });
    if (violations.length > 0) throw new RoostError({ kind: "invalid", violations });
    const { view } = await readState(context, "CONSISTENCY_LINEARIZABLE");
    const cluster = clusterOf(view);
    const id = context.newId();
    const secret = secretText(context.newSecret(32));
    const result = await propose(context, { type: "token.create", id, secretHash: hashSecret(secret), ttlMs, uses }, request.requestId);
    const made = result.ids?.[0] ?? id;
    if (made !== id) {
      throw new RoostError(
        { kind: "conflict", reason: `this request made token ${made} already, and a token's text is shown only once` },
        `roost token revoke ${made}, then create another`,
      );
    }
    const after = context.store.view();
    const token = formatToken({
      id,
      secret,
      caFingerprint: fingerprint(cluster.caCertificate),
      addresses: apiAddresses(after, context.nodeId),
    });
    const row = after.tokens.get(id);
    return { token, info: row === undefined ? null : toToken(row) };
  },

  async ListTokens(_request, context) {
    const { view } = await readState(context, "CONSISTENCY_LINEARIZABLE");
    const tokens = [...view.tokens.values()].toSorted((a, b) => a.createdAtMs - b.createdAtMs);
    return { tokens: tokens.map(toToken) };
  },

  async RevokeToken(request, context) {
    const { view } = await readState(context, "CONSISTENCY_LINEARIZABLE");
    const matches = [...view.tokens.keys()].filter((id) => id === request.id || (request.id.length >= 4 && id.startsWith(request.id)));
    const [id] = matches;
    if (id === undefined) throw new RoostError({ kind: "not-found", what: "token", name: request.id }, "roost token list shows them");
    if (matches.length > 1) throw invalid("id", `${JSON.stringify(request.id)} is the beginning of ${matches.length} ids`);
    await propose(context, { type: "token.revoke", id }, "");
    return {};
  },

  async ListSettings(_request, context) {
    const { view } = await readState(context, "CONSISTENCY_LINEARIZABLE");
    const settings = view.cluster?.settings ?? defaultSettings();
    const limits = Object.keys(view.cluster?.limits ?? {}).toSorted();
    return {
      settings: [
        ...SETTING_KEYS.map((key) => toSetting(key, settings, view.cluster?.vdcSettings)),
        ...limits.flatMap((key) => toLimit(view, key) ?? []),
      ],
    };
  },

  async UpdateSetting(request, context) {
    const { vdc } = request;
    if (limitKey(request.key) !== null) return await updateLimit(request, context);
    if (request.reset && vdc === "") throw invalid("vdc", "expected the vdc that is to have the cluster's value again");
    const resets = request.reset && SETTING_KEYS.some((key) => key === request.key);
    const parsed = resets
      ? parseSetting(request.key, String(SETTING_RULES[request.key as SettingKey].initial))
      : parseSetting(request.key, request.value);
    if (!parsed.ok) {
      const known = SETTING_KEYS.some((key) => key === request.key);
      if (known) throw invalid("value", `expected ${parsed.expected} for ${request.key}, not ${JSON.stringify(request.value)}`);
      throw invalid(
        "key",
        `there is no setting ${JSON.stringify(request.key)}${didYouMean(request.key, SETTING_KEYS)}`,
        turnedKey(request.key) ?? "roost settings list shows them",
      );
    }
    const fault = vdc === "" ? null : vdcSettingFault(parsed.key, vdc);
    if (fault !== null) throw invalid(fault.field, fault.message);
    const { view } = await readState(context, "CONSISTENCY_LINEARIZABLE");
    const conflict = vdc === "" ? settingsConflict({ ...clusterOf(view).settings, [parsed.key]: parsed.value }) : null;
    if (conflict !== null) throw new RoostError({ kind: "precondition", reason: conflict }, "change the other setting first");
    requireTolerable(view, { ...clusterOf(view).settings, [parsed.key]: parsed.value }, parsed.key);
    const command: Command = request.reset
      ? { type: "setting.reset", key: parsed.key, vdc }
      : { type: "setting.update", key: parsed.key, value: parsed.value, ...(vdc === "" ? {} : { vdc }) };
    await propose(context, command, request.requestId);
    const after = clusterOf(context.store.view());
    return { setting: toSetting(parsed.key, after.settings, after.vdcSettings) };
  },

  async ApplyProfile(request, context) {
    const names = Object.keys(SETTING_PROFILES);
    const wanted = Object.hasOwn(SETTING_PROFILES, request.profile) ? SETTING_PROFILES[request.profile] : undefined;
    if (request.profile !== "" && wanted === undefined) {
      throw invalid(
        "profile",
        `there is no profile ${JSON.stringify(request.profile)}${didYouMean(request.profile, names)}`,
        `there are ${names.join(", ")}`,
      );
    }
    let { view } = await readState(context, "CONSISTENCY_LINEARIZABLE");
    if (wanted !== undefined) {
      await propose(context, { type: "settings.profile", profile: request.profile, values: wanted.values }, request.requestId);
      view = context.store.view();
    }
    const { settings } = clusterOf(view);
    return {
      profiles: Object.entries(SETTING_PROFILES).map(([name, { about, values }]) => {
        const rows = Object.entries(values);
        const current = rows.every(([key, value]) => settings[key as SettingKey] === value);
        return { name, about, current, values: Object.fromEntries(rows.map(([key, value]) => [key, String(value)])) };
      }),
    };
  },

  async IssueCertificate(request, context) {
    if (!/^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/.test(request.user)) {
      throw invalid("user", "expected 1 to 64 letters, digits, dots, dashes, underscores and @, beginning with a letter or digit");
    }
    const ttlMs = request.ttlMs === 0 ? USER_TTL_MS : request.ttlMs;
    if (ttlMs < 60_000 || ttlMs > 5 * USER_TTL_MS) throw invalid("ttl_ms", `expected 60000 to ${5 * USER_TTL_MS} (5 years)`);
    const { view } = await readState(context, "CONSISTENCY_LINEARIZABLE");
    const cluster = clusterOf(view);
    const certificate = await issue({ certificatePem: cluster.caCertificate, keyPem: cluster.caKey }, request.certificateRequest, {
      subject: { kind: "user", name: request.user },
      nowMs: context.nowMs(),
      ttlMs,
      serial: context.newSecret(16),
    });
    context.log.info("certificate issued", { user: request.user, by: actorOf(context.identity), expiresAtMs: expiresAtMs(certificate) });
    return { certificate, caCertificate: cluster.caCertificate, endpoints: apiAddresses(view, context.nodeId) };
  },

  async *WatchEvents(request, context) {
    await readState(context, "CONSISTENCY_LINEARIZABLE");
    if (request.fromRevision < 0) throw invalid("from_revision", "expected 0 or a revision");
    const wanted = new Set(request.subjectIds);
    for await (const told of eventsFrom(context.store, request.fromRevision, !request.noFollow, context.signal)) {
      if ("upTo" in told) yield { bookmark: told.upTo };
      else if (wanted.size === 0 || wanted.has(told.event.subjectId) || wanted.has(told.event.objectId ?? ""))
        yield { event: toEvent(told.event) };
    }
  },

  async ListFailovers(request, context) {
    const { view, info } = await readState(context, request.consistency);
    const settings = view.cluster?.settings ?? defaultSettings();
    const failovers = [...view.vms.values()].flatMap((vm) => toFailover(view, vm, settings) ?? []);
    return { failovers: failovers.toSorted((a, b) => (a.proofMs ?? 0) - (b.proofMs ?? 0)), read: info };
  },
};

/** `openSession.libvirt` for `libvirt.openSession`: said how it is written; null for any other key. */
function turnedKey(key: string): string | null {
  const [, base, kind] = /^((?:device\.|backup\.)?openSession)\.([a-z0-9-]+)$/.exec(key) ?? [];
  return base === undefined || limitKey(`${kind}.${base}`) === null ? null : `for one kind of driver it is ${kind}.${base}`;
}
