/** Names of volumes, and the references to them that users write. The first wall of SEC-4; the second is `realpath` in the driver. */
import { invalid } from "../base/errors.ts";

// No leading dot: keeps `.`, `..` and the pool's own files (marker, unfinished copies) out of reach. No colon or comma:
// QEMU reads them as protocols and options.
const SEGMENT = /^[A-Za-z0-9_][A-Za-z0-9._+@=-]{0,199}$/;
const MAX_DEPTH = 4;

/** Throws `invalid` on `name` if it is not a relative path of plain segments, `alpine.qcow2` or `images/alpine.qcow2`. */
export function checkFileName(name: string): void {
  const segments = name.split("/");
  if (segments.length > MAX_DEPTH || !segments.every((segment) => SEGMENT.test(segment))) {
    throw invalid(
      "name",
      `${JSON.stringify(name)} is no name of a file in a pool`,
      `use letters, digits and . _ + @ = -, none beginning with a dot, and at most ${MAX_DEPTH - 1} folders: images/alpine.qcow2`,
    );
  }
}

/** Names of volumes that roost makes lie flat in the pool. Throws `invalid`. */
export function checkVolumeName(name: string): void {
  checkFileName(name);
  if (name.includes("/")) throw invalid("name", `${JSON.stringify(name)}: volumes are made at the top of a pool, not in a folder`);
}

/** `POOL/FILE` in its parts. Throws `invalid` on `name`. */
export function parseVolumeReference(reference: string): { pool: string; file: string } {
  const slash = reference.indexOf("/");
  if (slash <= 0 || slash === reference.length - 1) {
    throw invalid("name", `${JSON.stringify(reference)} is no volume reference`, "write POOL/FILE: default/alpine.qcow2");
  }
  const file = reference.slice(slash + 1);
  checkFileName(file);
  return { pool: reference.slice(0, slash), file };
}
