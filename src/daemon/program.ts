/** How this program starts itself again, as a daemon or a keeper. */
import { IS_BINARY } from "../base/version.ts";

/** Program and what comes before roost's own words: nothing in the binary, Node's script where the sources run as they are. */
export function ownProgram(): [string, ...string[]] {
  const script = process.argv[1];
  return IS_BINARY || script === undefined ? [process.execPath] : [process.execPath, "--disable-warning=ExperimentalWarning", script];
}
