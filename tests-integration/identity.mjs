// A second implementation of packages/ctxpack-identity/SPEC.md, in memory, written from that document and the vectors alone.
// Reads one JSON question a line from stdin and answers each with one JSON line. node.py asks them.
import { createHash } from "node:crypto";
import os from "node:os";
import { createInterface } from "node:readline";

// faults: of each its code and its JSON pointer, which is null where no value of a document is at fault.
class Refused extends Error {
  constructor(faults) {
    super(faults.join());
    this.faults = faults;
  }
}

const refused = (code, pointer = null) => new Refused([[code, pointer]]);

function orElse(step, otherwise) {
  try {
    return step();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return otherwise(error);
  }
}

const attempts = (faults) => (step) => orElse(step, (error) => void faults.push(...error.faults));

// 1 and 2. URI and digest

const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");
const digestOf = (bytes) => `sha256:${sha256(bytes)}`;

const DIGEST = /^sha256:[0-9a-f]{64}$/;
const URI = /^ctx:\/\/sha256:[0-9a-f]{64}$/;

function readDigest(text) {
  if (!DIGEST.test(text)) throw refused("E_DIGEST");
  return text;
}

function readUri(text) {
  if (!URI.test(text)) throw refused("E_BAD_URI");
  return text.slice("ctx://".length);
}

// 3. Reading JSON. JSON.parse reports neither duplicate names nor how a number was written, so this is a parser.

function readJson(bytes) {
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw refused("E_JSON");
  }
  const token = /[ \t\n\r]*(?:([[\]{},:])|("(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")|(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)|(true|false|null|NaN|-?Infinity)|$)/y;
  let kind, value;
  const next = () => {
    const start = token.lastIndex;
    const match = token.exec(text);
    if (!match) throw refused("E_JSON");
    if (match[0] === "" && start === text.length) kind = "end";
    else if (match[1]) kind = match[1];
    else if (match[2]) [kind, value] = ["text", JSON.parse(match[2])];
    else if (match[3]) [kind, value] = ["number", match[3]];
    else if (match[4]) [kind, value] = ["word", match[4]];
    else kind = "end";
  };
  let count = 0;
  const counted = () => {
    if (++count > 262144) throw refused("E_TOO_LARGE");
  };
  const read = (at, depth) => {
    if (kind === "text") return take(checkText(value, at));
    if (kind === "number") return take(readNumber(value, at));
    if (kind === "word") {
      if (!["true", "false", "null"].includes(value)) throw refused("E_NAN", at);
      return take(JSON.parse(value));
    }
    if (kind !== "[" && kind !== "{") throw refused("E_JSON");
    if (depth === 64) throw refused("E_DEPTH");
    const close = kind === "[" ? "]" : "}";
    const made = close === "]" ? [] : new Map();
    next();
    while (kind !== close) {
      counted();
      if (close === "]") made.push(read(`${at}/${made.length}`, depth + 1));
      else {
        if (kind !== "text") throw refused("E_JSON");
        const name = value;
        const here = pointer(at, name);
        next();
        if (kind !== ":") throw refused("E_JSON");
        next();
        checkText(name, here);
        if (Buffer.byteLength(name) > 4096) throw refused("E_TOO_LARGE");
        if (made.has(name)) throw refused("E_DUP_KEY", here);
        made.set(name, read(here, depth + 1));
      }
      if (kind === ",") {
        next();
        if (kind === close) throw refused("E_JSON");
      } else if (kind !== close) throw refused("E_JSON");
    }
    return take(made);
  };
  const take = (result) => (next(), result);
  next();
  const result = read("", 0);
  if (kind !== "end") throw refused("E_JSON");
  return result;
}

const pointer = (at, name) => `${at}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`;

function checkText(text, at) {
  if (!text.isWellFormed()) throw refused("E_SURROGATE", at);
  return text;
}

function readNumber(written, at) {
  const value = Number(written);
  const isInteger = /^-?[0-9]+$/.test(written);
  if (Object.is(value, -0)) throw refused("E_NEGATIVE_ZERO", at);
  if (isInteger && inDigits(value) !== written) throw refused("E_INT_RANGE", at);
  if (!Number.isFinite(value)) throw refused("E_FLOAT_RANGE", at);
  return value;
}

// An integral number as it is printed, but with zeros in place of a positive exponent.
function inDigits(value) {
  const [digits, exponent = "0"] = String(value).split("e+");
  const [whole, fraction = ""] = digits.split(".");
  return whole + fraction.padEnd(Number(exponent), "0");
}

// 4. Canonical JSON: strings and numbers as this engine's JSON.stringify writes them, names as its sort orders them.

function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (!(value instanceof Map)) return JSON.stringify(value);
  return `{${[...value.keys()].sort().map((name) => `${JSON.stringify(name)}:${canonical(value.get(name))}`).join(",")}}`;
}

const object = (members) => new Map(Object.entries(members));

// 5. Tree digest. A tree is a Map of name to tree for a folder, {digest, size} for a file.
// Names are byte strings, one character a byte: JavaScript then sorts them by bytes.

const TREE = "ctxpack/tree/v1";
const toBytes = (text) => Buffer.from(text, "utf8").toString("latin1");
const fromBytes = (name) => Buffer.from(name, "latin1").toString("utf8");
const isFolder = (tree) => tree instanceof Map;

function folderDocument(folder) {
  const entries = [...folder.keys()].sort().map((name) => {
    const child = folder.get(name);
    if (!isFolder(child)) return object({ ...child, name: fromBytes(name), type: "file" });
    const data = folderDocument(child);
    return object({ digest: digestOf(data), name: fromBytes(name), size: data.length, type: "folder" });
  });
  return Buffer.from(canonical(object({ entries, schema: TREE, type: "folder" })));
}

