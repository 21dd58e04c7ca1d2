/** Three members each of etcd and of roost on this machine, every one a process of its own on a data folder of its own. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { parse } from "yaml";
import { roostCommand } from "../../../scripts/lab/agent.ts";
import { waitFor } from "../../../scripts/lab/wait.ts";
import { newSecret } from "../../../src/base/ids.ts";
import { type Ca, chainOf, createCa, createKeyAndRequest, issue } from "../../../src/cluster/certificates.ts";

const run = promisify(execFile);
const START_MS = 60_000;
const DAY_MS = 86_400_000;

export interface Timing {
  /** The leader is heard this often. */
  heartbeatMs: number;
  /** It is missed after this. */
  electionMs: number;
}

export interface Member {
  name: string;
  /** For clients, host:port. */
  target: string;
  /** Processes that count: for roost the agent and its keeper. */
  pids(): number[];
  /** The process that leads when this member leads. */
  pid(): number;
  /** Starts it again on its folder. */
  restart(): Promise<void>;
}

export interface Members {
  kind: "etcd" | "roost";
  members: Member[];
  /** What the load generator needs to be let in. */
  clientArgs: string[];
  leader(): Promise<Member>;
  /** Raft's term, to see elections. */
  term(): Promise<number>;
  /** Ends all of it, by process id. */
  close(): Promise<void>;
}

/** Ticks in one election time-out, on roost's side. */
const ELECTION_TICKS = 10;

