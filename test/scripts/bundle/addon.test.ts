import { createHash } from "node:crypto";
import { chmodSync, existsSync, lstatSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { addonError, addonFolder, extractAddon } from "../../../scripts/bundle/addon.ts";

const CONTENT = new TextEncoder().encode("not really an addon");
const HASH = createHash("sha256").update(CONTENT).digest("hex");

t.test("an addon is written once, under its content's hash, for its owner alone", (t) => {
  const folder = join(t.testdir(), "data", "addons");
  const path = extractAddon("level.node", CONTENT, folder);
  t.equal(path, join(folder, `level-${HASH}.node`));
  t.equal(lstatSync(folder).mode & 0o777, 0o700);
  t.equal(lstatSync(path).mode & 0o777, 0o500);
  const inode = lstatSync(path).ino;
  t.equal(extractAddon("level.node", CONTENT, folder), path);
  t.equal(lstatSync(path).ino, inode, "the second call uses the first one's file");
  t.same(readdirSync(folder), [`level-${HASH}.node`], "nothing temporary is left");
  t.end();
});

t.test("a file of the right name and size but other content is replaced", (t) => {
  const folder = t.testdir();
  chmodSync(folder, 0o700);
  const path = join(folder, `level-${HASH}.node`);
  writeFileSync(path, "X".repeat(CONTENT.length));
  t.equal(extractAddon("level.node", CONTENT, folder), path);
  t.equal(readFileSync(path, "utf8"), "not really an addon");
  t.end();
});

t.test("a link with the right content behind it is replaced by a file", (t) => {
  const folder = t.testdir({ elsewhere: "not really an addon" });
  chmodSync(folder, 0o700);
  const path = join(folder, `level-${HASH}.node`);
  symlinkSync(join(folder, "elsewhere"), path);
  extractAddon("level.node", CONTENT, folder);
  t.equal(lstatSync(path).isFile(), true);
  t.end();
});

t.test("a folder others may write to, or a link to one, is refused", (t) => {
  const folder = t.testdir({ open: {}, target: {} });
  chmodSync(join(folder, "open"), 0o770);
  t.throws(() => extractAddon("level.node", CONTENT, join(folder, "open")), { message: /mode 0700/ });
  t.same(readdirSync(join(folder, "open")), []);
  chmodSync(join(folder, "target"), 0o700);
  symlinkSync(join(folder, "target"), join(folder, "link"));
  t.throws(() => extractAddon("level.node", CONTENT, join(folder, "link")), { message: /mode 0700/ });
  t.equal(existsSync(join(folder, "target", `level-${HASH}.node`)), false);
  t.end();
});

t.test("addons live in the data folder when it is known", (t) => {
  t.equal(addonFolder({ ROOST_DATA: "/var/lib/roost" }), "/var/lib/roost/addons");
  t.match(addonFolder({}), /roost-addons-\d+$/);
  t.match(addonFolder({ ROOST_DATA: "" }), /roost-addons-\d+$/);
  t.end();
});

t.test("what the linker says on a noexec mount becomes something to do", (t) => {
  const noexec = addonError("/data/x.node", new Error("/data/x.node: failed to map segment from shared object"));
  t.match(noexec.message, /cannot load native code from \/data\/x\.node/);
  t.match(noexec.hint, /noexec/);
  t.equal(addonError("/data/x.node", new Error("invalid ELF header")).hint, undefined);
  t.end();
});
