/** Where things of the checkout lie. */
import { join } from "node:path";

/** The checkout's top folder. */
export const CHECKOUT = join(import.meta.dirname, "..", "..");

/** The runtime that everything here is run and bundled with: Node 24 from the npm package, not the machine's own. */
export const NODE = join(CHECKOUT, "node_modules", ".bin", "node");

/** Takes one line about what is being done, for people. */
export type Progress = (line: string) => void;
