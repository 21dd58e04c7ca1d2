/**
 * A libvirtd of its own for a test: in its own mount, pid, net, ipc and uts namespaces, with its own configuration and
 * state folders and a bridge `br0`, its socket reachable from outside. Nothing of the machine is changed (the users that
 * libvirt wants exist only in a copy of /etc/passwd inside), and all of it, guests included, dies with the pid namespace:
 * on `stop()`, or when the test's process ends in whatever way.
 */
import { execFileSync, spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Connection } from "../../src/hypervisor/libvirt/connection.ts";

const TOOLS = ["/usr/sbin/libvirtd", "/usr/bin/virsh", "/usr/bin/qemu-system-x86_64", "/usr/bin/unshare", "/usr/bin/nsenter"];
const READY_LIMIT_MS = 30_000;

export class PrivateLibvirtd {
  readonly folder: string;
  readonly socketPath: string;
  private readonly child: ChildProcess;
  private readonly initPid: number;

  constructor(folder: string, child: ChildProcess, initPid: number) {
    this.folder = folder;
    this.socketPath = join(folder, "run/libvirt/libvirt-sock");
    this.child = child;
    this.initPid = initPid;
  }

  /** Runs a program inside; returns what it prints. Throws if it fails. */
  exec(...argv: string[]): string {
    const enter = ["-t", String(this.initPid), "-m", "-u", "-i", "-p", "-n", "--"];
    return execFileSync("/usr/bin/nsenter", [...enter, ...argv], { encoding: "utf8", timeout: 20_000, stdio: ["ignore", "pipe", "pipe"] });
  }

  virsh(...args: string[]): string {
    return this.exec("/usr/bin/virsh", "-q", "-c", "qemu:///system", ...args);
  }

  /** kill -9 of the daemon; guests go on. */
  killDaemon(): void {
    this.exec("/bin/sh", "-c", "kill -9 $(cat /run/libvirtd.pid)");
  }

  /** Freezes (STOP) or thaws (CONT) the daemon: it keeps its sockets and answers nothing. */
  signalDaemon(signal: "STOP" | "CONT"): void {
    this.exec("/bin/sh", "-c", `kill -${signal} $(cat /run/libvirtd.pid)`);
  }

  async startDaemon(): Promise<void> {
    this.exec("/bin/sh", "-c", "/usr/sbin/libvirtd -d -f /etc/libvirt/libvirtd.conf -p /run/libvirtd.pid");
    await this.ready();
  }

  /** Resolves when the daemon answers. */
  async ready(): Promise<void> {
    const deadlineMs = performance.now() + READY_LIMIT_MS;
    for (;;) {
      try {
        const keepalive = { intervalMs: 60_000, count: 1 };
        const connection = await Connection.open(
          { socketPath: this.socketPath, uri: "qemu:///system", callTimeoutMs: 10_000, keepalive },
          10_000,
        );
        return await connection.close();
      } catch (error) {
        if (performance.now() > deadlineMs) throw new Error(`libvirtd is not ready:\n${this.daemonLog()}`, { cause: error });
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }

  daemonLog(): string {
    const path = join(this.folder, "log/libvirtd.log");
    return existsSync(path) ? readFileSync(path, "utf8").slice(-4000) : "(no log)";
  }

  /** Pids, as this process sees them, of QEMUs inside with `text` in their command line. */
  emulators(text: string): number[] {
    const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
    return pids.map(Number).filter((pid) => {
      try {
        const argv = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
        return (argv[0] ?? "").includes("qemu-system") && argv.some((argument) => argument.includes(text));
      } catch {
        return false; // ended while we looked
      }
    });
  }

  async stop(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const ended = new Promise((resolve) => this.child.once("exit", resolve));
      this.child.kill("SIGKILL");
      await ended;
    }
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
  }
}

/** Starts one, ready to answer; or says why that cannot be done here. Two that shall migrate to each other must be different hosts. */
export async function startLibvirtd(host = 1): Promise<PrivateLibvirtd | { skip: string }> {
  if (process.getuid?.() !== 0) return { skip: "not root: no namespaces, no libvirtd" };
  const missing = TOOLS.filter((path) => !existsSync(path));
  if (missing.length > 0) return { skip: `not installed: ${missing.join(", ")}` };
  const folder = mkdtempSync(join(tmpdir(), "roost-libvirtd-"));
  // QEMU's capabilities take libvirtd seconds to find out: kept between runs.
  const cache = join(tmpdir(), "roost-libvirtd-cache");
  for (const name of ["etc", "lib", "log", "run"]) mkdirSync(join(folder, name));
  mkdirSync(cache, { recursive: true });
  writeFileSync(join(folder, "etc/libvirtd.conf"), libvirtdConf(host));
  writeFileSync(join(folder, "etc/qemu.conf"), QEMU_CONF);
  writeFileSync(
    join(folder, "passwd"),
    `${readFileSync("/etc/passwd", "utf8")}libvirt-qemu:x:64055:64056::/var/lib/libvirt:/usr/sbin/nologin\n`,
  );
  writeFileSync(join(folder, "group"), `${readFileSync("/etc/group", "utf8")}kvm:x:64056:\n`);
  writeFileSync(join(folder, "init.sh"), initScript(folder, cache));
  const namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child", "--propagation", "private"];
  const child = spawn("/usr/bin/unshare", [...namespaces, "/bin/sh", join(folder, "init.sh")], { stdio: ["pipe", "pipe", "pipe"] });
  let said = "";
  child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
  await new Promise<void>((resolve, reject) => {
    child.stdout.once("data", () => resolve());
    child.once("exit", (code) => reject(new Error(`the namespaces for libvirtd did not come up (${code}): ${said}`)));
  });
  const initPid = Number(readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8").trim().split(" ")[0]);
  const libvirtd = new PrivateLibvirtd(folder, child, initPid);
  try {
    await libvirtd.ready();
  } catch (error) {
    await libvirtd.stop();
    throw error;
  }
  return libvirtd;
}

/** Its last command reads the pipe from the test's process: at its end the pid namespace ends, and everything in it. */
function initScript(folder: string, cache: string): string {
  return `set -e
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir -p /etc/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt
mount --bind ${folder}/etc /etc/libvirt
mount --bind ${folder}/lib /var/lib/libvirt
mount --bind ${folder}/log /var/log/libvirt
mount --bind ${cache} /var/cache/libvirt
mount --bind ${folder}/run /run
mount --bind ${folder}/passwd /etc/passwd
mount --bind ${folder}/group /etc/group
mkdir -p /run/libvirt /run/lock
ip link set lo up 2>/dev/null || true
ip link add br0 type bridge 2>/dev/null && ip link set br0 up || true
/usr/sbin/libvirtd -d -f /etc/libvirt/libvirtd.conf -p /run/libvirtd.pid
echo up
cat >/dev/null
`;
}

const libvirtdConf = (host: number): string => `auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_group = "root"
host_uuid = "00000000-0000-4000-8000-${String(host).padStart(12, "0")}"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
`;

const QEMU_CONF = `user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
`;