function treeDigest(tree) {
  if (isFolder(tree)) return digestOf(folderDocument(tree));
  return digestOf(Buffer.from(canonical(object({ ...tree, schema: TREE, type: "file" }))));
}

const fileOf = (bytes) => ({ digest: digestOf(bytes), size: bytes.length });

// 5.3 From a file system, held in memory. A node is {folder: Map of name to node}, {bytes}, {symlink} or {special}.

function plant(nodes) {
  const root = { folder: new Map() };
  const lookUp = (segments) => segments.reduce((node, name) => node.folder.get(name), root);
  for (const node of nodes) {
    const path = "path_hex" in node ? Buffer.from(node.path_hex, "hex").toString("latin1") : toBytes(node.path);
    const segments = path.split("/");
    const last = segments.pop();
    let into = root;
    for (const name of segments) {
      if (!into.folder.has(name)) into.folder.set(name, { folder: new Map() });
      into = into.folder.get(name);
    }
    if (!("folder" in node && into.folder.has(last))) into.folder.set(last, planted(node, lookUp));
  }
  return root;
}

function planted(node, lookUp) {
  if ("folder" in node) return { folder: new Map() };
  if ("symlink" in node) return { symlink: toBytes(node.symlink) };
  if ("hardlink" in node) return lookUp(toBytes(node.hardlink).split("/"));
  if ("fifo" in node || "socket" in node) return { special: true };
  if ("utf8" in node) return { bytes: Buffer.from(node.utf8, "utf8") };
  return { bytes: Buffer.from("hex" in node ? node.hex : node.repeat.repeat(node.times), "hex") };
}

// A place is an array of {name, node}, from the root of the file system on. What is missing has no node.

const nodeAt = (place) => place.at(-1).node;
const isLink = (node) => node !== undefined && "symlink" in node;

// Go from a folder's place along path. Links on the way are followed; one in the last segment is, if asked for.
function walk(place, path, { followLast, mayMiss = false, links = 0 }) {
  if (links > 40) throw refused("E_SYMLINK");
  if (path.startsWith("/")) place = place.slice(0, 1);
  const segments = path.split("/");
  for (const [index, name] of segments.entries()) {
    if (index > 0 && !nodeAt(place)?.folder && !mayMiss) throw refused("E_INPUT_MISSING");
    if (name === "" || name === ".") continue;
    if (name === "..") {
      place = place.length > 1 ? place.slice(0, -1) : place;
      continue;
    }
    const node = nodeAt(place)?.folder?.get(name);
    if (name.length > 255 && !mayMiss) throw refused("E_PATH"); // as on most systems
    if (!node && !mayMiss) throw refused("E_INPUT_MISSING");
    const follow = isLink(node) && (followLast || index < segments.length - 1);
    place = follow ? walk(place, node.symlink, { followLast: true, mayMiss, links: links + 1 }) : [...place, { name, node }];
  }
  return place;
}

const bare = (path) => path.replace(/(?<=.)\/+$/s, "");

// The place of a root. A final / asks for a folder; it does not make a link followed.
function rootAt(from, path, follow) {
  const place = walk(from, follow ? path : bare(path), { followLast: follow });
  if (isLink(nodeAt(place))) throw refused("E_SYMLINK");
  if (path.endsWith("/") && !nodeAt(place).folder) throw refused("E_INPUT_MISSING");
  return place;
}

// The tree at a place. All faults are found, since it is not specified which one is reported.
// visit: called with each file and folder, its path, and the patterns that hold there.
function scan(place, patterns, follow, visit = () => {}) {
  const faults = [];
  const tree = scanned(place, "", patterns, follow, [], { refuse: (code) => faults.push([code, null]), visit });
  if (faults.length) throw new Refused(faults);
  return tree;
}

function scanned(place, prefix, patterns, follow, way, { refuse, visit }) {
  const node = nodeAt(place);
  visit(place, prefix, patterns);
  if (isLink(node)) return refuse("E_SYMLINK");
  if ("special" in node) return refuse("E_SPECIAL_FILE");
  if ("bytes" in node) return fileOf(node.bytes);
  const here = patterns.entering(node, prefix);
  const tree = new Map();
  for (const [name, child] of node.folder) {
    const path = prefix + name;
    const direct = [...place, { name, node: child }];
    const [into, fault] = isLink(child) && follow ? followed(place, child, [...way, place]) : [direct];
    if (here.leaveOut(path, Boolean(nodeAt(into)?.folder))) continue;
    if (toBytes(fromBytes(name)) !== name) refuse("E_NAME_ENCODING");
    if (fault) refuse(fault);
    else tree.set(name, scanned(into, `${path}/`, here, follow, [...way, place], { refuse, visit }));
  }
  return tree;
}

// Where a link leads, and the code if that may not be. A folder must not hold one that is on the way to the link.
function followed(place, link, way) {
  const into = orElse(() => walk(place, link.symlink, { followLast: true }), (error) => error);
  if (into instanceof Refused) return [[{}], into.faults[0][0]];
  const holds = way.some((above) => above.some(({ node }) => node === nodeAt(into)));
  return holds ? [into, "E_SYMLINK"] : [into];
}

// 5.4 From a listing, in canonical order

