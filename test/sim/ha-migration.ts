/**
 * Live migration between two simulated hosts: what src/agent/migration and the driver do, with messages for the stream. Which words go to
 * the cluster, and when, is the real reconciler's.
 */
import type { SimHost } from "./ha-node.ts";
import type { World } from "./ha-world.ts";

const STEP_MS = 3_000;
const PING_MS = 500;
const SILENT_MS = 3_000;

/** The source's side. `done(true)`: paused here, whole there. */
export function push(
  world: World,
  source: SimHost,
  target: SimHost,
  vm: { vmId: string; generation: number; incoming: number },
  done: (ok: boolean) => void,
): void {
  const { vmId, incoming } = vm;
  let over = false;
  const end = (ok: boolean): void => {
    if (over) return;
    over = true;
    done(ok);
  };
  const limit = (): void => world.afterIn(source.peer.process, STEP_MS, () => end(false));
  const toTarget = (run: () => void): void => world.send(source.peer.id, target.peer.id, target.peer.process, run);
  const toSource = (run: () => void): void => world.send(target.peer.id, source.peer.id, source.peer.process, () => !over && run());
  limit();
  const complete = (): void => toTarget(() => target.arrived(vmId, incoming) && toSource(() => end(true)));
  toTarget(() =>
    target.immigrate(source, vmId, incoming, () =>
      toSource(() => {
        // QEMU goes on with it whatever becomes of the agent.
        world.afterIn(source.hostProcess, world.chance(0.1) ? world.between(500, 2_500) : world.between(20, 300), () => {
          // An agent that gave up has aborted it; one that died has not.
          if (over || !source.pause(vmId, vm.generation)) return;
          world.afterIn(source.peer.process, world.between(0.2, 5), () => !over && complete());
        });
      }),
    ),
  );
}

/** The target's side notices that the source is gone. */
export function watchSource(world: World, source: SimHost, target: SimHost, vmId: string, isOpen: () => boolean, gone: () => void): void {
  let heardMs = world.nowMs;
  const look = (): void => {
    if (!isOpen()) return;
    if (world.nowMs - heardMs > SILENT_MS) return gone();
    world.send(target.peer.id, source.peer.id, source.peer.process, () => {
      if (source.isAtWork(vmId, "emigrate")) world.send(source.peer.id, target.peer.id, target.peer.process, () => (heardMs = world.nowMs));
    });
    world.afterIn(target.peer.process, PING_MS, look);
  };
  look();
}
