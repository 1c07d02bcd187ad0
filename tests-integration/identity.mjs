// A second implementation of packages/ctxpack-identity/SPEC.md, in memory, written from that document alone.
// Reads one JSON question a line from stdin and answers each with one JSON line. test_canonical_node.py asks them.
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";

const MAX = Number.MAX_SAFE_INTEGER;

class Refused extends Error {
  constructor(code, pointer) {
    super(code);
    this.code = code;
    this.pointer = pointer;
  }
}

// 1 and 2. URI and digest

const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");
const digestOf = (bytes) => `sha256:${sha256(bytes)}`;

function readDigest(text) {
  if (!/^sha256:[0-9a-f]{64}$/.test(text) || text.length !== 71) throw new Refused("E_DIGEST");
  return text;
}

function readUri(text) {
  if (!/^ctx:\/\/sha256:[0-9a-f]{64}$/.test(text) || text.length !== 77) throw new Refused("E_BAD_URI");
  return text.slice("ctx://".length);
}

// 3. Reading JSON. JSON.parse reports neither duplicate names nor how a number was written, so this is a parser.

function readJson(bytes) {
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Refused("E_JSON");
  }
  const token = /[ \t\n\r]*(?:([[\]{},:])|("(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")|(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)|(true|false|null|NaN|-?Infinity)|$)/y;
  let kind, value;
  const next = () => {
    const start = token.lastIndex;
    const match = token.exec(text);
    if (!match) throw new Refused("E_JSON");
    if (match[0] === "" && start === text.length) kind = "end";
    else if (match[1]) kind = match[1];
    else if (match[2]) [kind, value] = ["text", JSON.parse(match[2])];
    else if (match[3]) [kind, value] = ["number", match[3]];
    else if (match[4]) [kind, value] = ["word", match[4]];
    else kind = "end";
  };
  const read = (at, depth) => {
    if (kind === "text") return take(checkText(value, at));
    if (kind === "number") return take(readNumber(value, at));
    if (kind === "word") {
      if (!["true", "false", "null"].includes(value)) throw new Refused("E_NAN", at);
      return take(JSON.parse(value));
    }
    if (kind !== "[" && kind !== "{") throw new Refused("E_JSON");
    if (depth === 64) throw new Refused("E_DEPTH");
    const close = kind === "[" ? "]" : "}";
    const made = close === "]" ? [] : new Map();
    next();
    while (kind !== close) {
      if (close === "]") made.push(read(`${at}/${made.length}`, depth + 1));
      else {
        if (kind !== "text") throw new Refused("E_JSON");
        const name = value;
        const here = pointer(at, name);
        next();
        if (kind !== ":") throw new Refused("E_JSON");
        next();
        checkText(name, here);
        if (made.has(name)) throw new Refused("E_DUP_KEY", here);
        made.set(name, read(here, depth + 1));
      }
      if (kind === ",") {
        next();
        if (kind === close) throw new Refused("E_JSON");
      } else if (kind !== close) throw new Refused("E_JSON");
    }
    return take(made);
  };
  const take = (result) => (next(), result);
  next();
  const result = read("", 0);
  if (kind !== "end") throw new Refused("E_JSON");
  return result;
}

const pointer = (at, name) => `${at}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`;

function checkText(text, at) {
  if (!text.isWellFormed()) throw new Refused("E_SURROGATE", at);
  return text;
}

function readNumber(written, at) {
  const value = Number(written);
  const integer = /^-?[0-9]+$/.test(written);
  if (Object.is(value, -0)) throw new Refused("E_NEGATIVE_ZERO", at);
  if (!Number.isFinite(value) || (Number.isInteger(value) && Math.abs(value) > MAX))
    throw new Refused(integer ? "E_INT_RANGE" : "E_FLOAT_RANGE", at);
  return value;
}

// 4. Canonical JSON: strings and numbers as this engine's JSON.stringify writes them, names as its sort orders them.

function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (!(value instanceof Map)) return JSON.stringify(value);
  return `{${[...value.keys()].sort().map((name) => `${JSON.stringify(name)}:${canonical(value.get(name))}`).join(",")}}`;
}

const object = (members) => new Map(Object.entries(members));