function fromListing(entries) {
  const root = new Map();
  let before;
  for (const { path, sha256: hash, size } of entries) {
    if (!path.isWellFormed()) throw refused("E_NAME_ENCODING");
    const segments = toBytes(path.replace(/\/$/, "")).split("/");
    if (!segments.every(isSegment)) throw refused("E_PATH");
    const file = path.endsWith("/") ? undefined : { digest: readDigest(`sha256:${hash}`), size };
    if (before && (isAtOrBelow(segments, before) || compareSegments(before, segments) > 0)) throw refused("E_PATH_ORDER");
    before = segments;
    let into = root;
    for (const name of segments.slice(0, -1)) {
      if (!into.has(name)) into.set(name, new Map());
      into = into.get(name);
    }
    into.set(segments.at(-1), file ?? new Map());
  }
  return root;
}

const isSegment = (name) => !["", ".", ".."].includes(name) && !/[/\0]/.test(name);

const isAtOrBelow = (segments, above) => above.every((name, index) => name === segments[index]);

function compareSegments(a, b) {
  const differs = a.findIndex((name, index) => name !== b[index]);
  if (differs === -1) return a.length - b.length;
  return a[differs] < (b[differs] ?? "") ? -1 : 1;
}

// 6. Exclude patterns, matched by backtracking, which remembers what failed. Patterns and paths are byte strings.

