/** roost context …: who calls which cluster from elsewhere. */
import type { Command } from "commander";
import { invalid, RoostError } from "../../base/errors.ts";
import { parseDuration } from "../../base/units.ts";
import { contextsDir, contextText, currentContext, readContext } from "../context.ts";
import type { Io } from "../io.ts";
import { parseFormat, printList } from "../output.ts";
import type { GlobalOptions } from "../session.ts";
import { withSession } from "../session.ts";

export function addContextCommands(program: Command, io: Io, listDir: (path: string) => Promise<string[]>): void {
  const context = program.command("context").description("clusters and users for this CLI");
  context
    .command("issue")
    .description("mint a certificate of a user and print a context file for it (it holds the key: keep it private)")
    .option("--user <name>", "whom it speaks for", "admin")
    .option("--ttl <duration>", "how long it is good (default one year)")
    .option("--endpoint <host:port...>", "addresses instead of those of all nodes")
    .action((options: { user: string; ttl?: string; endpoint?: string[] }, command: Command) =>
      withSession(io, command, async (session) => {
        const ttl = options.ttl === undefined ? null : parseDuration(options.ttl);
        if (ttl !== null && !ttl.ok) throw invalid("--ttl", `expected ${ttl.expected}`);
        const { createKeyAndRequest } = await import("../../base/key-request.ts");
        const { keyPem, requestPem } = await createKeyAndRequest();
        const cluster = await session.client.call("ClusterService", "GetCluster", {}, session.limits);
        const answer = await session.client.call(
          "ClusterService",
          "IssueCertificate",
          { user: options.user, certificateRequest: requestPem, ttlMs: ttl?.value ?? 0 },
          session.limits,
        );
        io.out(
          await contextText({
            name: cluster.name === "" ? cluster.id : cluster.name,
            endpoints: options.endpoint ?? answer.endpoints,
            ca: answer.caCertificate,
            cert: answer.certificate,
            key: keyPem,
          }),
        );
      }),
    );
  context
    .command("list")
    .alias("ls")
    .description("contexts in the config folder")
    .action(async (_options: object, command: Command) => {
      const current = await currentContext(io);
      const files = (await listDir(contextsDir(io))).filter((file) => file.endsWith(".yaml")).toSorted();
      const rows = await Promise.all(
        files.map(async (file) => {
          const name = file.slice(0, -".yaml".length);
          const { endpoints } = await readContext(io, `${contextsDir(io)}/${file}`);
          return { name, current: name === current, endpoints };
        }),
      );
      await printList(
        io,
        parseFormat(command.optsWithGlobals<GlobalOptions>().output),
        rows,
        [
          { header: "NAME", cell: (row) => row.name },
          { header: "CURRENT", cell: (row) => (row.current ? "*" : "") },
          { header: "ENDPOINTS", cell: (row) => row.endpoints.join(",") },
        ],
        (row) => row,
      );
    });
  context
    .command("use <name>")
    .description("call the cluster of this context from now on; `-` goes back to the local socket")
    .action(async (name: string) => {
      const dir = contextsDir(io);
      if (name !== "-" && !(await listDir(dir)).includes(`${name}.yaml`)) {
        throw new RoostError(
          { kind: "not-found", what: "context", name },
          `put its file at ${dir}/${name}.yaml: roost context issue prints one`,
        );
      }
      await io.writeFile(`${dir}/current`, name === "-" ? "" : `${name}\n`);
      io.out(name === "-" ? "using the local socket\n" : `using ${name}\n`);
    });
}