// 5. Tree digest, of nodes held in memory: {folder: Map of name to node}, {bytes}, {symlink} or {special}.

const TREE = "ctxpack/tree/v1";

function plant(nodes) {
  const root = { folder: new Map() };
  const lookUp = (segments) => segments.reduce((node, name) => node.folder.get(name), root);
  for (const node of nodes) {
    const path = "path_hex" in node ? Buffer.from(node.path_hex, "hex").toString("latin1") : utf8Bytes(node.path);
    const segments = path.split("/");
    const last = segments.pop();
    let into = root;
    for (const name of segments) {
      if (!into.folder.has(name)) into.folder.set(name, { folder: new Map() });
      into = into.folder.get(name);
    }
    into.folder.set(last, planted(node, lookUp));
  }
  return root;
}

// Names are kept as byte strings (one character a byte): JavaScript then sorts them by bytes.
const utf8Bytes = (text) => Buffer.from(text, "utf8").toString("latin1");

function planted(node, lookUp) {
  if ("folder" in node) return { folder: new Map() };
  if ("symlink" in node) return { symlink: utf8Bytes(node.symlink) };
  if ("hardlink" in node) return lookUp(utf8Bytes(node.hardlink).split("/"));
  if ("fifo" in node || "socket" in node) return { special: true };
  if ("utf8" in node) return { bytes: Buffer.from(node.utf8, "utf8") };
  return { bytes: "hex" in node ? Buffer.from(node.hex, "hex") : Buffer.alloc(node.times, node.repeat, "hex") };
}

// Follow path from the folder at the end of trail, an array of nodes from the root; links on the way are followed.
function walk(trail, path, followLast, links = 0) {
  if (links > 40) throw new Refused("E_SYMLINK");
  let segments = path.split("/").filter((name) => name !== "" && name !== ".");
  for (const [index, name] of segments.entries()) {
    if (name === "..") {
      trail = trail.length > 1 ? trail.slice(0, -1) : trail;
      continue;
    }
    const child = trail.at(-1).folder?.get(name);
    if (!child) throw new Refused("E_INPUT_MISSING");
    if ("symlink" in child && (followLast || index < segments.length - 1)) trail = walk(trail, child.symlink, true, links + 1);
    else trail = [...trail, child];
  }
  return trail;
}

function treeDigest(root, { path = "", exclude = [], follow = false } = {}) {
  const trail = walk([root], utf8Bytes(path), follow);
  const node = trail.at(-1);
  if ("symlink" in node) throw new Refused("E_SYMLINK");
  if ("special" in node) throw new Refused("E_SPECIAL_FILE");
  if ("bytes" in node) {
    const members = { digest: digestOf(node.bytes), schema: TREE, size: node.bytes.length, type: "file" };
    return digestOf(Buffer.from(canonical(object(members))));
  }
  return digestOf(folderDocument(trail, "", compile(exclude), follow, new Set([node])));
}

function folderDocument(trail, prefix, leavesOut, follow, above) {
  const entries = [];
  for (const name of [...trail.at(-1).folder.keys()].sort()) {
    const path = prefix + name;
    let child = trail.at(-1).folder.get(name);
    let into = [...trail, child];
    let fault;
    if ("symlink" in child && follow) {
      try {
        into = walk(trail, child.symlink, true);
        child = into.at(-1);
      } catch (error) {
        fault = error;
      }
    }
    if (leavesOut(fromBytes(path), "folder" in child)) continue;
    const shown = validUtf8(name);
    if (fault) throw fault;
    if ("symlink" in child) throw new Refused("E_SYMLINK");
    if ("special" in child) throw new Refused("E_SPECIAL_FILE");
    if (above.has(child)) throw new Refused("E_SYMLINK");
    const isFile = "bytes" in child;
    const data = isFile ? child.bytes : folderDocument(into, `${path}/`, leavesOut, follow, new Set([...above, child]));
    entries.push(object({ digest: digestOf(data), name: shown, size: data.length, type: isFile ? "file" : "folder" }));
  }
  return Buffer.from(canonical(object({ entries, schema: TREE, type: "folder" })));
}

function validUtf8(name) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Buffer.from(name, "latin1"));
  } catch {
    throw new Refused("E_NAME_ENCODING");
  }
}

