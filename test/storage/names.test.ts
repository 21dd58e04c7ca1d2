import t from "tap";
import { asRoostError, type Fault } from "../../src/base/errors.ts";
import { checkFileName, checkVolumeName, parseVolumeReference } from "../../src/storage/names.ts";

function thrown(work: () => unknown): Fault | null {
  try {
    work();
    return null;
  } catch (error) {
    return asRoostError(error).fault;
  }
}

for (const good of ["a", "alpine.qcow2", "images/debian/12/vmlinuz-6.1.0+deb", "vm-1_x@y=z.raw", "x".repeat(200)]) {
  t.equal(
    thrown(() => checkFileName(good)),
    null,
    good,
  );
}
for (const bad of [
  "",
  ".",
  "..",
  "a/..",
  "../a",
  "/a",
  "a/",
  "a//b",
  ".a",
  "a/.b",
  "-a",
  "a b",
  "a:b",
  "a,b",
  "a\\b",
  "a\nb",
  "a\0",
  "a\n",
  "a/b/c/d/e",
  "x".repeat(201),
]) {
  t.match(
    thrown(() => checkFileName(bad)),
    { kind: "invalid", violations: [{ field: "name" }] },
    JSON.stringify(bad),
  );
}
t.match(
  thrown(() => checkVolumeName("a/b")),
  { kind: "invalid" },
);

t.same(parseVolumeReference("default/a.raw"), { pool: "default", file: "a.raw" });
t.same(parseVolumeReference("default/images/a.raw"), { pool: "default", file: "images/a.raw" });
for (const bad of ["", "a", "/a", "a/", "p/../x", "p//x", "p/.roost-pool"]) {
  t.match(
    thrown(() => parseVolumeReference(bad)),
    { kind: "invalid" },
    JSON.stringify(bad),
  );
}
