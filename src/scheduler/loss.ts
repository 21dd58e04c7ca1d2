/** What a failure leaves. Pure. */
import type { View } from "../model/view.ts";
import type { Vm } from "../model/vm.ts";

/** The cluster after a loss: its nodes gone, `vms` waiting. O(nodes + vms): a question goes through many losses. */
export function viewAfter(view: View, lost: readonly string[], vms: readonly Vm[]): View {
  const gone = new Set(lost);
  const rows = new Map<string, Vm>();
  const claimsByNode = new Map(view.claimsByNode);
  for (const id of lost) claimsByNode.delete(id);
  for (const vm of vms) {
    if (vm.claim !== null && !gone.has(vm.claim.nodeId)) claimsByNode.delete(vm.claim.nodeId);
    const desired = { ...vm.desired, nodeId: null, hold: false };
    rows.set(vm.id, { ...vm, claim: null, state: "recovering", desired, failures: 0 });
  }
  return { ...view, nodes: new Map([...view.nodes].filter(([id]) => !gone.has(id))), vms: new Changed(view.vms, rows), claimsByNode };
}

/** A map with some of its values changed, and no key more or less. */
class Changed<K, V> implements ReadonlyMap<K, V> {
  readonly #base: ReadonlyMap<K, V>;
  readonly #changes: ReadonlyMap<K, V>;

  constructor(base: ReadonlyMap<K, V>, changes: ReadonlyMap<K, V>) {
    this.#base = base;
    this.#changes = changes;
  }

  get size(): number {
    return this.#base.size;
  }

  get(key: K): V | undefined {
    return this.#changes.get(key) ?? this.#base.get(key);
  }

  has(key: K): boolean {
    return this.#base.has(key);
  }

  keys(): MapIterator<K> {
    return this.#base.keys();
  }

  *entries(): MapIterator<[K, V]> {
    for (const [key, value] of this.#base) yield [key, this.#changes.get(key) ?? value];
  }

  *values(): MapIterator<V> {
    for (const [, value] of this.entries()) yield value;
  }

  [Symbol.iterator](): MapIterator<[K, V]> {
    return this.entries();
  }

  forEach(run: (value: V, key: K, map: ReadonlyMap<K, V>) => void): void {
    for (const [key, value] of this.entries()) run(value, key, this);
  }
}