const fromBytes = (name) => Buffer.from(name, "latin1").toString("utf8");

function listingDigest(entries) {
  const root = new Map();
  for (const { path, sha256: hash, size } of entries) {
    const segments = path.replace(/\/$/, "").split("/");
    const last = segments.pop();
    let into = root;
    for (const name of segments) {
      if (!into.has(name)) into.set(name, new Map());
      into = into.get(name);
    }
    into.set(last, path.endsWith("/") ? new Map() : { digest: `sha256:${hash}`, size });
  }
  const write = (folder) => {
    const names = [...folder.keys()].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    const made = names.map((name) => {
      const child = folder.get(name);
      if (!(child instanceof Map)) return object({ ...child, name, type: "file" });
      const data = write(child);
      return object({ digest: digestOf(data), name, size: data.length, type: "folder" });
    });
    return Buffer.from(canonical(object({ entries: made, schema: TREE, type: "folder" })));
  };
  return digestOf(write(root));
}

// 6. Exclude patterns, matched by backtracking, which remembers what failed

const CLASSES = {
  alnum: /[0-9A-Za-z]/, alpha: /[A-Za-z]/, blank: /[ \t]/, cntrl: /[\x00-\x1f\x7f]/, digit: /[0-9]/, graph: /[!-~]/,
  lower: /[a-z]/, print: /[ -~]/, punct: /[!-/:-@[-`{-~]/, space: /[ \t\n\r\f\v]/, upper: /[A-Z]/, xdigit: /[0-9A-Fa-f]/,
};

function compile(patterns) {
  const rules = patterns.map(compileOne).filter(Boolean).reverse();
  return (path, isFolder) => {
    const rule = rules.find((one) => (isFolder || !one.foldersOnly) && one.matches(path));
    return rule !== undefined && !rule.keep;
  };
}

function compileOne(pattern) {
  let text = pattern;
  while (text.endsWith(" ") && !/(?<!\\)(?:\\\\)*\\ $/.test(text)) text = text.slice(0, -1);
  if (text === "" || text.startsWith("#")) return null;
  const keep = text.startsWith("!");
  if (keep) text = text.slice(1);
  const foldersOnly = text.endsWith("/");
  if (foldersOnly) text = text.slice(0, -1);
  const whole = text.includes("/");
  const parts = parse([...text.replace(/^\//, "")]);
  const matches = (path) => parts !== null && match(parts, [...(whole ? path : path.slice(path.lastIndexOf("/") + 1))]);
  return { keep, foldersOnly, matches };
}

function parse(text) {
  const parts = [];
  for (let at = 0; at < text.length; ) {
    if (text[at] === "*") {
      const start = at;
      while (text[at] === "*") at++;
      const segment = at - start > 1 && (start === 0 || text[start - 1] === "/");
      if (segment && text[at] === "/") parts.push("folders"), at++;
      else parts.push(segment && at === text.length ? "all" : "star");
    } else if (text[at] === "?") parts.push(() => true), at++;
    else if (text[at] === "[") {
      const set = parseSet(text, at);
      if (!set) return null;
      parts.push(set.test);
      at = set.at;
    } else {
      if (text[at] === "\\") at++;
      if (at === text.length) return null;
      const char = text[at++];
      parts.push(char === "/" ? "/" : (c) => c === char);
    }
  }
  return parts;
}

function parseSet(text, start) {
  let at = start + 1;
  const negated = text[at] === "!" || text[at] === "^";
  if (negated) at++;
  const first = at;
  const tests = [];
  const literal = () => (text[at] === "\\" ? (at += 2, text[at - 1]) : text[at++]);
  while (text[at] !== "]" || at === first) {
    if (at >= text.length) return null;
    const close = text.indexOf("]", at + 2);
    if (text[at] === "[" && text[at + 1] === ":" && close > at + 2 && text[close - 1] === ":") {
      const known = CLASSES[text.slice(at + 2, close - 1).join("")];
      if (!known) return null;
      tests.push((c) => known.test(c));
      at = close + 1;
      continue;
    }
    const low = literal();
    let high = low;
    if (text[at] === "-" && text[at + 1] !== undefined && text[at + 1] !== "]") at++, (high = literal());
    if (low === undefined || high === undefined) return null;
    const [from, to] = [low.codePointAt(0), high.codePointAt(0)];
    tests.push((c) => c === low || (c.codePointAt(0) >= from && c.codePointAt(0) <= to));
  }
  return { at: at + 1, test: (c) => tests.some((test) => test(c)) !== negated };
}

function match(parts, text) {
  const failed = new Set();
  const from = (p, t) => {
    if (p === parts.length) return t === text.length;
    const key = p * (text.length + 1) + t;
    if (failed.has(key)) return false;
    const part = parts[p];
    let found = false;
    if (part === "all") found = t < text.length;
    else if (part === "star") found = from(p + 1, t) || (t < text.length && text[t] !== "/" && from(p, t + 1));
    else if (part === "folders") {
      const slash = text.indexOf("/", t);
      found = from(p + 1, t) || (slash >= 0 && from(p, slash + 1));
    } else if (part === "/") found = text[t] === "/" && from(p + 1, t + 1);
    else found = t < text.length && text[t] !== "/" && part(text[t]) && from(p + 1, t + 1);
    if (!found) failed.add(key);
    return found;
  };
  return from(0, 0);
}

// 7 to 9. Contracts that are well-formed

function resolve(contract, root, packs) {
  if (contract.has("schema")) return canonical(contract);
  const hash = (location, defaults) =>
    treeDigest(root, {
      path: location.get("path"),
      exclude: [...defaults, ...(location.get("exclude") ?? [])],
      follow: location.get("symlinks") === "follow",
    });
  const digestOfInput = (input) => {
    if (input.has("path")) return hash(input, []);
    if (input.has("digest")) return readDigest(input.get("digest"));
    if (!packs) throw new Refused("E_NO_PANTRY");
    readUri(input.get("uri"));
    return packs[input.get("uri")];
  };
  const inputs = contract.get("inputs").map((input) => [input.get("name"), object({ digest: digestOfInput(input) })]);
  const transforms = contract.get("transforms").map((transform) => {
    const has = (name) => transform.has(name);
    return object({
      code_hash: has("code") ? hash(transform.get("code"), ["__pycache__/", ".git"]) : transform.get("code_hash"),
      environment_hash: has("environment") ? hash(transform.get("environment"), []) : transform.get("environment_hash") ?? "undeclared",
      params: transform.get("params") ?? new Map(),
      tool: transform.get("tool"),
      tool_version: transform.get("tool_version"),
    });
  });
  const data = canonical(
    object({ inputs: new Map(inputs), salt: contract.get("salt") ?? "", schema: "ctxpack/contract/v1", transforms }),
  );
  if (Buffer.byteLength(data) > 4 * 1024 * 1024) throw new Refused("E_TOO_LARGE");
  return data;
}

// Questions

const tree = ({ nodes, root, exclude, symlinks }) => {
  if (root?.endsWith("/") && symlinks !== "follow") root = root.replace(/\/+$/, "");
  return { digest: treeDigest(plant(nodes), { path: root, exclude, follow: symlinks === "follow" }) };
};
const ANSWERS = {
  digest_of_bytes: ({ hex }) => ({ digest: digestOf(Buffer.from(hex, "hex")) }),
  digest: ({ text }) => ({ text: readDigest(text) }),
  uri: ({ text }) => ({ digest: readUri(text) }),
  json: ({ document }) => ({ output: canonical(readJson(Buffer.from(document, "hex"))) }),
  tree,
  listing: ({ entries }) => ({ digest: listingDigest(entries) }),
  exclude: ({ patterns, paths }) => {
    const leavesOut = compile(patterns);
    return { left_out: paths.filter((path) => leavesOut(path.replace(/\/$/, ""), path.endsWith("/"))) };
  },
  contract: ({ document, nodes, packs }) => {
    const data = resolve(readJson(Buffer.from(document, "hex")), plant(nodes), packs);
    return { canonical: data, uri: `ctx://${digestOf(Buffer.from(data))}` };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { ask, ...question } = JSON.parse(line);
  let answer;
  try {
    answer = ANSWERS[ask](question);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    answer = { code: error.code, pointer: error.pointer ?? null };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
