/** The fence agent of the tests (test/fencing/fixtures/fence_fake) in a folder of its own, and what it switches. */
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface FakeAgent {
  /** Has the program. */
  folder: string;
  /** The option `plug`. */
  plug: string;
  set(power: "on" | "off", fault: string | null): void;
  power(): "on" | "off";
  /** Actions it was asked for. */
  asked(): string[];
  remove(): void;
}

export function fakeAgent(): FakeAgent {
  const folder = mkdtempSync(join(tmpdir(), "roost-fence-"));
  const plug = join(folder, "plug");
  mkdirSync(plug);
  const program = join(folder, "fence_fake");
  copyFileSync(join(import.meta.dirname, "..", "fencing", "fixtures", "fence_fake"), program);
  chmodSync(program, 0o755);
  const set: FakeAgent["set"] = (power, fault) => {
    writeFileSync(join(plug, "power"), `${power}\n`);
    writeFileSync(join(plug, "fault"), fault ?? "");
  };
  set("on", null);
  writeFileSync(join(plug, "asked"), "");
  return {
    folder,
    plug,
    set,
    power: () => (readFileSync(join(plug, "power"), "utf8").trim() === "off" ? "off" : "on"),
    asked: () => readFileSync(join(plug, "asked"), "utf8").split("\n").filter(Boolean),
    remove: () => rmSync(folder, { recursive: true }),
  };
}