const CLASSES = {
  alnum: /[0-9A-Za-z]/, alpha: /[A-Za-z]/, blank: /[ \t]/, cntrl: /[\x00-\x1f\x7f]/, digit: /[0-9]/, graph: /[!-~]/,
  lower: /[a-z]/, print: /[ -~]/, punct: /[!-/:-@[-`{-~]/, space: /[ \t\n\r\f\v]/, upper: /[A-Z]/, xdigit: /[0-9A-Fa-f]/,
};
// RFC 3629, section 4, and any other byte.
const SEQUENCES = [
  /[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|\xed[\x80-\x9f][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}/,
  /\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}|[^]/,
];
const SEQUENCE = new RegExp(SEQUENCES.map(({ source }) => source).join("|"), "g");

// The characters of a byte string. A byte of no well-formed sequence is a lone surrogate, which no such sequence yields.
const characterOf = (bytes) =>
  /^[\x80-\xff]$/.test(bytes) ? String.fromCharCode(0xdc00 + bytes.charCodeAt(0)) : fromBytes(bytes);
const characters = (bytes) => (bytes.match(SEQUENCE) ?? []).map(characterOf);
const order = (character) => character.codePointAt(0) + (character.isWellFormed() ? 0 : 0x110000);

// Whether patterns leave a path out: true or false, undefined where none matches.
function compile(patterns) {
  const rules = patterns.map(compileOne).filter(Boolean).reverse();
  return (path, isFolder) => rules.find((rule) => (isFolder || !rule.foldersOnly) && rule.matches(path))?.leavesOut;
}

function compileOne(pattern) {
  let text = pattern.replace(/ +$/, "");
  if (text !== pattern && /(?<!\\)(?:\\\\)*\\$/.test(text)) text += " ";
  if (text === "" || text.startsWith("#")) return null;
  const leavesOut = !text.startsWith("!");
  if (!leavesOut) text = text.slice(1);
  const foldersOnly = text.endsWith("/");
  if (foldersOnly) text = text.slice(0, -1);
  const whole = text.includes("/");
  const parts = parse(characters(text.replace(/^\//, "")));
  const matches = (path) => parts !== null && match(parts, characters(whole ? path : path.slice(path.lastIndexOf("/") + 1)));
  return { leavesOut, foldersOnly, matches };
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
    tests.push((c) => c === low || (order(c) >= order(low) && order(c) <= order(high)));
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

// 6.1 Files of patterns. Lists of patterns in their order; in a folder that is entered, its file comes after those above.

function patternsOf(drops, exclude, files) {
  const first = [compile(drops)];
  const last = [compile(files ? [".git"] : []), compile(exclude.map(toBytes))];
  const within = (lists) => ({
    entering: (folder, prefix) => within(files ? [...lists, ...listIn(folder, (path) => path.slice(prefix.length))] : lists),
    leaveOut: (path, isFolder) =>
      [...first, ...lists, ...last].reduceRight((verdict, list) => verdict ?? list(path, isFolder), undefined) === true,
  });
  return within(files ?? []);
}

// The list of a folder's .gitignore. relative: makes a path of the root one of this folder.
function listIn(folder, relative) {
  const { bytes } = folder?.folder?.get(".gitignore") ?? {};
  if (!bytes) return [];
  if (bytes.length > 1024 * 1024) throw refused("E_TOO_LARGE");
  const lines = bytes.toString("latin1").replace(/^\xef\xbb\xbf/, "").split("\n");
  const verdict = compile(lines.map((line) => line.replace(/\r$/, "")));
  return [(path, isFolder) => verdict(relative(path), isFolder)];
}

// The lists of the contract file's folder and of each folder between it and the root.
function listsAbove(base, root) {
  if (base.at(-1).node !== root[base.length - 1]?.node) return [];
  return root.slice(base.length - 1, -1).flatMap(({ node }, index) => {
    const above = root.slice(base.length + index).map(({ name }) => `${name}/`).join("");
    return listIn(node, (path) => above + path);
  });
}

// 7. Contract file. A check takes a value, its pointer and perhaps its name, and returns faults: pairs of code and pointer.

const CODE_DROPS = [
  "__pycache__/", "*.pyc", ".git", ".pytest_cache/", ".mypy_cache/", ".ruff_cache/", "*.egg-info/", ".ipynb_checkpoints/",
  ".venv/", "ctxpack.lock", "*~", ".*.sw[a-p]", ".sw[a-p]", ".*.kate-swp", ".#*", "\\#*#",
];

const isText = (value) => typeof value === "string";
const isObject = (value) => value instanceof Map;
const passes = (one, value) => one(value, "").length === 0;

const check = (code, holds) => (value, at) => (holds(value) ? [] : [[code, at]]);
const all = (...checks) => (...value) => checks.flatMap((one) => one(...value));
const inTurn = (...checks) => (...value) => checks.reduce((faults, one) => (faults.length ? faults : one(...value)), []);

const anObject = check("E_TYPE", isObject);
const anArray = check("E_TYPE", Array.isArray);
const text = check("E_TYPE", isText);
const boolean = check("E_TYPE", (value) => typeof value === "boolean");
const word = (...words) => check("E_TYPE", (value) => words.includes(value));
const notEmpty = check("E_EMPTY", (value) => value.length > 0);
const filled = inTurn(text, notEmpty);
const noNul = (code) => check(code, (value) => !value.includes("\0"));
const like = (code, pattern) => check(code, (value) => pattern.test(value));
const digest = inTurn(check("E_DIGEST", isText), like("E_DIGEST", DIGEST));
const uri = inTurn(check("E_BAD_URI", isText), like("E_BAD_URI", URI));
const orWord = (word, other) => (value, at) => (value === word ? [] : other(value, at));

const elements = (one) => (value, at) => value.flatMap((element, index) => one(element, `${at}/${index}`));
const arrayOf = (one) => inTurn(anArray, elements(one));
const objectOf = (one) =>
  inTurn(anObject, (value, at) => [...value].flatMap(([name, member]) => one(member, pointer(at, name), name)));

// An object with these members. known: a function of the object, for what depends on other members.
const record = (known, required) =>
  inTurn(anObject, (value, at) => [
    ...required.filter((name) => !value.has(name)).map((name) => ["E_MISSING", pointer(at, name)]),
    ...[...value].flatMap(([name, member]) => {
      const here = pointer(at, name);
      const one = new Map(Object.entries(typeof known === "function" ? known(value) : known)).get(name);
      if (!one) return [["E_UNKNOWN_FIELD", here]];
      return member === null ? [["E_NULL", here]] : one(member, here);
    }),
  ]);

// Members that are listed, but mean nothing beside others.
const notHere = check("E_UNKNOWN_FIELD", () => false);
const withNotHere = (members, names) =>
  Object.fromEntries(Object.entries(members).map(([name, one]) => [name, names.includes(name) ? notHere : one]));

// Faults of names that must be unique, as [name, pointer]: of two equal ones the later is at fault.
function taken(code, names) {
  const seen = new Set();
  return names.filter(([name]) => seen.has(name) || !seen.add(name)).map(([, at]) => [code, at]);
}

// Inputs

const schemeOf = (path) => (isText(path) ? /^([A-Za-z][A-Za-z0-9+.-]+):\/\//.exec(path)?.[1] : undefined);
const REFUSED_SCHEMES = ["file", "local", "ctx"];
const aStore = check("E_SCHEME", (value) => !REFUSED_SCHEMES.includes(schemeOf(value)?.toLowerCase()));
const path = inTurn(filled, noNul("E_PATH"), aStore);
const BESIDE_PATH = { exclude: arrayOf(filled), symlinks: word("refuse", "follow"), gitignore: boolean, listing: boolean };
const NOT_BESIDE_URL = ["symlinks", "gitignore", "text"];
const NOT_BESIDE_URI = ["exclude", "symlinks", "gitignore"];
const besidePath = (value, members) => withNotHere(members, schemeOf(value.get("path")) ? NOT_BESIDE_URL : []);

const inputName = inTurn(filled, like("E_INPUT_NAME", /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/));
const besideOther = (value) => withNotHere(BESIDE_PATH, value.has("uri") ? NOT_BESIDE_URI : Object.keys(BESIDE_PATH));
const inputMembers = (value) => ({
  name: inputName, path, digest, uri, ...(value.has("path") ? besidePath(value, BESIDE_PATH) : besideOther(value)),
});
const oneOf = check("E_ONE_OF", (value) => ["path", "digest", "uri"].filter((name) => value.has(name)).length === 1);
const input = inTurn(anObject, all(record(inputMembers, ["name"]), oneOf));
const inputNames = (value, at) => {
  const names = value.map((one, index) => [isObject(one) && one.get("name"), `${at}/${index}/name`]);
  return taken("E_INPUT_NAME", names.filter(([name]) => passes(inputName, name)));
};
const inputs = inTurn(anArray, all(elements(input), inputNames));

// Outputs, and what else has the name that is given, or the last segment of its path

const isOutputName = (name) => isSegment(name) && !/[\\\0-\x1f\x7f-\x9f]/.test(name) && Buffer.byteLength(name) <= 255;
const lastSegment = (path) => (schemeOf(path) ? "" : path.replace(/\/+$/, "").split("/").at(-1));
const nameOf = (place) => place.get("name") ?? lastSegment(place.get("path"));
const names = (code, isName, path) => (value, at) => {
  const isGood = (place) => (place.has("name") ? passes(filled, place.get("name")) : passes(path, place.get("path")));
  const named = value
    .map((place, index) => [place, `${at}/${index}`])
    .filter(([place]) => isObject(place) && isGood(place))
    .map(([place, here]) => [nameOf(place), here]);
  const bad = named.filter(([name]) => !isName(name));
  return [...bad.map(([, here]) => [code, here]), ...taken(code, named.filter(([name]) => isName(name)))];
};

const outputPath = inTurn(path, check("E_SCHEME", (value) => !schemeOf(value)));
const { exclude, symlinks } = BESIDE_PATH;
const output = record({ path: outputPath, name: filled, exclude, symlinks }, ["path"]);
const outputs = inTurn(anArray, all(elements(output), names("E_OUTPUT_NAME", isOutputName, outputPath)));

// Command, variables, platform

const noNulText = inTurn(text, noNul("E_NUL"));
const firstFilled = (value, at) => (value[0] === "" ? [["E_EMPTY", `${at}/0`]] : []);
const commandArray = inTurn(anArray, notEmpty, all(firstFilled, elements(noNulText)));
const command = orWord("undeclared", commandArray);

const SECRET = ["KEY", "APIKEY", "TOKEN", "SECRET", "PASSWORD"];
const variableName = like("E_VARIABLE", /^[A-Za-z_][A-Za-z0-9_]*$/);
const fileVariableName = inTurn(
  variableName,
  check("E_VARIABLE", (name) => !name.startsWith("CTXPACK_")),
  check("E_SECRET", (name) => !name.toUpperCase().split("_").some((word) => SECRET.includes(word))),
);
const aVariable = inTurn(text, fileVariableName);
const variablesBy = (nameCheck) => objectOf((value, at, name) => [...nameCheck(name, at), ...noNulText(value, at)]);
const variableNames = (value, at) => {
  const good = value.map((name, index) => [name, `${at}/${index}`]).filter(([name]) => passes(aVariable, name));
  return [...elements(aVariable)(value, at), ...taken("E_VARIABLE", good)];
};
const variables = (value, at) => (Array.isArray(value) ? variableNames : variablesBy(fileVariableName))(value, at);

const platformBy = (mayBeAuto) =>
  objectOf((value, at, name) => inTurn(text, check("E_PLATFORM", () => value !== "auto" || mayBeAuto.includes(name)))(value, at));

// Transforms

const placed = (members) => record((value) => ({ path, ...besidePath(value, members) }), ["path"]);
const roots = (members, alone) => {
  const named = placed({ ...members, name: filled });
  const several = inTurn(anArray, notEmpty, all(elements(named), names("E_ROOT_NAME", isSegment, path)));
  const one = placed({ ...members, ...alone });
  return (value, at) => (Array.isArray(value) ? several : one)(value, at);
};
const code = roots(BESIDE_PATH, {});
const { gitignore, ...besideEnvironment } = BESIDE_PATH;
const environment = roots(besideEnvironment, { text: boolean });
const codeHash = orWord("opaque", digest);
const environmentHash = orWord("undeclared", digest);
const transformMembers = (value) => ({
  tool: filled, tool_version: filled, code, environment, params: anObject,
  code_hash: value.has("code") ? notHere : codeHash,
  environment_hash: value.has("environment") ? notHere : environmentHash,
});
const hasCode = check("E_CODE_MISSING", (value) => value.has("code") || value.has("code_hash"));
const transform = inTurn(anObject, all(record(transformMembers, ["tool", "tool_version"]), hasCode));

// The file as a whole. each and the rules of maps: section 9.2.

const fileMembers = {
  inputs, transforms: inTurn(anArray, notEmpty, elements(transform)), outputs, command, variables,
  platform: platformBy(["os", "arch"]), each: (value, at) => each([])(value, at), salt: text, labels: objectOf(text),
};

// Of an input that is at fault itself, a map says nothing.
const mapFile = (value, at) => {
  const inputs = [value.get("inputs")].flat();
  const over = value.get("each")?.get?.("input");
  const index = inputs.findIndex((one) => isObject(one) && one.get("name") === over);
  const goneOver = passes(input, inputs[index]) ? inputs[index] : new Map();
  return [
    ...mapRules(value, at, inputs.map((one) => isObject(one) && one.get("name"))),
    ...(goneOver.has("digest") ? [["E_EACH", `${at}/inputs/${index}`]] : []),
    ...(goneOver.get("listing") === false ? [["E_EACH", `${at}/inputs/${index}/listing`]] : []),
  ];
};
const noMap = record(fileMembers, ["inputs", "transforms"]);
const contractFile = inTurn(anObject, (value, at) => {
  if (value.has("schema")) return canonicalContract(value, at);
  return all(noMap, value.has("each") ? mapFile : () => [])(value, at);
});

// 9. Canonical contracts

const inputDigest = record({ digest }, ["digest"]);
const canonicalName = inTurn(filled, check("E_OUTPUT_NAME", isOutputName));
const inOrder = (value, at) => {
  const names = value.map((name) => (isText(name) ? toBytes(name) : undefined));
  return names.flatMap((name, index) => (name <= names[index - 1] ? [["E_OUTPUT_NAME", `${at}/${index}`]] : []));
};
const canonicalTransform = {
  tool: filled, tool_version: filled, params: anObject, code_hash: codeHash, environment_hash: environmentHash,
};
const contractMembers = {
  command,
  inputs: objectOf((value, at, name) => [...inputName(name, at), ...inputDigest(value, at)]),
  outputs: inTurn(anArray, all(elements(canonicalName), inOrder)),
  platform: platformBy([]),
  salt: text,
  schema: () => [],
  transforms: inTurn(anArray, notEmpty, elements(record(canonicalTransform, Object.keys(canonicalTransform)))),
  variables: variablesBy(variableName),
};
const mapCommand = inTurn(check("E_MISSING", (value) => value !== "undeclared"), commandArray);
const mapMembers = { ...contractMembers, command: mapCommand, each: (value, at) => each(["of", "by"])(value, at) };
const MEMBERS = {
  "ctxpack/contract/v1": contractMembers,
  "ctxpack/map/v1": mapMembers,
  "ctxpack/item/v1": mapMembers,
};

const isKnown = (schema) => isText(schema) && Object.hasOwn(MEMBERS, schema);
const canonicalContract = (value, at) => {
  const schema = value.get("schema") ?? (value.has("schema") ? null : "ctxpack/contract/v1");
  if (!isKnown(schema)) return [["E_SCHEMA", `${at}/schema`]];
  const known = MEMBERS[schema];
  const named = isObject(value.get("inputs")) ? [...value.get("inputs").keys()] : [];
  return [
    ...record(known, Object.keys(known))(value, at),
    ...(known === mapMembers ? mapRules(value, at, named) : []),
  ];
};

// 9.2 Map contract

const each = (alsoRequired) => {
  const members = { input: filled, of: word("files", "entries"), by: word("path", "content"), output: template };
  return record(members, ["input", "output", ...alsoRequired]);
};
const template = inTurn(filled, like("E_TEMPLATE", /^(?:[^{}]|\{\{|\}\}|\{(?:path|dir|suffix|stem)\})*$/));

const mapRules = (value, at, named) => {
  const [outputs, each] = [value.get("outputs") ?? [], value.get("each")];
  if (!isObject(each)) return [];
  return [
    ...(Array.isArray(outputs) && outputs.length !== 1 ? [["E_EACH", `${at}/outputs`]] : []),
    ...(passes(filled, each.get("input")) && !named.includes(each.get("input")) ? [["E_EACH", `${at}/each/input`]] : []),
    ...(Array.isArray(value.get("command")) ? namesAsCode(value.get("command"), `${at}/command`) : []),
  ];
};

// After -c an argument is code, so names of files must not be put into it.
const namesAsCode = (command, at) =>
  command.flatMap((one, index) => {
    const isCode = command[index - 1] === "-c" && isText(one) && /\{(?:item|out)\}/.test(one);
    return isCode ? [["E_COMMAND", `${at}/${index}`]] : [];
  });

// Reading both kinds

const MIB = 1024 * 1024;

function judged(check, value) {
  const faults = check(value, "");
  if (faults.length) throw new Refused(faults);
  return value;
}

function readContractFile(bytes) {
  if (bytes.length > 8 * MIB) throw refused("E_TOO_LARGE");
  return judged(contractFile, readJson(bytes));
}

function readCanonicalContract(bytes) {
  if (bytes.length > 4 * MIB) throw refused("E_TOO_LARGE");
  const value = readJson(bytes);
  if (!Buffer.from(canonical(value)).equals(bytes)) throw refused("E_NOT_CANONICAL");
  judged(inTurn(anObject, canonicalContract), value);
  if (bytes.length > mostOf(value)) throw refused("E_TOO_LARGE");
  return value;
}

const mostOf = (value) => 4 * MIB - (value.get("schema") === "ctxpack/map/v1" ? 1 : 0);

// 8. Resolution. All faults are found, since it is not specified which one is reported. Only an output inside of what
// is hashed hides what hashing would find.
// world: base (the place of the contract file's folder), packs, environ, machine, given (a command beside the file).

function resolve(contract, world) {
  const faults = [];
  const attempt = attempts(faults);
  const stopAtFaults = () => {
    if (faults.length) throw new Refused(faults);
  };
  const command = world.given ?? contract.get("command") ?? "undeclared";
  faults.push(...commandFaults(contract, world.given));
  if (contract.has("schema")) {
    stopAtFaults();
    return written(new Map([...contract, ["command", command]]));
  }
  const variables = attempt(() => variablesOf(contract, world.environ));
  for (const output of contract.get("outputs") ?? [])
    for (const [root, drops] of hashedRoots(contract)) attempt(() => outside(output, root, drops, world.base));
  if (faults.some(([code]) => code === "E_OUTPUT_INSIDE")) stopAtFaults();
  for (const output of contract.get("outputs") ?? [])
    for (const [root, drops] of hashedRoots(contract)) attempt(() => notLinked(output, root, drops, world.base));

  const over = contract.get("each")?.get("input");
  const trees = new Map();
  const digestOfInput = (input) => {
    if (input.has("digest")) return input.get("digest");
    if (input.has("uri")) return digestOfPack(input.get("uri"), world.packs);
    const tree = hashRoot(input, [], world.base);
    if (input.get("name") === over && !isFolder(tree)) throw refused("E_EACH");
    trees.set(input.get("name"), tree);
    return treeDigest(tree);
  };
  const inputs = contract.get("inputs").map((input) => {
    const digest = attempt(() => digestOfInput(input));
    return [input.get("name"), object({ digest })];
  });
  const transforms = contract.get("transforms").map((transform) =>
    object({
      code_hash: attempt(() => codeHashOf(transform, world.base)),
      environment_hash: attempt(() => environmentHashOf(transform, world.base)),
      params: transform.get("params") ?? new Map(),
      tool: transform.get("tool"),
      tool_version: transform.get("tool_version"),
    }),
  );
  stopAtFaults();
  const told = ([name, word]) => [name, word === "auto" ? world.machine[name] : word];
  const value = object({
    command,
    inputs: new Map(inputs),
    outputs: sortedByBytes((contract.get("outputs") ?? []).map(nameOf)),
    platform: new Map([...(contract.get("platform") ?? [])].map(told)),
    salt: contract.get("salt") ?? "",
    schema: over === undefined ? "ctxpack/contract/v1" : "ctxpack/map/v1",
    transforms,
    variables,
  });
  if (over !== undefined) value.set("each", new Map([["of", "files"], ["by", "path"], ...contract.get("each")]));
  return { ...written(value), over: trees.get(over) };
}

// What section 3 refuses has no canonical bytes.
function written(value) {
  const data = Buffer.from(canonical(value));
  if (data.length > mostOf(value)) throw refused("E_TOO_LARGE");
  readJson(data);
  return { value, data };
}

const sortedByBytes = (texts) => texts.map(toBytes).sort().map(fromBytes);

// The command given beside the file, if it may be one and is no other than the file's.
const commandFaults = (contract, given) => {
  const own = contract.get("command") ?? "undeclared";
  const isMap = contract.has("each");
  if (!given) return isMap && own === "undeclared" ? [["E_MISSING", "/command"]] : [];
  const differs = own !== "undeclared" && JSON.stringify(given) !== JSON.stringify(own);
  const asCode = isMap ? namesAsCode : () => [];
  return [...all(commandArray, asCode)(given, "/command"), ...(differs ? [["E_COMMAND", "/command"]] : [])];
};

function variablesOf(contract, environ) {
  const declared = contract.get("variables") ?? new Map();
  if (!Array.isArray(declared)) return declared;
  const bad = declared.filter((name) => !environ.get(name)?.isWellFormed());
  if (bad.length) throw new Refused(bad.map((name) => [environ.has(name) ? "E_VARIABLE" : "E_UNSET", "/variables"]));
  return new Map(declared.map((name) => [name, environ.get(name)]));
}

const listOf = (roots) => (roots === undefined ? [] : [roots].flat());
const hashedRoots = (contract) =>
  [
    ...contract.get("inputs").filter((input) => input.has("path")).map((input) => [input, []]),
    ...contract.get("transforms").flatMap((transform) => [
      ...listOf(transform.get("code")).map((root) => [root, CODE_DROPS]),
      ...listOf(transform.get("environment")).map((root) => [root, []]),
    ]),
  ].filter(([root]) => !schemeOf(root.get("path")));

const patternsFor = (root, drops, place, base) =>
  patternsOf(drops, root.get("exclude") ?? [], root.get("gitignore") ? listsAbove(base, place) : undefined);

const namesOf = (place) => place.map(({ name }) => name);

const placeOf = (one, base, followLast) => walk(base, bare(toBytes(one.get("path"))), { followLast, mayMiss: true });

// An output that is a link, with or without a final /, lies where it is, and where it leads, if anywhere.
const placesOf = (output, base) =>
  [false, true].flatMap((followLast) => orElse(() => [placeOf(output, base, followLast)], () => []));

function outside(output, root, drops, base) {
  const top = placeOf(root, base, true);
  const patterns = patternsFor(root, drops, top, base);
  for (const out of placesOf(output, base)) if (isHashed(out, top, "", patterns, root, drops)) throw refused("E_OUTPUT_INSIDE");
}

// Whether an output is reached through a link that is followed.
function notLinked(output, root, drops, base) {
  if (root.get("symlinks") !== "follow") return;
  const outs = placesOf(output, base);
  let found = false;
  const visit = (at, prefix, patterns) => {
    found ||= outs.some((out) => isHashed(out, at, prefix, patterns, root, drops));
  };
  const scanAll = () => {
    const top = rootAt(base, toBytes(root.get("path")), true);
    if (nodeAt(top).folder) scan(top, patternsFor(root, drops, top, base), true, visit);
  };
  orElse(scanAll, () => undefined); // what is wrong with it is found when it is hashed
  if (found) throw refused("E_OUTPUT_INSIDE");
}

const isHashed = (out, top, path, patterns, root, drops) =>
  isAtOrBelow(namesOf(out), namesOf(top)) && !isLeftOut(out, top, path, patterns, root, drops);

// Whether patterns leave out what lies at out, below top, or what would be made there: a folder, or a file.
// path: of top in the root.
function isLeftOut(out, top, path, patterns, root, drops) {
  if (nodeAt(top) && !nodeAt(top).folder) return false;
  const followLast = root.get("symlinks") === "follow";
  for (let above = top; above.length < out.length; above = out.slice(0, above.length + 1)) {
    const prefix = path + namesOf(above.slice(top.length)).map((one) => `${one}/`).join("");
    const { name, node } = out[above.length];
    const isLast = above.length === out.length - 1;
    const found = orElse(() => nodeAt(walk(above, name, { followLast })), () => undefined);
    const kinds = found ? [Boolean(found.folder)] : isLast && !node ? [true, false] : [!node];
    patterns = patterns.entering(nodeAt(above), prefix);
    if (kinds.some((isFolder) => patterns.leaveOut(prefix + name, isFolder))) return true;
    if (!node && drops !== CODE_DROPS && !root.get("gitignore")) return false; // a folder that would be made, and would be there
  }
  return false;
}

function hashRoot(root, drops, base) {
  if (schemeOf(root.get("path"))) throw refused("E_SCHEME");
  const follow = root.get("symlinks") === "follow";
  const place = rootAt(base, toBytes(root.get("path")), follow);
  const tree = scan(place, nodeAt(place).folder ? patternsFor(root, drops, place, base) : undefined, follow);
  return root.get("gitignore") ? withoutEmptyFolders(tree) ?? new Map() : tree;
}

function hashRoots(roots, drops, base) {
  if (!Array.isArray(roots)) return hashRoot(roots, drops, base);
  const faults = [];
  const attempt = attempts(faults);
  const trees = roots.map((root) => [toBytes(nameOf(root)), attempt(() => hashRoot(root, drops, base))]);
  if (faults.length) throw new Refused(faults);
  return new Map(trees);
}

function digestOfPack(uri, packs) {
  if (!packs) throw refused("E_NO_PANTRY");
  return packs[uri];
}

function codeHashOf(transform, base) {
  if (!transform.has("code")) return transform.get("code_hash");
  const tree = withoutEmptyFolders(hashRoots(transform.get("code"), CODE_DROPS, base));
  if (!tree) throw refused("E_CODE_EMPTY");
  return treeDigest(tree);
}

function withoutEmptyFolders(tree) {
  if (!isFolder(tree)) return tree;
  const kept = [...tree].map(([name, child]) => [name, withoutEmptyFolders(child)]).filter(([, child]) => child);
  return kept.length ? new Map(kept) : undefined;
}

function environmentHashOf(transform, base) {
  if (!transform.has("environment")) return transform.get("environment_hash") ?? "undeclared";
  const roots = transform.get("environment");
  const hash = treeDigest(hashRoots(roots, [], base));
  if (!Array.isArray(roots) && roots.get("text")) {
    const { bytes } = nodeAt(rootAt(base, toBytes(roots.get("path")), roots.get("symlinks") === "follow"));
    if (!bytes) throw refused("E_TEXT");
    if (bytes.length > MIB) throw refused("E_TOO_LARGE");
    if (toBytes(bytes.toString("utf8")) !== bytes.toString("latin1")) throw refused("E_TEXT");
  }
  return hash;
}

// 9.2 to 9.4. Items of a map, their contracts, and where their results lie

function itemsOf({ value, over }) {
  const rules = value.get("each");
  const items = rules.get("of") === "files" ? filesOf(over) : [...over].map(([name, tree]) => [[name], tree]);
  return items.sort(([a], [b]) => compareSegments(a, b)).map(([segments, tree]) => {
    const path = segments.map(fromBytes).join("/");
    const parts = partsOf(path, isFolder(tree));
    const held = rules.get("by") === "path" ? segments : [`item${toBytes(parts.suffix)}`];
    const digest = treeDigest(held.reduceRight((inner, name) => new Map([[name, inner]]), tree));
    const inputs = new Map([...value.get("inputs"), [rules.get("input"), object({ digest })]]);
    const { data } = written(new Map([...value, ["schema", "ctxpack/item/v1"], ["inputs", inputs]]));
    return { path, digest, output: filledIn(rules.get("output"), parts), uri: `ctx://${digestOf(data)}` };
  });
}

