/** Files that appear whole or not at all. */
import { open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { RoostError } from "../base/errors.ts";
import type { NewFile } from "./io.ts";

export async function createFile(path: string): Promise<NewFile> {
  const partial = `${path}.partial`;
  const refused = (thrown: unknown): never => {
    throw new RoostError({ kind: "precondition", reason: `cannot write ${path}: ${(thrown as Error).message}` }, "choose another place", {
      cause: thrown,
    });
  };
  const taken = await open(path, "r").catch(() => null);
  await taken?.close();
  if (taken !== null) throw new RoostError({ kind: "exists", what: "file", name: path }, "choose another name");
  // What an attempt of before left may be readable by others, and would stay so.
  await rm(partial, { force: true }).catch(refused);
  const file = await open(partial, "wx", 0o600).catch(refused);
  return {
    async write(bytes) {
      await file.writeFile(bytes).catch(refused);
    },
    async commit() {
      await file.sync();
      await file.close();
      await rename(partial, path);
      const folder = await open(dirname(path), "r");
      try {
        await folder.sync();
      } finally {
        await folder.close();
      }
    },
    async discard() {
      await file.close();
      await rm(partial, { force: true });
    },
  };
}
