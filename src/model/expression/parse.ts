/**
 * `requirements` and `rank` (SCH-9): a small language over a node's values and labels, parsed by this grammar and never
 * run as code.
 *
 *     or      = and { ("|" | "||") and }
 *     and     = not { ("&" | "&&") not }
 *     not     = "!" not | compare
 *     compare = sum [ ("=" | "==" | "!=" | "<" | "<=" | ">" | ">=") sum ]
 *     sum     = product { ("+" | "-") product }
 *     product = unary { ("*" | "/") unary }
 *     unary   = "-" unary | number | "text" | 'text' | "true" | "false" | name | "(" or ")"
 *     name    = letter { letter | digit | "_" | "." | "-" }      label.rack is the label `rack`
 */
export type Expression =
  | { readonly kind: "number"; readonly value: number; readonly at: number }
  | { readonly kind: "text"; readonly value: string; readonly at: number }
  | { readonly kind: "truth"; readonly value: boolean; readonly at: number }
  | { readonly kind: "name"; readonly name: string; readonly at: number }
  | { readonly kind: "not" | "minus"; readonly of: Expression; readonly at: number }
  | { readonly kind: "and" | "or" | Comparison | Arithmetic; readonly left: Expression; readonly right: Expression; readonly at: number };

export type Comparison = "=" | "!=" | "<" | "<=" | ">" | ">=";
export type Arithmetic = "+" | "-" | "*" | "/";

/** What is wrong, and where: `at` is the position in the text, from 0. */
export interface ExpressionFault {
  at: number;
  message: string;
}

export type Parsed = { ok: true; expression: Expression } | { ok: false; fault: ExpressionFault };

/** Longest text that is taken, and how deep it may nest (SEC-4). */
export const EXPRESSION_LENGTH = 1024;
const DEPTH = 64;

interface Token {
  readonly kind: "number" | "text" | "name" | "sign" | "end";
  readonly text: string;
  readonly at: number;
}

const TOKEN = /\s*(?:(\d+(?:\.\d+)?)|"([^"]*)"|'([^']*)'|([A-Za-z_][A-Za-z0-9_.-]*)|(==|!=|<=|>=|&&|\|\||[=<>&|!()+\-*/]))/y;

class Fault extends Error {
  readonly at: number;
  constructor(at: number, message: string) {
    super(message);
    this.at = at;
  }
}

export function parseExpression(text: string): Parsed {
  if (text.length > EXPRESSION_LENGTH)
    return { ok: false, fault: { at: EXPRESSION_LENGTH, message: `is longer than ${EXPRESSION_LENGTH} characters` } };
  try {
    return { ok: true, expression: new Parser(tokens(text)).whole() };
  } catch (problem) {
    if (problem instanceof Fault) return { ok: false, fault: { at: problem.at, message: problem.message } };
    throw problem;
  }
}

function tokens(text: string): Token[] {
  const found: Token[] = [];
  let at = 0;
  while (text.slice(at).trim() !== "") {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    const start = at + (text.slice(at).length - text.slice(at).trimStart().length);
    if (match === null)
      throw new Fault(
        start,
        text[start] === '"' || text[start] === "'" ? "the text in quotes has no end" : `${text[start]} means nothing here`,
      );
    const [, number, double, single, name, sign] = match;
    const quoted = double ?? single;
    at = TOKEN.lastIndex;
    if (number !== undefined) found.push({ kind: "number", text: number, at: start });
    else if (quoted !== undefined) found.push({ kind: "text", text: quoted, at: start });
    else if (name !== undefined) found.push({ kind: "name", text: name, at: start });
    else found.push({ kind: "sign", text: same(sign ?? ""), at: start });
  }
  found.push({ kind: "end", text: "the end", at: text.length });
  return found;
}

/** One spelling of each sign. */
function same(sign: string): string {
  return sign === "==" ? "=" : sign === "&&" ? "&" : sign === "||" ? "|" : sign;
}

class Parser {
  private readonly tokens: readonly Token[];
  private next = 0;
  private depth = 0;

  constructor(list: readonly Token[]) {
    this.tokens = list;
  }

  whole(): Expression {
    const found = this.or();
    const rest = this.peek();
    if (rest.kind !== "end") throw new Fault(rest.at, `${rest.text} is not expected here; & or | between conditions?`);
    return found;
  }

  private or(): Expression {
    if (++this.depth > DEPTH) throw new Fault(this.peek().at, `nests deeper than ${DEPTH}`);
    let left = this.and();
    for (let at = this.sign("|"); at !== -1; at = this.sign("|")) left = { kind: "or", left, right: this.and(), at };
    this.depth--;
    return left;
  }

  private and(): Expression {
    let left = this.not();
    for (let at = this.sign("&"); at !== -1; at = this.sign("&")) left = { kind: "and", left, right: this.not(), at };
    return left;
  }

  private not(): Expression {
    const at = this.sign("!");
    if (at === -1) return this.compare();
    if (++this.depth > DEPTH) throw new Fault(at, `nests deeper than ${DEPTH}`);
    const of = this.not();
    this.depth--;
    return { kind: "not", of, at };
  }

  private compare(): Expression {
    const left = this.sum();
    for (const kind of ["=", "!=", "<=", ">=", "<", ">"] as const) {
      const at = this.sign(kind);
      if (at !== -1) return { kind, left, right: this.sum(), at };
    }
    return left;
  }

  private sum(): Expression {
    let left = this.product();
    for (;;) {
      const kind = this.oneOf(["+", "-"] as const);
      if (kind === null) return left;
      left = { kind: kind.text, left, right: this.product(), at: kind.at };
    }
  }

  private product(): Expression {
    let left = this.unary();
    for (;;) {
      const kind = this.oneOf(["*", "/"] as const);
      if (kind === null) return left;
      left = { kind: kind.text, left, right: this.unary(), at: kind.at };
    }
  }

  private unary(): Expression {
    const token = this.peek();
    this.next++;
    if (token.kind === "number") return { kind: "number", value: Number(token.text), at: token.at };
    if (token.kind === "text") return { kind: "text", value: token.text, at: token.at };
    if (token.kind === "name") {
      if (token.text === "true" || token.text === "false") return { kind: "truth", value: token.text === "true", at: token.at };
      return { kind: "name", name: token.text, at: token.at };
    }
    if (token.text === "-") {
      if (++this.depth > DEPTH) throw new Fault(token.at, `nests deeper than ${DEPTH}`);
      const of = this.unary();
      this.depth--;
      return { kind: "minus", of, at: token.at };
    }
    if (token.text === "(" && token.kind === "sign") {
      const inner = this.or();
      if (this.sign(")") === -1) throw new Fault(this.peek().at, "a ) is missing here");
      return inner;
    }
    throw new Fault(token.at, `a value is missing before ${token.text}`);
  }

  private oneOf<T extends string>(signs: readonly T[]): { text: T; at: number } | null {
    for (const text of signs) {
      const at = this.sign(text);
      if (at !== -1) return { text, at };
    }
    return null;
  }

  /** Position of the sign if it is next, which takes it; else -1. */
  private sign(text: string): number {
    const token = this.peek();
    if (token.kind !== "sign" || token.text !== text) return -1;
    this.next++;
    return token.at;
  }

  private peek(): Token {
    return this.tokens[Math.min(this.next, this.tokens.length - 1)]!;
  }
}
