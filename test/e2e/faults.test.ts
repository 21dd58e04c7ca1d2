/** A few seeded points of the fault matrix on real libvirt; the whole of it on the simulated driver is test/faults. */
import t from "tap";
import { runSamples } from "../../scripts/faults/samples.ts";

// More, or others: npm run faults -- --seed S --samples N
const SEED = Number(process.env["ROOST_SEED"] ?? 4);
const SAMPLES = Number(process.env["ROOST_SAMPLES"] ?? 4);

t.setTimeout(900_000);
t.test("real processes killed in the middle of real tasks", async (t) => {
  t.comment(`seed ${SEED}`);
  const done = await runSamples({ seed: SEED, samples: SAMPLES, tell: (line) => t.comment(line) });
  for (const { text, problem } of done) t.equal(problem, null, text);
  t.equal(done.length, SAMPLES);
});
