/** The judge of guests' marks: good records pass, and an overlap of a single mark is found. */
import t from "tap";
import { emptyMarkerDisk, markerGuestDisk } from "../../scripts/guest/marker.ts";
import { judgeRuns, readSerialRuns, type SerialRun } from "./runs.ts";

interface Made {
  area: number;
  nonce: number;
  lastN: number;
  /** Area → last mark at this one's start. */
  found: Record<number, number>;
  /** Nonce in its head, if another run wrote over it. */
  headNonce?: number;
}

function diskOf(...runs: Made[]): Uint8Array {
  const disk = Buffer.from(emptyMarkerDisk());
  for (const { area, nonce, lastN, found, headNonce } of runs) {
    const birth = (128 + area) * 512;
    disk.write("RBRN", birth);
    disk.writeUInt32LE(nonce, birth + 4);
    for (const [other, n] of Object.entries(found)) disk.writeUInt32LE(n, birth + 8 + Number(other) * 4);
    const head = (8 + area) * 512;
    disk.write("RMRK", head);
    disk.writeUInt32LE(headNonce ?? nonce, head + 4);
    disk.writeUInt32LE(lastN, head + 8);
  }
  return disk;
}

const serialOf = (node: string, area: number, nonce: number, lastN: number): SerialRun => ({
  node,
  area,
  nonce,
  lastN,
  marks: lastN,
  faults: [],
});

await t.test("one after the other is no overlap", async (t) => {
  const disk = diskOf(
    { area: 0, nonce: 10, lastN: 7, found: {} },
    { area: 1, nonce: 11, lastN: 1, found: { 0: 7 } },
    { area: 2, nonce: 12, lastN: 9, found: { 0: 7, 1: 1 } },
    // Killed before its first mark.
    { area: 3, nonce: 13, lastN: 0, found: { 0: 7, 1: 1, 2: 9 } },
    { area: 4, nonce: 14, lastN: 3, found: { 0: 7, 1: 1, 2: 9 } },
  );
  // The last line of a run may be lost on the way to the log.
  const serial = [serialOf("n1", 0, 10, 6), serialOf("n2", 1, 11, 1), serialOf("n1", 2, 12, 9)];
  t.same(judgeRuns(disk, serial), { runs: 5, marks: 20, overlaps: [], unclear: [] });
});

await t.test("one mark too many is an overlap", async (t) => {
  // Run 11 found run 10 at 7 when it began, and run 10 came to 8.
  const disk = diskOf({ area: 0, nonce: 10, lastN: 8, found: {} }, { area: 1, nonce: 11, lastN: 5, found: { 0: 7 } });
  t.match(judgeRuns(disk, [serialOf("n1", 0, 10, 8)]).overlaps, [
    /0000000a \(on n1, 8 marks\) and 0000000b \(in no serial log.*1 marks or more/,
  ]);
  t.equal(judgeRuns(disk, []).overlaps.length, 1, "the disk alone tells");
});

await t.test("two that began at the same moment are an overlap", async (t) => {
  const apart = diskOf({ area: 0, nonce: 10, lastN: 4, found: {} }, { area: 1, nonce: 11, lastN: 9, found: {} });
  t.match(judgeRuns(apart, []).overlaps, [/4 marks or more/]);
  const inOne = diskOf({ area: 0, nonce: 10, lastN: 4, found: {}, headNonce: 11 });
  t.match(judgeRuns(inOne, []).overlaps, [/area 0 was taken by runs 0000000a and 0000000b/]);
  const written = diskOf({ area: 0, nonce: 10, lastN: 4, found: {} });
  t.match(judgeRuns(written, [serialOf("n1", 0, 10, 4), serialOf("n2", 0, 11, 4)]).overlaps, [
    /0000000b on n2 and run 0000000a took one area/,
  ]);
});

await t.test("an overlap that only the serial log still knows is found", async (t) => {
  // Its last mark is lost on the disk, printed all the same.
  const disk = diskOf({ area: 0, nonce: 10, lastN: 7, found: {} }, { area: 1, nonce: 11, lastN: 5, found: { 0: 7 } });
  const verdict = judgeRuns(disk, [serialOf("n1", 0, 10, 8)]);
  t.equal(verdict.overlaps.length, 1);
  t.match(verdict.unclear, [/mark 8 is in the serial log, the marker disk has 7/]);
});

await t.test("what is missing is not passed over", async (t) => {
  const disk = diskOf({ area: 0, nonce: 10, lastN: 7, found: {} });
  t.match(judgeRuns(disk, [serialOf("n2", 1, 11, 3)]).unclear, [/0000000b on n2 is in the serial log and not on the marker disk/]);
  const lost = Buffer.from(disk);
  lost.fill(0, 128 * 512, 129 * 512);
  t.match(judgeRuns(lost, []).unclear, [/area 0 has marks of a run whose beginning/]);
  const failing = readSerialRuns(
    "n1",
    "RUN begin name=a area=00 nonce=0000000a\r\nRUN mark area=00 nonce=0000000a n=00000007 tick=00000001 disk-error\r\n",
  );
  t.match(judgeRuns(disk, failing).unclear, [/disk-error/]);
});

await t.test("serial logs are read by whole lines, run by run", async (t) => {
  const text = [
    "SeaBIOS\r",
    "RUN begin name=a area=00 nonce=0000000a\r",
    "RUN mark area=00 nonce=0000000a n=00000001 tick=00000000\r",
    "RUN mark area=00 nonce=0000000a n=0000001f ti\r",
    "RUN begin name=a area=03 nonce=0000000c\r",
    "RUN mark area=03 nonce=0000000c n=00000002 tick=00000000\r",
    "RUN collision area=03 nonce=0000000d\r",
    "RUN mark area=03 nonce=0000000c n=0000",
  ].join("\n");
  t.same(readSerialRuns("n1", text), [
    { node: "n1", area: 0, nonce: 10, lastN: 1, marks: 1, faults: [] },
    { node: "n1", area: 3, nonce: 12, lastN: 2, marks: 1, faults: ["collision with run 0000000d in area 3"] },
  ]);
});

await t.test("the guest's disk has its name", async (t) => {
  const disk = Buffer.from(markerGuestDisk("vm-1"));
  t.equal(disk.readUInt16LE(510), 0xaa55);
  t.ok(disk.subarray(478, 510).includes("vm-1\0"));
  t.throws(() => markerGuestDisk("x".repeat(32)), /31 printable/);
});
