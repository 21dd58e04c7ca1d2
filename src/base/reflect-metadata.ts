/**
 * The two functions of the metadata proposal that the X.509 library's dependency container calls. Imported before it,
 * for its effect; does nothing where a full implementation is there already.
 */
type Metadata = {
  getMetadata?: (key: unknown, target: object) => unknown;
  getOwnMetadata?: (key: unknown, target: object) => unknown;
  defineMetadata?: (key: unknown, value: unknown, target: object) => void;
};

const reflect = Reflect as unknown as Metadata;

if (reflect.getMetadata === undefined) {
  const store = new WeakMap<object, Map<unknown, unknown>>();
  const own = (key: unknown, target: object): unknown => store.get(target)?.get(key);
  reflect.getOwnMetadata = own;
  reflect.getMetadata = (key, target) => {
    for (let at: object | null = target; at !== null; at = Object.getPrototypeOf(at) as object | null) {
      if (store.get(at)?.has(key) === true) return own(key, at);
    }
    return undefined;
  };
  reflect.defineMetadata = (key, value, target) => {
    const row = store.get(target) ?? new Map<unknown, unknown>();
    store.set(target, row.set(key, value));
  };
}
