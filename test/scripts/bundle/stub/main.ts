/** A program for tests of the wheel: what roost needs of its binary, without roost. */
import { once } from "node:events";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Adapter } from "../../../../src/base/rpc-serve.ts";
import { versionLine } from "../../../../src/base/version.ts";

async function grpcServer(): Promise<void> {
  const [{ default: grpc }, { createServer }, { Health, healthDefinition, serveHealth, serveReflection }] = await Promise.all([
    import("@grpc/grpc-js"),
    import("../../../../src/base/rpc-serve.ts"),
    import("../../../../src/api/standard.ts"),
  ]);
  const adapter: Adapter<{ signal: AbortSignal }> = {
    contextOf: ({ signal }) => ({ signal }),
    statusOf: (error) => ({ code: grpc.status.INTERNAL, details: error.message, metadata: new grpc.Metadata() }),
  };
  const server = createServer(adapter);
  const health = new Health();
  health.set("", "SERVING");
  serveHealth(server, health, adapter);
  serveReflection(server);
  const socket = join(await mkdtemp(join(tmpdir(), "roost-stub-")), "s");
  await server.listenUnix(socket);
  const Client = grpc.makeGenericClientConstructor(healthDefinition, "Health");
  const client = new Client(`unix:${socket}`, grpc.credentials.createInsecure());
  const method = healthDefinition["Check"];
  if (method === undefined) throw new Error("the health service has no Check");
  const answer = await new Promise((resolve, reject) => {
    client.makeUnaryRequest(method.path, method.requestSerialize, method.responseDeserialize, { service: "" }, (error, value) =>
      error === null ? resolve(value) : reject(error),
    );
  });
  process.stdout.write(`health ${JSON.stringify(answer)}\n`);
  client.close();
  await server.close(0);
}

async function database(folder: string): Promise<void> {
  process.env["ROOST_DATA"] ??= folder;
  const [{ Level }, { startWorker }] = await Promise.all([import("level"), import("../../../../src/base/worker.ts")]);
  const db = new Level<string, string>(join(folder, "main"));
  await db.put("from", "main");
  process.stdout.write(`level ${await db.get("from")}\n`);
  const worker = startWorker("consensus", join(folder, "worker"), { maxOldGenerationSizeMb: 64 });
  const [message] = await once(worker, "message");
  process.stdout.write(`level ${String(message)}\n`);
  await once(worker, "exit");
  await db.close();
}

async function main(command: string | undefined, folder: string | undefined): Promise<void> {
  if (command === "grpc") await grpcServer();
  else if (command === "level" && folder !== undefined) await database(folder);
  else if (command === "rss") process.stdout.write(`${process.memoryUsage().rss}\n`);
  else process.stdout.write(`${versionLine()}\n`);
}

main(process.argv[2], process.argv[3]).catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
  process.exitCode = 1;
});
