/** Who calls, and what they may (SEC-2, SEC-3). Roles within users come later; today every user is an admin. */
import { IMMIGRATE_METHOD } from "../agent/migration/wire.ts";
import { RoostError } from "../base/errors.ts";
import { parseCommonName } from "../cluster/certificates.ts";
import type { View } from "../model/view.ts";

export type Identity = { kind: "user"; name: string } | { kind: "node"; nodeId: string } | { kind: "anonymous" };

/** As commands, events and the audit trail carry it. */
export function actorOf(identity: Identity): string {
  switch (identity.kind) {
    case "user":
      return `user:${identity.name}`;
    case "node":
      return `node:${identity.nodeId}`;
    case "anonymous":
      return "anonymous";
  }
}

/** The only call without a certificate: who joins has none yet, and shows a token instead. */
export const OPEN_METHOD = "/roost.v1.ClusterService/Join";

/** What an agent may call as itself. Everything else is for users. */
const NODE_METHODS = new Set([
  "/roost.v1.AuditService/GetRunRecords",
  IMMIGRATE_METHOD,
  "/roost.v1.ClusterService/ConfirmJoin",
  "/roost.v1.ClusterService/GetCluster",
  "/roost.v1.ClusterService/InspectReplica",
  "/roost.v1.ClusterService/ListSettings",
  "/roost.v1.NodeService/ListNodes",
  "/roost.v1.NodeService/GetNode",
  "/roost.v1.NodeService/InspectNode",
  "/roost.v1.PoolService/ListPools",
  "/roost.v1.VmService/ListVms",
  "/roost.v1.VmService/GetVm",
  "/grpc.health.v1.Health/Check",
  "/grpc.health.v1.Health/Watch",
]);

/** The identity in a verified certificate's common name; anonymous without a certificate. */
export function identityOf(certificateName: string | null): Identity {
  if (certificateName === null) return { kind: "anonymous" };
  const subject = parseCommonName(certificateName);
  if (subject === null) throw new RoostError({ kind: "denied", reason: "the certificate names neither a user nor a node of this cluster" });
  return subject;
}

/** Throws `denied` with the right that is missing. `path` is the gRPC method, `/roost.v1.VmService/CreateVm`. */
export function authorize(identity: Identity, path: string, view: View): void {
  if (path === OPEN_METHOD) return;
  switch (identity.kind) {
    case "user":
      return;
    case "node":
      if (view.nodes.get(identity.nodeId)?.state === "removed") {
        throw new RoostError(
          { kind: "denied", reason: `node ${identity.nodeId} was removed from the cluster` },
          "join it again with a new token",
        );
      }
      if (NODE_METHODS.has(path)) return;
      throw new RoostError(
        { kind: "denied", reason: `a node's certificate may not call ${path}: this needs a user's` },
        "use the socket on the node as root, or a context made by `roost context issue`",
      );
    case "anonymous":
      throw new RoostError(
        { kind: "denied", reason: `${path} needs a certificate of this cluster` },
        "use the socket on the node as root, or a context made by `roost context issue`",
      );
  }
}
