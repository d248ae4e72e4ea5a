// A site's folder and the one beside it: what may be replaced there, and how it is replaced so that the page goes on
// working.
import { createHash } from "node:crypto";
import { lstat, mkdir, open, readdir, readFile, realpath, rename, rm, rmdir, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve, sep } from "node:path";

import { byBytes } from "./node-photos.js";

const OWN_FILES = "magpie-files.json";
const HEADERS = "_headers";
const VERSION = 1;
const PACKED = [".br", ".gz"];
const REPORT = "index.html";
const GALLERY = "gallery.bin";
const RECORDS = "records";
// In a report's folder: what this command wrote there last.
const WRITTEN = "written.json";
// Behind a report: the SHA-256 of all before, by which one is known that somebody has edited since.
const MARK = "<!-- as magpie wrote it: ";
const MARK_END = " -->\n";
// First bytes of a gallery, and of what the native command keeps.
const OWN = ["MAGPIEGL", "magpie embeddings "];
// Most names in a message.
const NAMED = 5;

export const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

const orNull = async (promise) => promise.catch(() => null);
const isThere = async (path) => (await orNull(lstat(path))) !== null;

/** A path behind links, also where its last parts are not there yet. */
async function whole(path) {
  const full = resolve(path);
  const real = await orNull(realpath(full));
  if (real) return real;
  const above = dirname(full);
  return above === full ? full : join(await whole(above), basename(full));
}

/** Whether a path is another one or lies in it. */
export async function isWithin(path, folder) {
  const [inner, outer] = await Promise.all([whole(path), whole(folder)]);
  return inner === outer || inner.startsWith(outer.endsWith(sep) ? outer : outer + sep);
}

