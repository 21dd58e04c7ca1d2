/** The API on the network: one set of services behind the local socket and behind the TLS port. */
import { IMMIGRATE_METHOD } from "../agent/migration/wire.ts";
import { RoostError } from "../base/errors.ts";
import { services } from "../base/rpc.ts";
import type { TlsIdentity } from "../base/rpc.ts";
import { type CallInfo, CODE, type Status } from "../base/grpc-call.ts";
import type { GrpcServer } from "../base/grpc-server.ts";
import { createServer, serve } from "../base/rpc-serve.ts";
import type { Adapter } from "../base/rpc-serve.ts";
import { authorize, identityOf, OPEN_METHOD } from "./auth.ts";
import type { Identity } from "./auth.ts";
import type { CallContext, ServerContext } from "./context.ts";
import { auditService } from "./services/audit.ts";
import { benchService } from "./services/bench.ts";
import { clusterService } from "./services/cluster.ts";
import { doctorService } from "./services/doctor.ts";
import { limitService } from "./services/limit.ts";
import { haService } from "./services/ha.ts";
import { nodeService } from "./services/node.ts";
import { policyService } from "./services/policy.ts";
import { poolService } from "./services/pool.ts";
import { schedulerService } from "./services/scheduler.ts";
import { taskService } from "./services/task.ts";
import { vmService } from "./services/vm.ts";
import { Health, serveHealth, serveReflection } from "./standard.ts";
import { statusOf } from "./status.ts";

export interface ApiOptions {
  /** Path of the local socket, mode 0600: whoever can open it is an admin. null for none. */
  socketPath: string | null;
  /** The port for everybody else; null for none. `address` is `host:port`. */
  tls: { address: string; identity: TlsIdentity } | null;
}

export interface ApiServer {
  /** Port of the TLS listener; 0 without one. */
  port: number;
  health: Health;
  /** New connections get the renewed certificate. */
  updateIdentity(identity: TlsIdentity): void;
  /** Ends calls under way after `drainMs`. */
  close(drainMs?: number): Promise<void>;
}

const SERVICES = [
  [services.v1.ClusterService.service, clusterService],
  [services.v1.NodeService.service, nodeService],
  [services.v1.VmService.service, vmService],
  [services.v1.PoolService.service, poolService],
  [services.v1.PolicyService.service, policyService],
  [services.v1.SchedulerService.service, schedulerService],
  [services.v1.TaskService.service, taskService],
  [services.v1.LimitService.service, limitService],
  [services.v1.DoctorService.service, doctorService],
  [services.v1.HaService.service, haService],
  [services.v1.AuditService.service, auditService],
  [services.v1.Bench.service, benchService],
] as const;

/** Starts both listeners or neither. */
export async function startApi(context: ServerContext, options: ApiOptions): Promise<ApiServer> {
  const health = new Health();
  health.set("", "SERVING");
  for (const [definition] of SERVICES) {
    const path = Object.values(definition)[0]?.path ?? "";
    health.set(path.split("/")[1] ?? "", "SERVING");
  }
  const closers: ((drainMs: number) => Promise<void>)[] = [];
  const close = async (drainMs = 1_000): Promise<void> => {
    await Promise.all(closers.splice(0).map((closer) => closer(drainMs)));
  };
  try {
    if (options.socketPath !== null) {
      // Whoever can open the socket owns the node's data folder: the cluster's admin by force of file permissions.
      const local = (): Identity => ({
        kind: "user",
        name: `root@${context.store.view().nodes.get(context.nodeId)?.name ?? context.nodeId}`,
      });
      const server = serverOf(adapterOf(context, local), health);
      await server.listenUnix(options.socketPath);
      closers.push((drainMs) => server.close(drainMs));
    }
    let port = 0;
    let secure: GrpcServer | null = null;
    if (options.tls !== null) {
      const adapter = adapterOf(context, (info) => identityOf(info.certificateName));
      const server = (secure = serverOf(adapter, health, requireCertificate));
      port = await server.listenTls(options.tls.address, options.tls.identity, "asked");
      closers.push((drainMs) => server.close(drainMs));
    }
    return { port, health, updateIdentity: (identity) => secure?.updateIdentity(identity), close };
  } catch (error) {
    await close(0);
    throw error;
  }
}

function serverOf(adapter: Adapter<CallContext>, health: Health, admit?: (info: CallInfo) => Status | null): GrpcServer {
  const server = createServer(adapter, admit);
  for (const [definition, methods] of SERVICES) serve(server, definition, methods, adapter);
  server.add(IMMIGRATE_METHOD, {
    kind: "tunnel",
    open(stream, info) {
      const { identity, hooks } = adapter.contextOf(info);
      if (identity.kind !== "node") throw new RoostError({ kind: "denied", reason: "only a node's agent sends VMs" });
      hooks.immigrate(identity.nodeId, stream);
    },
  });
  serveHealth(server, health, adapter);
  serveReflection(server);
  return server;
}

function adapterOf(context: ServerContext, identify: (info: CallInfo) => Identity): Adapter<CallContext> {
  return {
    contextOf(info) {
      const identity = identify(info);
      authorize(identity, info.path, context.store.view());
      return {
        ...context,
        identity,
        deadlineMs: info.deadlineMs,
        // Made when asked for: hardly any call is.
        get signal() {
          return info.signal;
        },
      };
    },
    statusOf(error: RoostError, info) {
      if (error.fault.kind === "internal") {
        const cause = error.cause instanceof Error ? error.cause : error;
        context.log.error("a call failed by a bug", { path: info.path, reason: error.message, stack: cause.stack ?? "" });
      }
      return statusOf(error);
    },
  };
}

/**
 * Refuses every call but Join on a connection without a verified certificate, before any service sees it: a service
 * that is added later is closed until somebody opens it on purpose. What remains is decided by `authorize`.
 */
function requireCertificate({ path, certificateName }: CallInfo): Status | null {
  if (path === OPEN_METHOD || certificateName !== null) return null;
  return { code: CODE.unauthenticated, details: `${path} needs a certificate of this cluster` };
}
