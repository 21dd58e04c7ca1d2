/**
 * Generates src/hypervisor/libvirt/protocol.gen.ts from libvirt's own protocol descriptions and public headers.
 *
 *   node scripts/gen-libvirt.ts                 fetches Debian's libvirt source package into a temporary folder
 *   node scripts/gen-libvirt.ts LIBVIRT_SOURCE  reads an unpacked libvirt source tree
 *
 * The `.x` files are LGPL: they are read at generation time and never committed; numbers, names and shapes of the
 * wire protocol are what the output holds.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const OUTPUT = join(import.meta.dirname, "../src/hypervisor/libvirt/protocol.gen.ts");
const PROTOCOLS = ["src/rpc/virnetprotocol.x", "src/rpc/virkeepaliveprotocol.x", "src/remote/remote_protocol.x"];
const HEADERS = ["libvirt-common.h.in", "libvirt-host.h", "libvirt-domain.h", "virterror.h"].map((name) => `include/libvirt/${name}`);
/** Enums of the public headers whose numbers travel on the wire and that this driver speaks of. */
const HEADER_ENUMS = new Set([
  "virErrorNumber",
  "virTypedParameterType",
  "virNodeGetMemoryStatsAllCells",
  "virDomainState",
  "virDomainPausedReason",
  "virDomainShutoffReason",
  "virDomainCreateFlags",
  "virDomainDestroyFlagsValues",
  "virDomainXMLFlags",
  "virDomainEventID",
  "virDomainEventType",
  "virDomainEventStartedDetailType",
  "virDomainEventStoppedDetailType",
  "virDomainShutdownFlagValues",
  "virDomainStatsTypes",
  "virDomainMigrateFlags",
  "virDomainJobType",
  "virConnectListAllDomainsFlags",
  "virConnectGetAllDomainStatsFlags",
]);

type Type =
  | "int"
  | "uint"
  | "hyper"
  | "uhyper"
  | "double"
  | "bool"
  | ["string", number]
  | ["opaque", number]
  | ["fixed", number]
  | ["optional", Type]
  | ["array", number, Type]
  | ["vector", number, Type]
  | ["struct", string]
  | ["union", string];

interface Field {
  name: string;
  type: Type;
}

const constants = new Map<string, number>();
const typedefs = new Map<string, Type>();
const structs = new Map<string, Field[]>();
const unions = new Map<string, Map<number, Field>>();
const enums = new Map<string, [string, number][]>();

