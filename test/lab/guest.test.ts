/** The guests' files, without starting any. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { bootSector, diskCounter } from "../../scripts/guest/boot-sector.ts";
import { markerGuestDisk } from "../../scripts/guest/marker.ts";
import { cpioArchive } from "../../scripts/guest/cpio.ts";
import { tryRun } from "../../scripts/lab/run.ts";
import { lastRunMarks } from "../../scripts/guest/serial.ts";

const SOURCES = join(import.meta.dirname, "..", "..", "scripts", "guest");
const has = async (tool: string): Promise<boolean> => (await tryRun(["sh", "-c", `command -v ${tool}`])).code === 0;

function folder(t: { teardown(fn: () => void): void }): string {
  const path = mkdtempSync(join(tmpdir(), "roost-guest-test-"));
  t.teardown(() => rmSync(path, { recursive: true }));
  return path;
}

await t.test(
  "the guests of a few sectors are what their sources say",
  { skip: (await has("as")) && (await has("ld")) ? false : "no binutils here" },
  async (t) => {
    const dir = folder(t);
    const assembled = (source: string): string => {
      execFileSync("as", ["--32", "-o", join(dir, "b.o"), join(SOURCES, source)]);
      execFileSync("ld", ["-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", "-o", join(dir, "b.bin"), join(dir, "b.o")]);
      return readFileSync(join(dir, "b.bin")).toString("hex");
    };
    t.same(Buffer.from(bootSector("-")).toString("hex"), assembled("boot-sector.S"));
    const marker = assembled("marker.S");
    t.same(Buffer.from(markerGuestDisk("-")).toString("hex").slice(0, marker.length), marker);
  },
);

await t.test("a boot sector's name is patched in, and its counter read back", async (t) => {
  const sector = Buffer.from(bootSector("vm-1"));
  t.equal(sector.length, 512);
  t.equal(sector.readUInt16LE(510), 0xaa55);
  t.ok(sector.includes("vm-1\0"));
  t.throws(() => bootSector("x".repeat(32)), /31 printable/);
  t.throws(() => bootSector("a b"), /printable/);
  const disk = Buffer.alloc(1024);
  t.equal(diskCounter(disk), null);
  disk.write("RGST", 512);
  disk.writeUInt32LE(77, 516);
  t.equal(diskCounter(disk), 77);
});

await t.test("the archive is one that cpio reads", { skip: (await has("busybox")) ? false : "no busybox here" }, async (t) => {
  const dir = folder(t);
  const archive = cpioArchive([
    { path: "d", kind: "folder" },
    { path: "d/odd", kind: "file", mode: 0o640, content: "12345" },
    { path: "d/link", kind: "link", content: "odd" },
  ]);
  t.equal(archive.length % 4, 0);
  writeFileSync(join(dir, "a.cpio"), archive);
  execFileSync("busybox", ["cpio", "-i", "-F", "a.cpio"], { cwd: dir, stdio: "ignore" });
  t.equal(readFileSync(join(dir, "d", "link"), "utf8"), "12345");
  t.match(execFileSync("ls", ["-l", join(dir, "d", "odd")], { encoding: "utf8" }), /^-rw-r-----/);
});

await t.test("only whole marks of the last run count", async (t) => {
  const serial = [
    "ROOST-GUEST ready name=a generation=1 up=1.00 disk=none kernel=k",
    "ROOST-GUEST mark name=a generation=1 n=1 up=1.01 time=5.000",
    "ROOST-GUEST ready name=a generation=2 up=1.10 disk=1,a,1 kernel=k",
    "ROOST-GUEST mark name=a generation=2 n=2 up=1.20 time=9.000\r",
    "ROOST-GUEST mark name=a generation=2 n=3 up=1.40 ti",
  ].join("\n");
  t.same(lastRunMarks(serial), [{ name: "a", generation: "2", n: 2, upS: 1.2 }]);
  t.same(lastRunMarks(""), []);
});
