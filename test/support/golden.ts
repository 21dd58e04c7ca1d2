/** Transcripts of command lines, kept word for word in test/golden/cli. ROOST_GOLDEN=write rewrites them. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Test } from "tap";
import type { CliHost } from "./cli.ts";

const GOLDEN = join(import.meta.dirname, "..", "golden", "cli");

/** A transcript of command lines: `$ words`, standard output, `! ` before each line of standard error, the code if not 0. */
export async function transcript(host: CliHost, lines: (string | string[])[]): Promise<string> {
  let text = "";
  for (const asked of lines) {
    const words = typeof asked === "string" ? asked.split(" ").filter((word) => word !== "") : asked;
    const line = words.map((word) => (word.includes(" ") ? `'${word}'` : word)).join(" ");
    const ran = await host.run(words);
    const err = ran.err === "" ? "" : ran.err.replace(/^/gm, "! ").replace(/! $/, "");
    text += `$ roost ${line}\n${ran.out}${err}${ran.code === 0 ? "" : `[exit ${ran.code}]\n`}\n`;
  }
  return (
    text
      .replaceAll(host.folder, "<dir>")
      .replace(/roost1\.[\w-]+/g, "roost1.<token>")
      // Progress depends on how fast the agents are.
      .replace(/^! \+\d+\.\d+s .*\n/gm, "")
      .replace(/-----BEGIN [A-Z ]+-----[\s\S]*?-----END [A-Z ]+-----/g, "<pem>")
  );
}

export function golden(test: Pick<Test, "equal">, name: string, text: string): void {
  const path = join(GOLDEN, `${name}.txt`);
  if (process.env["ROOST_GOLDEN"] === "write") {
    mkdirSync(GOLDEN, { recursive: true });
    writeFileSync(path, text);
  }
  test.equal(text, existsSync(path) ? readFileSync(path, "utf8") : "(no golden file: ROOST_GOLDEN=write)", name);
}
