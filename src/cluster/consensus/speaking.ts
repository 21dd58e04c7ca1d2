/** Who may say what (SEC-3): a peer speaks for itself only, whatever its messages claim. */
import type { Entry, Message } from "../../raft/core/types.ts";
import type { Peer } from "../../raft/transport/links.ts";
import { decodeEnvelope } from "../../state/codec.ts";
import { LEADERS_COMMANDS } from "../../state/commands.ts";

/** What is wrong with it, in words for the log; null if nothing. @throws RoostError `damaged` on rubbish. */
export function refusalOf(from: Peer, message: Message): string | null {
  if (message.from !== from.peerId) return "dropped a message under another's name";
  if (message.type === "propose" && !message.entries.every((entry) => mayPropose(from, entry)))
    return "dropped a proposal that is not the peer's to make";
  return null;
}

/** Its own commands, in its own name, and none that only the leader decides. */
function mayPropose(from: Peer, entry: Entry): boolean {
  if (entry.kind !== "normal") return false;
  const { origin, command } = decodeEnvelope(entry.data);
  return origin === from.nodeId && !LEADERS_COMMANDS.has(command.type);
}
