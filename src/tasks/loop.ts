/** The orchestrator on the leader: with each change it proposes what can be sent. A send is checked again where it is applied. */
import type { Clock } from "../base/clock.ts";
import type { LeaderService } from "../cluster/leadership.ts";
import type { Store } from "../cluster/store.ts";
import { orchestrate, Turns, type Send } from "./orchestrate.ts";

/** Sends of one command: bounds its size and how long applying it takes. */
const BATCH_MAX = 200;
/** Commands on their way at once: the next is made while the log takes the one before. */
const FLYING_MAX = 3;

interface Flight {
  sends: readonly Send[];
  landed: Promise<void>;
}

export function tasksService(store: Store, { clock }: { clock: Clock }): LeaderService {
  const flying = new Set<Flight>();
  let turns = new Turns();
  let ownTerm = 0;
  let failure: unknown = null;

  const propose = (term: number, sends: readonly Send[]): void => {
    const flight: Flight = {
      sends,
      landed: store
        .propose({ type: "task.dispatch", sends: [...sends] }, { actor: "orchestrator", term })
        // What was refused is looked at again: the view has moved on.
        .then(() => undefined)
        .catch((thrown: unknown) => {
          failure = thrown;
        })
        .finally(() => flying.delete(flight)),
    };
    flying.add(flight);
  };

  return {
    name: "tasks",
    everyMs: 250,
    onChange: true,
    async run(term) {
      const thrown = failure;
      failure = null;
      if (ownTerm !== term) turns = new Turns();
      ownTerm = term;
      for (;;) {
        while (flying.size >= FLYING_MAX) await Promise.race([...flying].map(({ landed }) => landed));
        const inFlight = [...flying].flatMap(({ sends }) => sends);
        const sends = orchestrate(store.view(), { inFlight, turns, atMs: clock.wallMs(), max: BATCH_MAX });
        if (sends.length === 0) break;
        propose(term, sends);
      }
      if (thrown !== null) throw thrown;
    },
  };
}