/** Writes a file that is on the disk when this ends. */
async function put(path, bytes) {
  await mkdir(dirname(path), { recursive: true });
  const file = await open(path, "w");
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Writes beside, then takes the place of what was there. */
async function replace(path, bytes) {
  const beside = join(dirname(path), `.${basename(path)}.${process.pid}.new`);
  try {
    await put(beside, bytes);
    await rename(beside, path);
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
}

/** Names beside a file, the plainest first. */
function* namesBeside(name, ending) {
  yield `${name}${ending}`;
  for (let number = 2; ; number += 1) yield `${name}${ending}-${number}`;
}

/** Keeps bytes under a name beside a file that nothing has, or the same bytes; the name. */
async function keepBeside(folder, name, ending, bytes) {
  for (const beside of namesBeside(name, ending)) {
    const path = join(folder, beside);
    const there = await orNull(readFile(path));
    if (there ? there.equals(bytes) : !(await isThere(path))) {
      if (!there) await replace(path, bytes);
      return beside;
    }
  }
  throw new Error(`${name}: no name is free beside it`);
}

const isPlain = (name) =>
  typeof name === "string" && name.split("/").every((part) => part && !part.startsWith(".") && !part.includes("\\"));

/** The list of a site's own files; null where no site was published. */
async function listOf(place) {
  const path = join(place, OWN_FILES);
  if (!(await isThere(path))) return null;
  const told = (reason) => new Error(`${path}: ${reason}; name another folder, or take this list away`);
  let list;
  try {
    list = JSON.parse(await readFile(path, "utf8"));
  } catch {
    throw told("is not a list of a site's own files");
  }
  if (!(list?.version >= 1) || !Array.isArray(list.files)) throw told("is not a list of a site's own files");
  if (list.version > VERSION) throw told(`is of version ${list.version}, this program knows ${VERSION}`);
  const wrong = list.files.find((name) => !isPlain(name));
  if (wrong !== undefined) throw told(`${JSON.stringify(wrong)} is no name of a site's file`);
  const digests = new Map(Object.entries(list.digests ?? {}));
  return { files: new Set(list.files), digests, edited: new Set(list.edited) };
}

const unpacked = (name) => name.replace(/\.(br|gz)$/, "");

/** What is named by fewer comes later. */
function rank(name) {
  if (name === "sw.js") return 5;
  if (name === "precache.json") return 4;
  if (name === "index.html" || name.endsWith("/index.html")) return 3;
  if (name === "bundle/manifest.json") return 2;
  return /-[0-9a-f]{16}\.[^./]*$/.test(name) ? 0 : 1;
}

/** Names of a site in the order in which they go to their places: packed copies behind what they are of. */
function inTurn(names) {
  return [...names].sort((one, other) => {
    const [first, second] = [unpacked(one), unpacked(other)];
    // What is no copy is the shorter name.
    return rank(first) - rank(second) || byBytes(first, second) || byBytes(one, other);
  });
}

/** Where a site is to be published: empty, not there yet, or the place of a published site. */
export class Place {
  #out;
  #place = "";
  #draft = "";
  /** @type {{ files: Set<string>, digests: Map<string, string>, edited: Set<string> } | null} */
  #before = null;
  // What stays as somebody has edited it.
  #stays = new Set();
  #tell;

  constructor(out, tell) {
    this.#out = out;
    this.#tell = tell;
  }

  /** Refuses a place of somebody else's files; takes away what a command that was ended has left. */
  static async check(out, tell) {
    const site = new Place(out, tell);
    const there = await orNull(stat(out));
    if (there && !there.isDirectory()) throw new Error(`${out}: is a file; name a folder`);
    site.#place = await whole(out);
    const name = basename(site.#place);
    if (!name) throw new Error(`${out}: names no folder; choose another one`);
    site.#draft = join(dirname(site.#place), `.${name}.magpie-npm-new`);
    await rm(site.#draft, { recursive: true, force: true });
    if (!there) return site;
    site.#before = await listOf(site.#place);
    if (site.#before) return site;
    // What a folder that a host takes its files from has before the first publishing.
    const isOther = (name) => !name.startsWith(".") && name !== "CNAME";
    const others = (await readdir(site.#place)).filter(isOther).sort(byBytes);
    if (others.length) {
      const what = (await stat(join(site.#place, others[0]))).isDirectory() ? "another folder" : "other files";
      throw new Error(`${out}: holds ${what} (${others[0]}); choose an empty folder`);
    }
    return site;
  }

  /** The title of the site that stands there, if one does. */
  async title() {
    if (!this.#before) return undefined;
    try {
      const { title } = JSON.parse(await readFile(join(this.#place, "bundle", "manifest.json"), "utf8"));
      return typeof title === "string" ? title : undefined;
    } catch {
      // Without a manifest that can be read there is no title to keep.
      return undefined;
    }
  }

  /** Checks that nothing of others has the name of one of the site's files. */
  async #refuse(names) {
    const isOwn = (name) => this.#before?.files.has(name) ?? false;
    const hindering = new Set();
    for (const name of names) {
      const parts = name.split("/");
      for (let length = 1; length <= parts.length; length += 1) {
        const path = parts.slice(0, length).join("/");
        const there = await orNull(lstat(join(this.#place, path)));
        if (!there) break;
        const isWhole = length === parts.length;
        if (isWhole ? there.isDirectory() || !isOwn(path) : !there.isDirectory() && !isOwn(path)) hindering.add(path);
      }
    }
    if (!hindering.size) return;
    const more = hindering.size > NAMED ? ` and ${hindering.size - NAMED} more` : "";
    throw new Error(
      `${this.#out}: holds ${[...hindering].slice(0, NAMED).join(", ")}${more}, which magpie did not write there and ` +
        "the new site has as well; move that away or choose another folder",
    );
  }

  /** Keeps what somebody has changed in the site's files since they were published: the file for hosts as it is, with
   * the new one beside it, and of others a copy beside the new one. Says so. */
  async #keepEdited(files) {
    const kept = new Set();
    for (const [name, digest] of this.#before?.digests ?? []) {
      if (unpacked(name) !== name || name.startsWith("bundle/") || name === OWN_FILES) continue;
      const there = await orNull(readFile(join(this.#place, name)));
      if (!there || (sha256(there) === digest && !this.#before?.edited.has(name))) continue;
      const now = files.get(name);
      if (now && Buffer.from(now).equals(there)) continue;
      const shown = join(this.#out, name);
      if (now && name === HEADERS) {
        files.set(`${HEADERS}.new`, now);
        files.set(HEADERS, there);
        kept.add(HEADERS);
        const beside = `what magpie would write there is beside it, as ${HEADERS}.new`;
        this.#tell(`note: ${shown}: has been edited and is kept; ${beside}`);
        continue;
      }
      const beside = await keepBeside(this.#place, name, ".edited", there);
      const what = now ? "is replaced" : "is no part of the new site";
      this.#tell(`note: ${shown}: has been edited and ${what}; the edited one is kept as ${basename(beside)}`);
    }
    return kept;
  }

  /** Puts a site that consists of these files, bytes by name, into its place. */
  async publish(given) {
    const files = new Map(given);
    const wrong = [...files.keys()].find((name) => !isPlain(name));
    if (wrong !== undefined) throw new Error(`${JSON.stringify(wrong)}: is no name of a site's file; rename it`);
    await this.#refuse([...files.keys()]);
    this.#stays = await this.#keepEdited(files);
    // Copies have come since the engine made its list.
    files.set(OWN_FILES, listAnew(files, this.#stays));
    try {
      await mkdir(this.#draft, { recursive: true });
      for (const [name, bytes] of files) await put(join(this.#draft, name), bytes);
      await mkdir(dirname(this.#place), { recursive: true });
      if (await isThere(this.#place)) await this.#moveIn([...files.keys()]);
      else await rename(this.#draft, this.#place);
    } finally {
      await rm(this.#draft, { recursive: true, force: true });
    }
  }

  // One by one: what others name first, so that the page goes on working.
  async #moveIn(names) {
    const before = this.#before?.files ?? new Set();
    const half = (error) => new Error(`${this.#out}: is half replaced; publish again: ${error.message}`);
    const all = [...new Set([...names, ...before, OWN_FILES])].sort(byBytes);
    // Whatever the next publishing finds of either site is its own.
    const list = { version: VERSION, files: all };
    await replace(join(this.#place, OWN_FILES), JSON.stringify(list, null, 2));
    try {
      const news = new Set(names);
      for (const name of inTurn(names.filter((name) => name !== OWN_FILES))) {
        if (unpacked(name) === name) {
          // A host would send a packed copy of before in the place of the new file.
          const copies = PACKED.map((ending) => name + ending).filter((copy) => before.has(copy));
          for (const copy of copies) await rm(join(this.#place, copy), { force: true });
        }
        for (let at = name.indexOf("/"); at > 0; at = name.indexOf("/", at + 1)) {
          if (before.has(name.slice(0, at))) await rm(join(this.#place, name.slice(0, at)), { force: true });
        }
        if (this.#stays.has(name)) continue;
        const target = join(this.#place, name);
        await mkdir(dirname(target), { recursive: true });
        await rename(join(this.#draft, name), target);
      }
      const gone = [...before].filter((name) => !news.has(name) && name !== OWN_FILES);
      for (const name of gone) await rm(join(this.#place, name), { force: true });
      await rename(join(this.#draft, OWN_FILES), join(this.#place, OWN_FILES));
      const folders = new Set(gone.flatMap((name) => (name.includes("/") ? [dirname(name)] : [])));
      // Only an empty one goes.
      for (const folder of [...folders].sort(byBytes).reverse()) await orNull(rmdir(join(this.#place, folder)));
    } catch (error) {
      throw half(error);
    }
  }

  /** Reads the site again and compares every file with the list; their number. */
  async verify() {
    const list = await listOf(this.#place);
    for (const name of list?.files ?? []) {
      const bytes = await orNull(readFile(join(this.#place, name)));
      if (!bytes) throw new Error(`${join(this.#out, name)}: is not there, though the site was just written`);
      const digest = list?.digests.get(name);
      if (digest && sha256(bytes) !== digest) throw new Error(`${join(this.#out, name)}: is not as it was written`);
    }
    return list?.files.size ?? 0;
  }

  /** Takes away what is not finished. */
  async end() {
    await rm(this.#draft, { recursive: true, force: true });
  }
}

/** The list of a site's own files with the digests of these, and which of them somebody has edited. */
function listAnew(files, edited) {
  const names = [...files.keys()].sort(byBytes);
  const digests = names.filter((name) => name !== OWN_FILES).map((name) => [name, sha256(files.get(name))]);
  const list = { version: VERSION, files: names, digests: Object.fromEntries(digests) };
  return Buffer.from(JSON.stringify(edited.size ? { ...list, edited: [...edited] } : list, null, 2));
}

/** What lies beside a site: its report, its gallery, and what is known of the photographs. */
export class Beside {
  #tell;
  #lock;
  /** @type {string | null} */
  #records = null;

  constructor(out, tell) {
    // As it was given, where that has a name.
    const named = /(^|[/\\])\.{1,2}[/\\]*$/.test(out) ? resolve(out) : out;
    this.folder = `${named.replace(/[/\\]+$/, "")}.report`;
    this.gallery = join(this.folder, GALLERY);
    this.report = join(this.folder, REPORT);
    this.#lock = join(this.folder, ".magpie-npm.lock");
    this.#tell = tell;
  }

  /** Refuses a folder that another program has filled: what is written would replace it. */
  async check() {
    const names = (await orNull(readdir(this.folder))) ?? [];
    const files = [GALLERY, "embeddings.bin", REPORT].filter((name) => names.includes(name));
    const begins = async (name) => {
      const bytes = await orNull(readFile(join(this.folder, name)));
      return OWN.some((mark) => bytes?.subarray(0, mark.length).toString("latin1") === mark);
    };
    const own = await Promise.all([GALLERY, "embeddings.bin"].map(begins));
    const isOwn = files.length === 0 || own.some(Boolean);
    if (!names.includes("bundle") && isOwn) return;
    throw new Error(
      `${this.folder}: is not a report that magpie wrote, and it would be written there; move it away, or choose ` +
        "another --out",
    );
  }

  /** Keeps other runs of the command out until `unlock`. */
  async lock() {
    await mkdir(this.folder, { recursive: true });
    for (let tries = 0; tries < 2; tries += 1) {
      try {
        return await writeFile(this.#lock, String(process.pid), { flag: "wx" });
      } catch (error) {
        if (error.code !== "EEXIST") throw error;
      }
      const holder = Number(await orNull(readFile(this.#lock, "utf8")));
      if (isRunning(holder)) {
        const who = `another command (process ${holder})`;
        throw new Error(`${this.folder}: ${who} is making this site; wait until it has ended`);
      }
      await rm(this.#lock, { force: true });
    }
    throw new Error(`${this.folder}: another command is making this site; wait until it has ended`);
  }

  async unlock() {
    await rm(this.#lock, { force: true });
  }

  /** Opens the records of networks; those of others are of no use any more. */
  async openRecords(key) {
    const all = join(this.folder, RECORDS);
    const name = sha256(key).slice(0, 16);
    for (const other of (await orNull(readdir(all))) ?? []) {
      if (other !== name) await rm(join(all, other), { recursive: true, force: true });
    }
    this.#records = join(all, name);
    await mkdir(this.#records, { recursive: true });
    return new Set(await readdir(this.#records));
  }

  record(content) {
    return orNull(readFile(join(String(this.#records), content)));
  }

  async keepRecord(content, bytes) {
    await replace(join(String(this.#records), content), bytes);
  }

  async forgetRecord(content) {
    await rm(join(String(this.#records), content), { force: true });
  }

  /** Writes the gallery. One that another command has changed since is kept under another name, and it is said. */
  async putGallery(bytes) {
    const path = join(this.folder, WRITTEN);
    const written = JSON.parse((await orNull(readFile(path, "utf8"))) ?? "{}");
    const there = await orNull(readFile(this.gallery));
    if (there && sha256(there) !== written.gallery && !there.equals(bytes)) {
      const beside = await keepBeside(this.folder, GALLERY, ".before", there);
      this.#tell(
        `note: ${this.gallery}: another command has written it and it is replaced; what was there is kept as ${beside}`,
      );
    }
    await replace(this.gallery, bytes);
    await replace(path, JSON.stringify({ gallery: sha256(bytes) }));
  }

  /** Writes the report; without one, takes that of before away. One that somebody has edited since is kept. */
  async putReport(page) {
    const there = await orNull(readFile(this.report, "utf8"));
    const isEdited = there !== null && !isAsWritten(there);
    const marked = page === null ? null : `${page}${MARK}${sha256(page)}${MARK_END}`;
    if (marked === null) {
      if (isEdited) this.#tell(`note: ${this.report}: has been edited and stays; it is of an earlier time`);
      else await rm(this.report, { force: true });
      return;
    }
    if (isEdited && there !== marked) {
      const beside = await keepBeside(this.folder, REPORT, ".edited", Buffer.from(there));
      this.#tell(`note: ${this.report}: has been edited and is replaced; the edited one is kept as ${beside}`);
    }
    await replace(this.report, marked);
  }
}

/** Whether nobody has edited a report since it was written. */
function isAsWritten(report) {
  if (!report.endsWith(MARK_END)) return false;
  const at = report.lastIndexOf(MARK);
  return at >= 0 && sha256(report.slice(0, at)) === report.slice(at + MARK.length, -MARK_END.length);
}

function isRunning(id) {
  if (!(id > 0)) return false;
  try {
    return process.kill(id, 0);
  } catch (error) {
    return error.code === "EPERM";
  }
}
