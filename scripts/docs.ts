/**
 * Writes the pages of docs/ that are drawn from code. test/scripts/docs.test.ts fails when one is out of date.
 *
 *   node scripts/docs.ts
 */
import { writeFile } from "node:fs/promises";
import { lifecyclePage } from "./docs/lifecycle.ts";

await writeFile(new URL("../docs/lifecycle.md", import.meta.url), lifecyclePage());
