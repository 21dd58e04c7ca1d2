import t from "tap";
import { checkRank, checkRequirements, printFault } from "../../../src/model/expression/check.ts";
import { holds, nodeValue, rankOf } from "../../../src/model/expression/evaluate.ts";
import { parseExpression } from "../../../src/model/expression/parse.ts";
import { testNode } from "../../support/world.ts";

const node = { ...testNode("n1", { cpus: 8, memoryMib: 4096 }), zone: "a", labels: { disk: "ssd", tier: "2", "rack-no": "r7" } };

t.test("requirements on a node with 8 CPUs, 4096 MiB, zone a, labels disk=ssd tier=2 rack-no=r7", async (t) => {
  const rows: [text: string, holds: boolean][] = [
    ["cpus >= 8", true],
    ["cpus > 8", false],
    ["cpus = 8", true],
    ["cpus == 8", true],
    ["cpus != 8", false],
    ["memoryMib / cpus = 512", true],
    ["memoryMib - 96 = 4 * 1000", true],
    ["2 + 3 * 2 = 8", true], // product before sum
    ["(2 + 3) * 2 = 10", true],
    ["10 - 3 - 2 = 5", true], // from the left
    ["-cpus + 10 = 2", true],
    ['label.disk = "ssd"', true],
    ["label.disk = 'ssd'", true],
    ['label.disk = "hdd"', false],
    ['label.rack-no = "r7"', true],
    ["label.tier > 1", true], // a label next to a number counts as one: 2 > 1
    ["label.tier < 10", true], // and not as text, where "2" > "10"
    ["label.disk > 1", false], // ssd is no number
    ['label.gone = "x"', false],
    ['label.gone != "x"', true],
    ['!(label.gone = "x")', true],
    ['zone = "a" & cpus > 4', true],
    ['zone = "b" & cpus > 4', false],
    ['zone = "b" | cpus > 4', true],
    ["false & false | true", true], // and before or
    ["true | false & false", true],
    ["!false && !(true || false)", false],
    ["hardwareAccelerated", true],
    ["hardwareAccelerated = false", false],
    ['name < "n2"', true],
    ['partition = ""', true],
  ];
  for (const [text, expected] of rows) {
    const checked = checkRequirements(text);
    t.equal(checked.ok && holds(checked.expression, (name) => nodeValue(node, name)), expected, text);
  }
});

t.test("rank", async (t) => {
  const load = (name: string): number | string | boolean | null => (name === "freeMemoryMib" ? 1000 : nodeValue(node, name));
  const rows: [text: string, rank: number][] = [
    ["freeMemoryMib - 10 * cpus", 920],
    ["label.tier", 2],
    ["label.tier * 3", 6],
    ["label.gone", 0],
    ["cpus / 0", 0], // never infinite
    ["7", 7],
  ];
  for (const [text, expected] of rows) {
    const checked = checkRank(text);
    t.equal(checked.ok && rankOf(checked.expression, load), expected, text);
  }
});

t.test("mistakes are told with their place", async (t) => {
  const rows: [check: typeof checkRank, text: string, fault: string][] = [
    [checkRequirements, "cpus >", '"cpus >" at 7: a value is missing before the end'],
    [checkRequirements, "cpus 8", '"cpus 8" at 6: 8 is not expected here; & or | between conditions?'],
    [checkRequirements, "(cpus > 8", '"(cpus > 8" at 10: a ) is missing here'],
    [checkRequirements, "cpus > 8 # many", '"cpus > 8 # many" at 10: # means nothing here'],
    [checkRequirements, 'zone = "a', '"zone = \\"a" at 8: the text in quotes has no end'],
    [checkRequirements, "cpu > 8", '"cpu > 8" at 1: nothing is named cpu (did you mean "cpus"?); there are name, zone, partition,'],
    [checkRequirements, "constructor = 1", '"constructor = 1" at 1: nothing is named constructor'],
    [checkRequirements, 'cpus = "many"', '"cpus = \\"many\\"" at 6: = compares a number with a text'],
    [checkRequirements, "label.gpu = true", '"label.gpu = true" at 11: = compares a text with a truth'],
    [checkRequirements, "cpus & true", '"cpus & true" at 1: and goes with conditions, this is a number'],
    [checkRequirements, "true < false", '"true < false" at 6: < needs numbers or texts'],
    [checkRequirements, "!cpus", '"!cpus" at 2: ! goes with a condition, this is a number'],
    [checkRequirements, "cpus + 1", '"cpus + 1" at 1: requirements must be a condition'],
    [checkRequirements, "freeMemoryMib > 1", '"freeMemoryMib > 1" at 1: freeMemoryMib changes with every placement and is for rank only'],
    [checkRank, "cpus > 1", '"cpus > 1" at 1: rank must be a number'],
    [checkRank, "zone * 2", '"zone * 2" at 1: * goes with numbers, this is a text'],
    [checkRank, "", '"" at 1: a value is missing before the end'],
  ];
  for (const [check, text, fault] of rows) {
    const checked = check(text);
    t.match(checked.ok ? "taken" : printFault(text, checked.fault), fault, text);
  }
});

t.test("limits", async (t) => {
  t.match(parseExpression("(".repeat(500)), { ok: false, fault: { message: "nests deeper than 64" } });
  t.match(parseExpression("!".repeat(500)), { ok: false, fault: { message: "nests deeper than 64" } });
  t.match(parseExpression("-".repeat(500)), { ok: false, fault: { message: "nests deeper than 64" } });
  t.match(parseExpression(" ".repeat(2000)), { ok: false, fault: { message: "is longer than 1024 characters" } });
  t.ok(parseExpression(`${"(cpus > 1) & ".repeat(70)}true`.slice(0, 1024)).ok, "wide is not deep");
});
