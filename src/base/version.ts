import { readFileSync } from "node:fs";

// Replaced by text at build time (scripts/bundle.ts); absent when the sources run as they are.
declare const __ROOST_VERSION__: string | undefined;
declare const __ROOST_COMMIT__: string | undefined;

/** The release this is, `0.1.0`. */
export const VERSION: string = typeof __ROOST_VERSION__ === "undefined" ? packageVersion() : __ROOST_VERSION__;

/** Short commit the binary was built from, with `-dirty` when the checkout had changes; `source` outside the binary. */
export const COMMIT: string = typeof __ROOST_COMMIT__ === "undefined" ? "source" : __ROOST_COMMIT__;

/** True inside dist/roost, false when Node runs the sources. */
export const IS_BINARY: boolean = typeof __ROOST_VERSION__ !== "undefined";

/** What `roost --version` prints: `roost 0.1.0 (commit abcdef0) node v24.21.0`. */
export function versionLine(): string {
  return `roost ${VERSION} (commit ${COMMIT}) node ${process.version}`;
}

function packageVersion(): string {
  const parsed: unknown = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  return typeof parsed === "object" && parsed !== null && "version" in parsed ? String(parsed.version) : "0.0.0";
}
