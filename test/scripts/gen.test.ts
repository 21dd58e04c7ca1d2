import t from "tap";
import { join } from "node:path";
import { compareFolders, generate } from "../../scripts/gen.ts";

t.test("differences between what is generated and what is there are named", (t) => {
  const folder = t.testdir({
    fresh: { "a.ts": "1", sub: { "b.ts": "2", "c.ts": "3" } },
    there: { "a.ts": "1", sub: { "b.ts": "old" }, "gone.ts": "4" },
  });
  const at = (name: string): string => join(folder, name);
  t.same(compareFolders(at("fresh"), at("there")), ["sub/c.ts is missing", "gone.ts is not generated any more", "sub/b.ts is out of date"]);
  t.same(compareFolders(at("fresh"), at("fresh")), []);
  t.equal(compareFolders(at("fresh"), at("nowhere")).length, 3);
  t.end();
});

t.test("generating twice gives the same", (t) => {
  const folder = t.testdir({ one: {}, two: {} });
  generate(join(folder, "one"));
  generate(join(folder, "two"));
  t.same(compareFolders(join(folder, "one"), join(folder, "two")), []);
  t.end();
});
