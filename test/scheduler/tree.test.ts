// The tournament trees must give exactly the scan's answer, whatever happens in between.
import t from "tap";
import { seededRandom } from "../../src/base/random.ts";
import { arenaOf, mark, rewind, shift } from "../../src/scheduler/arena.ts";
import type { Item } from "../../src/scheduler/items.ts";
import type { Arena, ArenaMark } from "../../src/scheduler/arena.ts";
import { pick, roomFor, tieBefore } from "../../src/scheduler/pick.ts";
import { scoreRunning, scoreStopped } from "../../src/scheduler/scorers.ts";
import type { Scorer } from "../../src/scheduler/scorers.ts";
import { survey } from "../../src/scheduler/survey.ts";
import type { Survey } from "../../src/scheduler/survey.ts";
import { pickerFor } from "../../src/scheduler/tree.ts";
import { testNode, testView, testVm } from "../support/world.ts";

const seed = Number(process.env["ROOST_SEED"] ?? 77);
t.comment(`seed ${seed}`);

/** The same without any short cut. */
function surveyBySorting(arena: Arena, item: Item, score: Scorer): Survey {
  const { memory, cpus } = item;
  const eligible = [...item.class.eligible];
  const open = eligible.filter((i) => roomFor(arena, i, memory, cpus));
  const top = open
    .map((node) => ({ node, tier: 0, score: score(arena, node, memory, cpus) }))
    .toSorted((a, b) => a.score - b.score || (tieBefore(arena, item.tie, a.node, b.node) ? -1 : 1))
    .slice(0, 5);
  const small = eligible.filter((i) => !roomFor(arena, i, memory, 0)).length;
  return { top, refused: { memory: small, cpus: eligible.length - open.length - small, pinning: 0, "vm-policy": 0 } };
}

for (const nodes of [193, 256, 1000]) {
  t.test(`${nodes} nodes`, async (t) => {
    const random = seededRandom(seed + nodes);
    // Few sizes, so that equal scores are common and the ties are tested.
    const view = testView(
      Array.from({ length: nodes }, (_, i) => testNode(`node-${i}`, { memoryMib: 1024 * (1 + random.below(2)), cpus: 8 })),
      [],
      [],
      { "scheduler.cpuRatio": 2 },
    );
    const arena = arenaOf(view);
    // Two nodes of one hash: the order of ids decides.
    arena.hash[7] = arena.hash[3]!;
    arena.totalCpus = 5000;
    const even = Int32Array.from(arena.nodes.keys()).filter((i) => i % 2 === 0);
    const classes = [Int32Array.from(arena.nodes.keys()), even, new Int32Array(0)].map((eligible, id) => ({
      id,
      eligible,
      tiers: null,
      refused: new Map(),
    }));
    const sizes = Array.from({ length: 45 }, (_, size) => ({
      size,
      class: classes[random.below(20) === 0 ? 2 : random.below(2)]!,
      memory: 64 * (1 + random.below(8)),
      cpus: 1 + random.below(3),
    }));
    const vm = testVm("v", {});
    const picker = pickerFor(arena);
    const held: { i: number; memory: number; cpus: number }[] = [];
    let start: { mark: ArenaMark; held: typeof held } | null = null;
    for (let step = 0; step < 6_000; step++) {
      // Bursts over few classes, then over more of them than there may be trees.
      const size = sizes[random.below(step % 2_000 < 1_000 ? 5 : sizes.length)]!;
      const item: Item = { ...size, vm, tie: random.below(2 ** 32), rank: 0, overlay: null, pinning: null, score: null };
      const score = [scoreStopped, scoreRunning][random.below(step < 3_000 ? 1 : 2)]!;
      // Another function with the same answers, so that neither the tree nor the loop written out for the formula is asked.
      const expected = pick(arena, item, (...args) => score(...args));
      if (pick(arena, item, score) !== expected) t.fail(`step ${step}: the loop for the formula`);
      if (!t.equal(picker(item, score), expected, `step ${step}`)) return;
      if (step % 40 === 0)
        t.same(survey(arena, item, score, 5), surveyBySorting(arena, item, score), `step ${step}: what the decision saw`);
      if (expected !== -1) {
        shift(arena, expected, item.memory, item.cpus, 1);
        held.push({ i: expected, memory: item.memory, cpus: item.cpus });
      }
      if (held.length > nodes * 2 || (expected === -1 && held.length > 0)) {
        const [gone] = held.splice(random.below(held.length), 1);
        shift(arena, gone!.i, gone!.memory, gone!.cpus, -1);
      }
      if (step % 1_500 === 700) start = { mark: mark(arena), held: [...held] };
      if (step % 1_500 === 1_400) {
        rewind(arena, start!.mark);
        held.splice(0, held.length, ...start!.held);
      }
    }
  });
}