function tokens(text: string): string[] {
  const bare = text
    .replaceAll(/\/\*[\s\S]*?\*\//g, " ")
    .replaceAll(/^%.*$/gm, " ")
    .replaceAll(/^\s*#.*$/gm, " ");
  return bare.match(/[A-Za-z_]\w*|-?0x[0-9a-fA-F]+|-?\d+|[^\s\w]/g) ?? [];
}

function number(token: string): number {
  const value = constants.get(token) ?? Number(token);
  if (!Number.isSafeInteger(value)) throw new Error(`${token}: neither a number nor a known constant`);
  return value;
}

/** Recursive descent over one `.x` file (XDR language, RFC 4506 section 6, as far as libvirt uses it). */
function parseProtocol(path: string): void {
  const list = tokens(readFileSync(path, "utf8"));
  let at = 0;
  const next = (): string => {
    const token = list[at++];
    if (token === undefined) throw new Error(`${path}: ends in the middle of a definition`);
    return token;
  };
  const expect = (wanted: string): void => {
    const token = next();
    if (token !== wanted) throw new Error(`${path}: expected ${wanted} but found ${token}`);
  };
  const base = (): Type => {
    const token = next();
    switch (token) {
      case "unsigned": {
        const width = list[at];
        if (width === "int" || width === "char" || width === "short") at++;
        else if (width === "hyper") {
          at++;
          return "uhyper";
        }
        return "uint";
      }
      case "int":
      case "char":
      case "short":
        return "int";
      case "hyper":
      case "double":
      case "bool":
        return token;
      case "string":
      case "opaque":
        return [token, -1];
      default: {
        if (enums.has(token)) return "int";
        if (unions.has(token)) return ["union", token];
        if (structs.has(token)) return ["struct", token];
        const known = typedefs.get(token);
        if (known === undefined) throw new Error(`${path}: unknown type ${token}`);
        return known;
      }
    }
  };
  const declaration = (): Field => {
    const element = base();
    const optional = list[at] === "*";
    if (optional) at++;
    const name = next();
    let type = element;
    const open = list[at];
    if (open === "<" || open === "[") {
      at++;
      const limit = number(next());
      expect(open === "<" ? ">" : "]");
      const kind = Array.isArray(element) && element[1] === -1 ? element[0] : null;
      if (kind === "string") type = ["string", limit];
      else if (kind === "opaque") type = open === "<" ? ["opaque", limit] : ["fixed", limit];
      else type = open === "<" ? ["array", limit, element] : ["vector", limit, element];
    }
    return { name, type: optional ? ["optional", type] : type };
  };
  while (at < list.length) {
    const keyword = next();
    if (keyword === "const") {
      const name = next();
      expect("=");
      constants.set(name, number(next()));
    } else if (keyword === "typedef") {
      const { name, type } = declaration();
      typedefs.set(name, type);
    } else if (keyword === "enum") {
      const name = next();
      const members: [string, number][] = [];
      expect("{");
      while (list[at] !== "}") {
        const member = next();
        expect("=");
        members.push([member, number(next())]);
        if (list[at] === ",") at++;
      }
      expect("}");
      enums.set(name, members);
    } else if (keyword === "struct") {
      const name = next();
      const fields: Field[] = [];
      expect("{");
      while (list[at] !== "}") {
        fields.push(declaration());
        expect(";");
      }
      expect("}");
      structs.set(name, fields);
    } else if (keyword === "union") {
      const name = next();
      const cases = new Map<number, Field>();
      for (const word of ["switch", "("]) expect(word);
      at += 2; // `int type`: every discriminant of this protocol is an int
      for (const word of [")", "{"]) expect(word);
      while (list[at] !== "}") {
        expect("case");
        const tag = number(next());
        expect(":");
        cases.set(tag, declaration());
        expect(";");
      }
      expect("}");
      unions.set(name, cases);
    } else throw new Error(`${path}: cannot read a definition that begins with ${keyword}`);
    expect(";");
  }
}

/** Buffer lengths and the wanted enums of a public C header. */
function parseHeader(path: string): void {
  const text = readFileSync(path, "utf8");
  for (const found of text.matchAll(/^\s*#\s*define\s+(VIR_\w+_BUFLEN)\s+\(([\d\s+]+)\)/gm)) {
    const sum = (found[2] ?? "").split("+").reduce((total, part) => total + Number(part), 0);
    constants.set(found[1] ?? "", sum);
  }
  const list = tokens(text);
  for (let at = 0; at < list.length; at++) {
    if (list[at] !== "typedef" || list[at + 1] !== "enum" || list[at + 2] !== "{") continue;
    const end = list.indexOf("}", at);
    const name = list[end + 1] ?? "";
    if (!HEADER_ENUMS.has(name)) continue;
    const members: [string, number][] = [];
    let value = -1;
    let member: string[] = [];
    for (const token of [...list.slice(at + 3, end), ","]) {
      if (token !== ",") {
        member.push(token);
        continue;
      }
      const [label, equals, ...expression] = member;
      member = [];
      if (label === undefined || label === "VIR_DEPRECATED") continue;
      value = equals === "=" ? evaluate(expression) : value + 1;
      constants.set(label, value);
      members.push([label, value]);
    }
    enums.set(name, members);
  }
}

/** `7`, `0x10`, `(1 << 3)`, `1 << 3` or the name of an earlier member of any enum. */
function evaluate(expression: string[]): number {
  const plain = expression.filter((token) => token !== "(" && token !== ")");
  const first = plain[0] ?? "";
  const value = constants.get(first) ?? Number(first.replace(/u$/i, ""));
  const result = plain.length === 4 && plain[1] === "<" && plain[2] === "<" ? value * 2 ** Number(plain[3]) : value;
  if (!Number.isSafeInteger(result)) throw new Error(`cannot evaluate ${expression.join(" ")}`);
  return result;
}

const typeName = (name: string): string =>
  name
    .replace(/^remote_/, "")
    .replaceAll(/(^|_)([a-z0-9])/g, (_, __, letter: string) => letter.toUpperCase())
    .replace(/^VirNet/, "Net")
    .replace(/^Error$/, "RemoteError"); // never shadow the language's own

function tsType(type: Type): string {
  if (typeof type === "string") return type === "hyper" || type === "uhyper" ? "bigint" : type === "bool" ? "boolean" : "number";
  switch (type[0]) {
    case "string":
      return "string";
    case "opaque":
    case "fixed":
      return "Uint8Array";
    case "optional":
      return `${tsType(type[1])} | null`;
    case "array":
    case "vector": {
      const element = tsType(type[2]);
      return element.includes("|") ? `(${element})[]` : `${element}[]`;
    }
    case "struct":
    case "union":
      return typeName(type[1]);
  }
}

/** Struct and union references are by their TypeScript names, so that the tables read like the types. */
function schema(type: Type): unknown {
  if (typeof type === "string") return type;
  if (type[0] === "struct" || type[0] === "union") return [type[0], typeName(type[1])];
  if (type[0] === "optional") return ["optional", schema(type[1])];
  if (type[0] === "array" || type[0] === "vector") return [type[0], type[1], schema(type[2])];
  return type;
}

function render(version: string): string {
  const out: string[] = [
    `/** Generated by scripts/gen-libvirt.ts from libvirt ${version}'s protocol descriptions. Do not edit. */`,
    `import type { Schema } from "./xdr.ts";`,
    "",
    "/** Numbers of the protocol and of the public enums that travel in it. */",
    "export const constants = {",
  ];
  const shown = [...constants.entries()].filter(([name]) => !name.startsWith("REMOTE_PROC_") && !name.endsWith("_LAST"));
  const known = new Set(shown.map(([name]) => name));
  for (const [name, members] of enums) {
    if (name !== "remote_procedure")
      for (const member of members) if (!known.has(member[0]) && !member[0].endsWith("_LAST")) shown.push(member);
  }
  for (const [name, value] of shown) out.push(`  ${name}: ${value},`);
  out.push("} as const;", "");
  for (const [name, fields] of structs) {
    const body = fields.map((field) => `${field.name}: ${tsType(field.type)}`).join("; ");
    out.push(`export interface ${typeName(name)} { ${body} }`);
  }
  for (const [name, cases] of unions) {
    const body = [...cases].map(([tag, field]) => `{ type: ${tag}; value: ${tsType(field.type)} }`).join(" | ");
    out.push(`export type ${typeName(name)} = ${body};`);
  }
  out.push("", "/** Shapes on the wire, read by xdr.ts: every struct as its fields in order, every union by discriminant. */");
  out.push("export const schema: Schema = {", "  structs: {");
  for (const [name, fields] of structs) {
    out.push(`    ${typeName(name)}: ${JSON.stringify(fields.map((field) => [field.name, schema(field.type)]))},`);
  }
  out.push("  },", "  unions: {");
  for (const [name, cases] of unions) {
    out.push(`    ${typeName(name)}: ${JSON.stringify(Object.fromEntries([...cases].map(([tag, field]) => [tag, schema(field.type)])))},`);
  }
  out.push("  },", "};", "");
  const calls: string[] = [];
  const table: string[] = [];
  const events: string[] = [];
  const eventTable: string[] = [];
  for (const [label, value] of enums.get("remote_procedure") ?? []) {
    const name = label.replace(/^REMOTE_PROC_/, "");
    const stem = `remote_${name.toLowerCase()}`;
    const quoted = (suffix: string): string => (structs.has(stem + suffix) ? JSON.stringify(typeName(stem + suffix)) : "null");
    const typed = (suffix: string, none: string): string => (structs.has(stem + suffix) ? typeName(stem + suffix) : none);
    if (structs.has(`${stem}_msg`)) {
      events.push(`  ${name}: ${typed("_msg", "null")};`);
      eventTable.push(`  ${value}: { name: "${name}", message: ${quoted("_msg")} },`);
    } else {
      calls.push(`  ${name}: { args: ${typed("_args", "null")}; ret: ${typed("_ret", "null")} };`);
      table.push(`  ${name}: { number: ${value}, args: ${quoted("_args")}, ret: ${quoted("_ret")} },`);
    }
  }
  out.push("/** What each procedure takes and returns. */", "export interface Calls {", ...calls, "}", "");
  out.push("export const calls: { readonly [K in keyof Calls]: { number: number; args: string | null; ret: string | null } } = {");
  out.push(...table, "};", "", "/** What the daemon sends unasked. */", "export interface Events {", ...events, "}", "");
  out.push("export const events: { readonly [procedure: number]: { name: keyof Events; message: string } } = {", ...eventTable, "};", "");
  return out.join("\n");
}

/** Unpacks the wanted files of Debian's libvirt source package, from the mirror that apt itself uses, into `folder`. */
function fetchSource(folder: string): string {
  for (const name of ["sources", "lists/partial", "cache/archives/partial"]) mkdirSync(join(folder, name), { recursive: true });
  const dump = execFileSync("apt-config", ["shell", "MAIN", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"], {
    encoding: "utf8",
  });
  const configured = (key: string): string => new RegExp(`^${key}='(.*)'$`, "m").exec(dump)?.[1] ?? "";
  const files = [configured("MAIN"), ...listFolder(configured("PARTS"))].filter((path) => /\.(list|sources)$/.test(path));
  for (const [index, path] of files.entries()) {
    const text = readIfThere(path)
      .replaceAll(/^Types:.*$/gm, "Types: deb-src")
      .replaceAll(/^deb\s/gm, "deb-src ");
    writeFileSync(join(folder, "sources", `${index}.${path.endsWith(".list") ? "list" : "sources"}`), text);
  }
  const options = [
    "Dir::Etc::sourcelist=/dev/null",
    `Dir::Etc::sourceparts=${join(folder, "sources")}`,
    `Dir::State::lists=${join(folder, "lists")}`,
    `Dir::Cache=${join(folder, "cache")}`,
    "APT::Sandbox::User=root",
  ].flatMap((option) => ["-o", option]);
  const run = (command: string, args: string[]): void => {
    execFileSync(command, args, { cwd: folder, stdio: ["ignore", "inherit", "inherit"], timeout: 300_000 });
  };
  run("apt-get", ["-q", ...options, "update"]);
  run("apt-get", ["-q", ...options, "source", "--download-only", "libvirt"]);
  const tarball = readdirSync(folder).find((name) => /^libvirt_.*\.orig\.tar\.\w+$/.test(name));
  if (tarball === undefined) throw new Error(`apt-get source left no libvirt tarball in ${folder}`);
  run("tar", ["-xf", tarball, "--wildcards", ...[...PROTOCOLS, ...HEADERS].map((path) => `*/${path}`)]);
  const tree = readdirSync(folder).find((name) => /^libvirt-\d/.test(name));
  if (tree === undefined) throw new Error(`${tarball} holds no libvirt-VERSION folder`);
  return join(folder, tree);
}

function listFolder(path: string): string[] {
  try {
    return readdirSync(path).map((name) => join(path, name));
  } catch {
    return []; // apt allows the folder to be missing
  }
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // either of apt's two places may be missing
  }
}

function main(): void {
  const given = process.argv[2];
  const folder = given === undefined ? mkdtempSync(join(tmpdir(), "gen-libvirt-")) : null;
  try {
    const tree = given ?? fetchSource(folder ?? "");
    // Headers first: the protocol's own limits name their buffer lengths.
    for (const path of HEADERS) parseHeader(join(tree, path));
    for (const path of PROTOCOLS) parseProtocol(join(tree, path));
    const missing = [...HEADER_ENUMS].filter((name) => !enums.has(name));
    if (missing.length > 0) throw new Error(`enums not found in the headers: ${missing.join(", ")}`);
    writeFileSync(OUTPUT, render(/libvirt-([\d.]+)\/?$/.exec(tree)?.[1] ?? "unknown version"));
    console.log(`${OUTPUT}: ${structs.size} structs, ${enums.get("remote_procedure")?.length ?? 0} procedures`);
  } finally {
    if (folder !== null) rmSync(folder, { recursive: true, force: true });
  }
}

main();