const filesOf = (folder, above = []) =>
  [...folder].flatMap(([name, tree]) => (isFolder(tree) ? filesOf(tree, [...above, name]) : [[[...above, name], tree]]));

function partsOf(path, isFolder) {
  const last = path.slice(path.lastIndexOf("/") + 1);
  const dot = last.lastIndexOf(".");
  const suffix = isFolder || dot <= 0 || dot === last.length - 1 ? "" : last.slice(dot);
  return { path, dir: path.slice(0, path.length - last.length), suffix, stem: last.slice(0, last.length - suffix.length) };
}

const filledIn = (template, parts) =>
  template.replace(/\{\{|\}\}|\{(path|dir|suffix|stem)\}/g, (found, name) => (name ? parts[name] : found[0]));

// Paths of results are those of a pack: of at most 1,024 bytes, in segments that are names of outputs.
function checkResults(items) {
  const isPath = (path) => path.split("/").every(isOutputName) && Buffer.byteLength(path) <= 1024;
  const bad = items.filter(({ output }) => !isPath(output));
  if (bad.length) throw new Refused(bad.map(({ path }) => ["E_PATH", path]));
  const sorted = items.map(({ path, output }) => [toBytes(output).split("/"), path]).sort(([a], [b]) => compareSegments(a, b));
  for (const [index, [segments, path]] of sorted.slice(1).entries()) {
    const [before, other] = sorted[index];
    if (isAtOrBelow(segments, before)) throw new Refused([["E_EACH", other], ["E_EACH", path]]);
  }
}

