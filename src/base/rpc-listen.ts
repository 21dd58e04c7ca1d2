/** A unix socket that only its owner can open, and nobody between its making and its mode. */
import { chmod, mkdtemp, rename, rm, rmdir } from "node:fs/promises";
import { connect, type Server } from "node:net";
import { dirname, join } from "node:path";
import { RoostError } from "./errors.ts";

/**
 * Lets the server listen at `path`. The socket is made in a private folder and moved to its place with mode 0600, so that there
 * is no moment at which others could connect. Returns the way to take it away again.
 */
export async function listenUnix(listener: Server, path: string): Promise<() => Promise<void>> {
  if (await answers(path)) {
    throw new RoostError(
      { kind: "precondition", reason: `another roost daemon serves ${path}` },
      "stop it first (roost down), or use another --data folder",
    );
  }
  const folder = await mkdtemp(join(dirname(path), ".socket-"));
  const born = join(folder, "s");
  await new Promise<void>((resolve, reject) => {
    listener.once("error", (error) =>
      reject(
        new RoostError(
          { kind: "precondition", reason: `cannot listen on ${path}: ${error.message}` },
          "a socket's path may have at most 107 bytes",
        ),
      ),
    );
    listener.listen(born, resolve);
  });
  await chmod(born, 0o600);
  await rename(born, path);
  await rmdir(folder);
  return async () => await rm(path, { force: true });
}

/** True if somebody accepts connections there; a socket left behind by a dead process refuses them. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const done = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(1_000, () => done(true));
    socket.once("connect", () => done(true));
    socket.once("error", () => done(false));
  });
}
