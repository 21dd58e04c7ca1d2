/** The cluster's pools as this node has them open, kept in step with the state. */
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import type { Store } from "../cluster/store.ts";
import type { Pool } from "../model/pool.ts";
import { openPool } from "../storage/open.ts";
import type { StoragePool } from "../storage/pool.ts";

/** Only a pool this young may get its marker on a shared folder: later a missing marker means a missing mount. */
const YOUNG_MS = 60_000;

export class OpenPools {
  readonly #nodeId: string;
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #opened = new Map<string, { revision: number; initialised: boolean; pool: StoragePool }>();
  readonly byName = new Map<string, StoragePool>();
  #refreshing: Promise<void> = Promise.resolve();

  constructor(nodeId: string, store: Store, effects: { clock: Clock; log: Logger }) {
    this.#nodeId = nodeId;
    this.#store = store;
    this.#clock = effects.clock;
    this.#log = effects.log.child("pools");
  }

  /** Opens what is new and forgets what is gone. */
  refresh(): Promise<void> {
    this.#refreshing = this.#refreshing.then(() => this.#refresh());
    return this.#refreshing;
  }

  async opened(): Promise<StoragePool[]> {
    await this.refresh();
    return [...this.#opened.values()].map(({ pool }) => pool);
  }

  /** True while a new pool is not there yet: another node is marking it, or a mount is coming up. */
  async expectsMore(): Promise<boolean> {
    await this.refresh();
    for (const { pool } of this.#opened.values()) {
      const row = this.#store.view().pools.get(pool.pool.id);
      const young = row !== undefined && this.#clock.wallMs() - row.createdAtMs < YOUNG_MS;
      if (young && !(await pool.status()).available) return true;
    }
    return false;
  }

  async #refresh(): Promise<void> {
    const view = this.#store.view();
    for (const pool of view.pools.values()) {
      const initialise = this.#mayInitialise(pool);
      const opened = this.#opened.get(pool.id);
      if (opened !== undefined && opened.revision === pool.revision && (opened.initialised || !initialise)) continue;
      const storage = await openPool(pool, { nodeId: this.#nodeId, mayInitialise: initialise });
      this.#opened.set(pool.id, { revision: pool.revision, initialised: initialise, pool: storage });
      this.byName.set(pool.name, storage);
      this.#log.info("pool opened", { pool: pool.name, path: pool.path });
    }
    for (const id of this.#opened.keys()) if (!view.pools.has(id)) this.#opened.delete(id);
    for (const name of this.byName.keys()) if (!view.poolIdByName.has(name)) this.byName.delete(name);
  }

  /** A local pool is each node's own; a shared one is marked by one node, the leader, when it is new. */
  #mayInitialise(pool: Pool): boolean {
    return !pool.shared || (this.#store.leadership().leading && this.#clock.wallMs() - pool.createdAtMs < YOUNG_MS);
  }
}