// Questions

const machine = () => ({ os: process.platform, arch: { x86_64: "amd64", aarch64: "arm64" }[os.machine()] ?? os.machine() });
// Nodes lie in /folder, so that what is absolute, or above, is elsewhere.
const world = ({ nodes, base: path = "", packs, environ: given = {}, given_command: command }) => {
  const root = { name: "", node: { folder: new Map([["folder", plant(nodes)]]) } };
  const base = walk([root], `/folder/${toBytes(path)}`, { followLast: true });
  return { base, packs, environ: new Map(Object.entries(given)), machine: machine(), given: command };
};
const bytesOf = ({ document }) => Buffer.from(document, "hex");

const ANSWERS = {
  digest_of_bytes: ({ hex }) => ({ digest: digestOf(Buffer.from(hex, "hex")) }),
  digest: ({ text }) => ({ text: readDigest(text) }),
  uri: ({ text }) => ({ digest: readUri(text) }),
  json: (question) => ({ output: canonical(readJson(bytesOf(question))) }),
  tree: ({ root = "", exclude = [], symlinks, gitignore, ...rest }) => {
    const location = object({ path: `/folder/${root}`, exclude, symlinks, gitignore });
    return { digest: treeDigest(hashRoot(location, [], world(rest).base)) };
  },
  listing: ({ entries }) => ({ digest: treeDigest(fromListing(entries)) }),
  exclude: ({ patterns, paths }) => {
    const leavesOut = compile(patterns.map(toBytes));
    return { left_out: paths.filter((path) => leavesOut(toBytes(path.replace(/\/$/, "")), path.endsWith("/"))) };
  },
  items: ({ contract, entries }) => {
    const items = itemsOf({ value: readCanonicalContract(Buffer.from(contract)), over: fromListing(entries) });
    checkResults(items);
    return { items };
  },
  contract_file: (question) => (readContractFile(bytesOf(question)), {}),
  canonical_contract: (question) => (readCanonicalContract(bytesOf(question)), {}),
  contract: (question) => {
    const { data } = resolve(readContractFile(bytesOf(question)), world(question));
    return { canonical: data.toString(), uri: `ctx://${digestOf(data)}` };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { ask, ...question } = JSON.parse(line);
  let answer;
  try {
    answer = ANSWERS[ask](question);
  } catch (error) {
    answer = error instanceof Refused ? { faults: error.faults } : { bug: error.stack };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