/** Two ports beside each other that nobody listens on. */
export async function freePorts(): Promise<number> {
  for (;;) {
    const port = 20_000 + 2 * Math.floor(Math.random() * 5_000);
    if ((await isFree(port)) && (await isFree(port + 1))) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

function start(command: readonly string[], logPath: string, env: Record<string, string>): ChildProcess {
  const log = openSync(logPath, "a");
  const [program = "", ...args] = command;
  return spawn(program, args, { stdio: ["ignore", log, log], env: { ...process.env, ...env } });
}

/** Kills and waits for the end. */
async function end(child: ChildProcess, signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  child.kill(signal);
  await ended;
}

/** As Go's flag package reads them. */
export function flags(values: Record<string, string | number | boolean>): string[] {
  return Object.entries(values).map(([name, value]) => `--${name}=${value}`);
}

function writeTls(folder: string, ca: string, cert: string, key: string): { ca: string; cert: string; key: string } {
  mkdirSync(folder, { recursive: true });
  const paths = { ca: join(folder, "ca.pem"), cert: join(folder, "cert.pem"), key: join(folder, "key.pem") };
  writeFileSync(paths.ca, ca);
  writeFileSync(paths.cert, cert);
  writeFileSync(paths.key, key, { mode: 0o600 });
  return paths;
}

async function etcdTls(folder: string): Promise<{ ca: string; cert: string; key: string }> {
  const nowMs = Date.now();
  const ca: Ca = await createCa({ clusterId: "etcd", nowMs, serial: newSecret(16) });
  const { keyPem, requestPem } = await createKeyAndRequest();
  const leaf = await issue(ca, requestPem, {
    subject: { kind: "node", nodeId: "00000000-0000-4000-8000-000000000001" },
    names: ["127.0.0.1", "localhost"],
    nowMs,
    ttlMs: DAY_MS,
    serial: newSecret(16),
  });
  return writeTls(folder, ca.certificatePem, chainOf(leaf, ca.certificatePem), keyPem);
}

export async function startEtcd(root: string, timing: Timing): Promise<Members> {
  const tls = await etcdTls(join(root, "etcd-tls"));
  const places: { name: string; client: string; peer: string }[] = [];
  for (let i = 1; i <= 3; i++) {
    const port = await freePorts();
    places.push({ name: `m${i}`, client: `127.0.0.1:${port}`, peer: `127.0.0.1:${port + 1}` });
  }
  const initial = places.map(({ name, peer }) => `${name}=https://${peer}`).join(",");
  const children = new Map<string, ChildProcess>();
  const launch = (place: (typeof places)[number], state: "new" | "existing"): void => {
    const words = flags({
      name: place.name,
      "data-dir": join(root, `etcd-${place.name}`),
      "listen-client-urls": `https://${place.client}`,
      "advertise-client-urls": `https://${place.client}`,
      "listen-peer-urls": `https://${place.peer}`,
      "initial-advertise-peer-urls": `https://${place.peer}`,
      "initial-cluster": initial,
      "initial-cluster-state": state,
      "heartbeat-interval": timing.heartbeatMs,
      "election-timeout": timing.electionMs,
      "cert-file": tls.cert,
      "key-file": tls.key,
      "trusted-ca-file": tls.ca,
      "client-cert-auth": true,
      "peer-cert-file": tls.cert,
      "peer-key-file": tls.key,
      "peer-trusted-ca-file": tls.ca,
      "peer-client-cert-auth": true,
      // Off by default in 3.4; on, it is what roost does.
      "pre-vote": true,
      "quota-backend-bytes": 8 * 2 ** 30,
    });
    children.set(place.name, start(["etcd", ...words], join(root, `etcd-${place.name}.log`), {}));
  };
  for (const place of places) launch(place, "new");
  const ctl = async (words: string[], endpoints = places.map(({ client }) => `https://${client}`)): Promise<string> => {
    const access = ["--endpoints", endpoints.join(","), "--cacert", tls.ca, "--cert", tls.cert, "--key", tls.key];
    return (await run("etcdctl", [...access, ...words], { env: { ...process.env, ETCDCTL_API: "3" }, timeout: 15_000 })).stdout;
  };
  const status = async (): Promise<{ name: string; leads: boolean; term: number }[]> => {
    const rows = [];
    for (const { name, client } of places) {
      const text = await ctl(["endpoint", "status", "-w", "json"], [`https://${client}`]).catch(() => "[]");
      for (const { Status } of JSON.parse(text) as { Status: { header: { member_id: number }; leader: number; raftTerm: number } }[]) {
        rows.push({ name, leads: Status.leader !== 0 && Status.header.member_id === Status.leader, term: Status.raftTerm });
      }
    }
    return rows;
  };
  const members: Member[] = places.map((place) => ({
    name: place.name,
    target: place.client,
    pid: () => children.get(place.name)?.pid ?? 0,
    pids: () => [children.get(place.name)?.pid ?? 0],
    async restart() {
      const old = children.get(place.name);
      if (old !== undefined) await end(old);
      launch(place, "existing");
      await waitFor(
        `${place.name} of etcd`,
        async () => (await ctl(["endpoint", "health"], [`https://${place.client}`])) !== "x",
        START_MS,
      );
    },
  }));
  const leader = (): Promise<Member> =>
    waitFor(
      "a leader of etcd",
      async () => {
        const name = (await status()).find(({ leads }) => leads)?.name;
        return members.find((member) => member.name === name) ?? null;
      },
      START_MS,
    );
  await leader();
  return {
    kind: "etcd",
    members,
    clientArgs: flags({ kind: "etcd", ...tls, "server-name": "127.0.0.1" }),
    leader,
    term: async () => Math.max(...(await status()).map(({ term }) => term)),
    close: async () => void (await Promise.all([...children.values()].map((child) => end(child)))),
  };
}

export interface RoostMembers extends Members {
  roost(words: readonly string[]): Promise<string>;
  /** Lets one more node in; resolves when it is ready. */
  join(): Promise<Member>;
}

/** @param nodeFlags for Node where the sources are run, `--cpu-prof` for example. */
export async function startRoost(
  root: string,
  timing: Timing,
  options: { members?: number; nodeFlags?: string[] } = {},
): Promise<RoostMembers> {
  const children = new Map<string, ChildProcess>();
  const members: Member[] = [];
  const folder = (name: string): string => join(root, `roost-${name}`);
  const env = (name: string): Record<string, string> => ({ ROOST_SOCKET: join(folder(name), "roost.sock") });
  const launch = (name: string, words: readonly string[]): void => {
    const [program = "", ...before] = roostCommand();
    const options_ = ["--data", folder(name), "--driver", "simulated", "--guardian", "none", "--memory", "4096", "--foreground"];
    const tick = ["--raft-tick-ms", String(Math.round(timing.electionMs / ELECTION_TICKS))];
    children.set(
      name,
      start([program, ...(options.nodeFlags ?? []), ...before, ...words, ...options_, ...tick], join(root, `roost-${name}.log`), {}),
    );
  };
  const roostOn = async (name: string, words: readonly string[]): Promise<string> => {
    const [program = "", ...before] = roostCommand();
    return (await run(program, [...before, ...words], { env: { ...process.env, ...env(name) }, timeout: 30_000, maxBuffer: 2 ** 26 }))
      .stdout;
  };
  const alive = (): string =>
    members.find(({ name }) => children.get(name)?.exitCode === null && children.get(name)?.signalCode === null)?.name ?? "";
  const ready = (name: string): Promise<unknown> =>
    waitFor(
      `${name} of roost (its log: ${join(root, `roost-${name}.log`)})`,
      async () => {
        const rows = JSON.parse(await roostOn(name, ["node", "list", "-o", "json"]).catch(() => "[]")) as { name: string; state: string }[];
        return rows.some((row) => row.name === name && row.state === "ready");
      },
      START_MS,
      { everyMs: 200 },
    );
  const add = async (token: string | null): Promise<Member> => {
    const name = `n${members.length + 1}`;
    const target = `127.0.0.1:${await freePorts()}`;
    mkdirSync(folder(name), { recursive: true });
    launch(name, [...(token === null ? ["up"] : ["join", token]), "--name", name, "--listen", target]);
    const member: Member = {
      name,
      target,
      pid: () => children.get(name)?.pid ?? 0,
      pids: () => [children.get(name)?.pid ?? 0, ...keepersOf(folder(name))],
      async restart() {
        const old = children.get(name);
        if (old !== undefined) await end(old);
        launch(name, ["up"]);
        await ready(name);
      },
    };
    members.push(member);
    await ready(name);
    return member;
  };
  const join_ = async (): Promise<Member> => await add((await roostOn("n1", ["token", "create"])).trim());
  const cluster = async (): Promise<{ leader: string | null; term: number; voters: number }> =>
    JSON.parse(await roostOn(alive(), ["cluster", "show", "-o", "json"])) as { leader: string | null; term: number; voters: number };

  await add(null);
  const count = options.members ?? 3;
  for (let i = 2; i <= count; i++) await join_();
  await waitFor("voters", async () => (await cluster()).voters === (count >= 5 ? 5 : count >= 3 ? 3 : 1), START_MS);
  await roostOn("n1", ["settings", "set", "bench.enabled", "true"]);
  const { ca, cert, key } = parse(await roostOn("n1", ["context", "issue"])) as { ca: string; cert: string; key: string };
  const tls = writeTls(join(root, "roost-tls"), ca, cert, key);
  return {
    kind: "roost",
    members,
    clientArgs: flags({ kind: "roost", ...tls, "server-name": "roost" }),
    leader: () =>
      waitFor(
        "a leader of roost",
        async () => {
          const { leader } = await cluster();
          return members.find(({ name }) => name === leader) ?? null;
        },
        START_MS,
      ),
    term: async () => (await cluster()).term,
    roost: (words) => roostOn(alive(), words),
    join: join_,
    async close() {
      const keepers = members.flatMap(({ name }) => keepersOf(folder(name)));
      // A profile is written at a proper end.
      await Promise.all([...children.values()].map((child) => end(child, options.nodeFlags === undefined ? "SIGKILL" : "SIGTERM")));
      for (const pid of keepers) process.kill(pid, "SIGKILL");
    },
  };
}

/** Keepers outlive their agents: they are found by the data folder in their command line. */
function keepersOf(dataDir: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
        return words.includes("keeper") && words.includes(dataDir);
      } catch {
        return false; // ended meanwhile
      }
    })
    .map(Number);
}
