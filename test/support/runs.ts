/**
 * Did two runs of one VM overlap? Judged from what the guests themselves left (scripts/guest/marker.S): a marker disk that
 * all runs share, and the serial logs of all nodes. No clock is compared: each run wrote down, before its first mark, how far all
 * others had come, so a mark above that was left while both ran. Shares no code with roost.
 */

const SECTOR_BYTES = 512;
const AREAS = 120;
const HEADS_AT = 8;
const BIRTHS_AT = 128;

/** One start of a guest, as the marker disk knows it. */
export interface DiskRun {
  area: number;
  nonce: number;
  /** Its last mark; 0 if it left none. */
  lastN: number;
  /** The last mark of each area's run as this one found it at its start. */
  found: readonly number[];
}

/** One start of a guest, as a node's serial log knows it. */
export interface SerialRun {
  node: string;
  area: number;
  nonce: number;
  lastN: number;
  /** Whole marks. */
  marks: number;
  /** What it complained of: a collision, an error of the marker disk. */
  faults: string[];
}

export interface Verdict {
  /** Starts of the guest. */
  runs: number;
  marks: number;
  /** Each in words; empty is what it is all about. */
  overlaps: string[];
  /** What could not be judged, in words: with any of these the absence of overlaps proves nothing. */
  unclear: string[];
}

/** The runs on a marker disk, and what on it contradicts itself. */
export function readMarkerDisk(bytes: Uint8Array): { runs: DiskRun[]; overlaps: string[]; unclear: string[] } {
  const disk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const runs: DiskRun[] = [];
  const overlaps: string[] = [];
  const unclear: string[] = [];
  for (let area = 0; area < AREAS; area++) {
    const head = (HEADS_AT + area) * SECTOR_BYTES;
    const birth = (BIRTHS_AT + area) * SECTOR_BYTES;
    const hasHead = disk.toString("latin1", head, head + 4) === "RMRK";
    const hasBirth = disk.toString("latin1", birth, birth + 4) === "RBRN";
    if (!hasHead && !hasBirth) continue;
    if (!hasBirth) {
      unclear.push(`area ${area} has marks of a run whose beginning is not on the disk`);
      continue;
    }
    const nonce = disk.readUInt32LE(birth + 4);
    const headNonce = hasHead ? disk.readUInt32LE(head + 4) : nonce;
    if (headNonce !== nonce)
      overlaps.push(`area ${area} was taken by runs ${hex(nonce)} and ${hex(headNonce)}: both looked for one before either had marked it`);
    const found = Array.from({ length: AREAS }, (_, i) => disk.readUInt32LE(birth + 8 + i * 4));
    runs.push({ area, nonce, lastN: hasHead ? disk.readUInt32LE(head + 8) : 0, found });
  }
  return { runs, overlaps, unclear };
}

const LINE =
  /^RUN (begin|mark|collision)(?: name=\S+)? area=([0-9a-f]{2}) nonce=([0-9a-f]{8})(?: n=([0-9a-f]{8}) tick=[0-9a-f]{8})?(?: disk-error)?$/;

/** The runs in the serial log of one VM on one node. A line that the guest's end cut short does not count. */
export function readSerialRuns(node: string, text: string): SerialRun[] {
  const runs: SerialRun[] = [];
  let current: SerialRun | undefined;
  for (const line of text.split(/\r?\n/).slice(0, -1)) {
    const [, word, area, nonce, n] = LINE.exec(line) ?? [];
    const id = { area: Number.parseInt(area ?? "", 16), nonce: Number.parseInt(nonce ?? "", 16) };
    if (word === "begin") runs.push((current = { node, ...id, lastN: 0, marks: 0, faults: [] }));
    if (word === "collision") current?.faults.push(`collision with run ${nonce} in area ${id.area}`);
    if (line.endsWith(" disk-error") || line === "RUN full") current?.faults.push(line);
    if (word !== "mark" || n === undefined || current?.nonce !== id.nonce) continue;
    current.lastN = Number.parseInt(n, 16);
    current.marks += 1;
  }
  return runs;
}

/** Judges one VM by its marker disk and its serial logs, which each tell what the other may have lost. */
export function judgeRuns(disk: Uint8Array, serial: readonly SerialRun[]): Verdict {
  const { runs, overlaps, unclear } = readMarkerDisk(disk);
  for (const told of serial) {
    const where = `run ${hex(told.nonce)} on ${told.node}`;
    const run = runs.find((one) => one.area === told.area);
    for (const fault of told.faults) (fault.startsWith("collision") ? overlaps : unclear).push(`${where}: ${fault}`);
    if (run === undefined) unclear.push(`${where} is in the serial log and not on the marker disk`);
    else if (run.nonce !== told.nonce)
      overlaps.push(`${where} and run ${hex(run.nonce)} took one area, ${told.area}: both ran at one time`);
    // On the disk before it is printed: the log knows more only if the disk lost something.
    else if (told.lastN > run.lastN) {
      unclear.push(`${where}: mark ${told.lastN} is in the serial log, the marker disk has ${run.lastN}`);
      run.lastN = told.lastN;
    }
  }
  for (const [i, a] of runs.entries())
    for (const b of runs.slice(i + 1)) {
      const together = Math.min(a.lastN - (b.found[a.area] ?? 0), b.lastN - (a.found[b.area] ?? 0));
      if (together > 0) overlaps.push(`runs ${nodeOf(a, serial)} and ${nodeOf(b, serial)} both ran for ${together} marks or more`);
    }
  const nonces = new Set(runs.map((run) => run.nonce));
  if (nonces.size < runs.length) unclear.push("two runs have one nonce: their serial logs cannot be told apart");
  return { runs: runs.length, marks: runs.reduce((sum, run) => sum + run.lastN, 0), overlaps, unclear };
}

function nodeOf(run: DiskRun, serial: readonly SerialRun[]): string {
  const told = serial.find((one) => one.nonce === run.nonce);
  return `${hex(run.nonce)} (${told === undefined ? "in no serial log" : `on ${told.node}`}, ${run.lastN} marks)`;
}

const hex = (nonce: number): string => nonce.toString(16).padStart(8, "0");
