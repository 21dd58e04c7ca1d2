/** Feature levels (RAFT-7): nothing is proposed that a replica would not know, and a replica that meets it stops. */
import t from "tap";
import type { Command } from "../../src/state/commands.ts";
import { apply } from "../../src/state/apply.ts";
import { heldBackBy, PROGRAM_LEVEL, whyNotYet } from "../../src/state/levels.ts";
import { CommandLog, faultOf, joining } from "./log.ts";

const ask: Command = { type: "digest.ask", why: "test" };

t.test("the level is raised when every node can apply it, and not before", (t) => {
  const log = CommandLog.withNodes(2, { level: 2 });
  log.join("n3");
  t.same(heldBackBy(log.state, 2), [{ name: "n3", level: 0 }], "a node that has not said what it can holds it back");
  log.hello("n3");
  t.same(heldBackBy(log.state, 2), [{ name: "n3", level: 1 }]);
  t.match(log.refused({ type: "level.raise", level: 2 }), { kind: "precondition", reason: "n3 cannot apply level 2" });
  t.match(log.refused(ask), { kind: "precondition", reason: "digest.ask needs level 2, the cluster is at level 1: n3 cannot do more" });
  t.match(whyNotYet(log.state, "digest.ask")?.hint, /upgrade roost on n3/);
  log.hello("n3", { level: 2 });
  log.ok({ type: "level.raise", level: 2 });
  t.equal(log.state.cluster?.level, 2);
  t.ok(log.ok(ask).index);
  t.equal(log.replayed().cluster?.level, 2);
  t.end();
});

t.test("a program that is too old is refused, new or known", (t) => {
  const log = CommandLog.withNodes(1, { level: 2 });
  log.ok({ type: "level.raise", level: 2 });
  log.ok({ type: "token.create", id: "t", secretHash: "hash", ttlMs: 60_000, uses: 1 });
  t.match(log.refused({ type: "node.join", tokenId: "t", secretHash: "hash", node: joining("n2") }), {
    kind: "precondition",
    reason: "the cluster is at level 2, this roost can apply level 1 only",
  });
  log.ok({ type: "node.join", tokenId: "t", secretHash: "hash", node: { ...joining("n2"), level: 2 } });
  t.throws(() => log.hello("n1", { level: 1 }), /can apply level 1 only/);
  t.end();
});

t.test("an unknown command stops the replica with what to do, and leaves the state as it was", (t) => {
  const log = CommandLog.withNodes(1);
  const envelope = { requestId: `#${log.state.index}.x`, origin: "n1", atMs: 1, actor: "", term: 0 };
  for (const type of ["vm.fly", "constructor"]) {
    t.match(
      faultOf(() => apply(log.state, { ...envelope, command: { type } as unknown as Command }, { index: log.state.index + 1, term: 1 })),
      { kind: "unsupported", what: new RegExp(`${type}.*this roost \\(level ${PROGRAM_LEVEL}\\) is too old for the cluster`) },
    );
  }
  t.notOk(log.state.requests.has(envelope.requestId));
  t.end();
});
