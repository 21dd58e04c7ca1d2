/** roost events: what happened, and what happens, each event once even when the node that tells it goes away. */
import type { Command } from "commander";
import { asRoostError, invalid } from "../../base/errors.ts";
import type { Event__Output } from "../../gen/types/roost/v1/Event.ts";
import { paint } from "../io.ts";
import type { Io } from "../io.ts";
import { printValue, timeText } from "../output.ts";
import { eventRow } from "../rows.ts";
import { withSession } from "../session.ts";
import type { Session } from "../session.ts";

const RETRY_MS = 500;
/** A node that has another with the answer is passed over; one that has lost the quorum may get it back. */
const GIVE_UP_MS = 60_000;

export function addEventCommands(program: Command, io: Io): void {
  program
    .command("events")
    .description("what happened, oldest first")
    .option(
      "-f, --follow",
      "go on with what happens until interrupted, whatever --timeout says; cut off, it goes on where it was, at another node if the context names several",
    )
    .option("--from <revision>", "begin with this revision; a script that was cut off goes on with its last revision + 1")
    .action((options: { follow?: boolean; from?: string }, command: Command) =>
      withSession(io, command, async (session) => {
        const from = options.from === undefined ? 0 : Number(options.from);
        if (!Number.isSafeInteger(from) || from < 0) throw invalid("--from", `expected a revision, not ${JSON.stringify(options.from)}`);
        const structured = session.format === "json" || session.format === "yaml";
        // Followed, each line is one object; else the whole is one array, like every list.
        const isLines = session.format === "json" && options.follow === true;
        const rows: object[] = [];
        const tell = (event: Event__Output): void => {
          if (isLines) io.out(`${JSON.stringify(eventRow(event))}\n`);
          else if (structured) rows.push(eventRow(event));
          else io.out(line(io, event));
        };
        if (options.follow === true) await followEvents(session, from, tell);
        else await eventsOnce(session, from, tell);
        if (structured && !isLines) await printValue(io, session.format === "yaml" ? "yaml" : "json", rows);
      }),
    );
}

async function eventsOnce(session: Session, fromRevision: number, tell: (event: Event__Output) => void): Promise<void> {
  const limits = { signal: session.io.signal, timeoutMs: session.limits.timeoutMs };
  for await (const { event } of session.client.watch("ClusterService", "WatchEvents", { fromRevision, noFollow: true }, limits)) {
    if (event !== null) tell(event);
  }
}

/** Until interrupted. Cut off, it goes on after the last bookmark, and leaves out what it has told already. */
async function followEvents(session: Session, fromRevision: number, tell: (event: Event__Output) => void): Promise<void> {
  const { io } = session;
  let next = fromRevision;
  let told = { revision: -1, position: -1 };
  let cutMs: number | null = null;
  while (!io.signal.aborted) {
    try {
      const stream = session.client.watch("ClusterService", "WatchEvents", { fromRevision: next, noFollow: false }, { signal: io.signal });
      for await (const { event, bookmark } of stream) {
        cutMs = null;
        if (event === null) {
          next = Math.max(next, bookmark + 1);
          continue;
        }
        if (event.revision < told.revision || (event.revision === told.revision && event.position <= told.position)) continue;
        told = { revision: event.revision, position: event.position };
        tell(event);
      }
      // A node that stops ends its streams in order.
      cutMs ??= io.nowMs();
    } catch (thrown) {
      const error = asRoostError(thrown);
      if (io.signal.aborted || (error.fault.kind !== "unavailable" && error.fault.kind !== "timeout")) throw thrown;
      cutMs ??= io.nowMs();
      if (io.nowMs() - cutMs > GIVE_UP_MS) throw thrown;
    }
    if (io.nowMs() - cutMs > GIVE_UP_MS) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, RETRY_MS);
      io.signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
    });
  }
}

function line(io: Io, event: Event__Output): string {
  const name = event.subjectName === "" ? event.subjectId : event.subjectName;
  // A task's events are told with the name of what it is on.
  const subject = /^(?:task|job)\./.test(event.kind) ? `${name} ${event.subjectId}` : name;
  // Raft's own entries carry nobody's time.
  const time = event.atMs === 0 ? "-".padEnd(19) : timeText(event.atMs);
  return `${time}  ${paint(io, "cyan", event.kind)}  ${subject}  ${event.message}  ${paint(io, "dim", `[${event.actor} @${event.revision}]`)}\n`;
}
