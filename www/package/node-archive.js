// A zip file of a folder of classes: as in a folder, the folder that a picture lies in is its class. Nothing is unpacked
// onto the disk, and what a hostile archive may claim is held within limits before anything is read.
import { open } from "node:fs/promises";
import { join } from "node:path";
import { Duplex } from "node:stream";
import { ReadableStream } from "node:stream/web";
import { createInflateRaw } from "node:zlib";

import { byBytes, isOfSystem, isPicture, labelOf, noPhotos, REASONS } from "./node-photos.js";
import { engineFormat } from "./pixels.js";

const MAGIC = "PK\x03\x04";
// Entries of an archive at most, and bytes of all its pictures, unpacked.
const MOST_ENTRIES = 500_000;
const MOST_IN_ALL = 2 ** 38;
// Bytes of a picture at most.
const MOST_BYTES = 256 * 1024 * 1024;
// Pictures are packed by themselves: one that is not small and unpacks to more times its bytes is a trap.
const SMALL = 16 * 1024 * 1024;
const MOST_TIMES = 200;

/** As much of a `Blob` as the reader of archives needs: parts of a file of the disk, read when they are asked for. */
class Piece {
  #file;
  #from;

  constructor(file, from, size) {
    this.#file = file;
    this.#from = from;
    this.size = size;
  }

  slice(from, to) {
    return new Piece(this.#file, this.#from + from, to - from);
  }

  async arrayBuffer() {
    const bytes = new Uint8Array(this.size);
    for (let at = 0; at < bytes.length; ) {
      const { bytesRead } = await this.#file.read(bytes, at, bytes.length - at, this.#from + at);
      if (!bytesRead) throw new Error("an archive that was cut off");
      at += bytesRead;
    }
    return bytes.buffer;
  }

  stream() {
    const start = async (controller) => {
      controller.enqueue(new Uint8Array(await this.arrayBuffer()));
      controller.close();
    };
    return new ReadableStream({ start });
  }
}

// The reader is the studio's, which lies among the files of the page.
async function entriesIn(file) {
  const { entriesOf } = await import(new URL("./page/studio/unzip.js", import.meta.url).href);
  const { size } = await file.stat();
  return entriesOf(new Piece(file, 0, size), () => Duplex.toWeb(createInflateRaw()));
}

async function begins(file) {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(MAGIC.length), 0, MAGIC.length, 0);
  return bytesRead === MAGIC.length && buffer.toString("latin1") === MAGIC;
}

/** Why an entry cannot be a picture that is used; null where it can. */
function refusalOf({ isEncrypted, isLink, size, packed }) {
  if (isEncrypted) return "encrypted; pack it without a password";
  if (isLink) return "a link; pack what it leads to";
  if (size > MOST_BYTES) return "larger than any picture that is read";
  if (size > SMALL && size / MOST_TIMES > packed) return "unpacks to many times its size, as no picture does";
  return null;
}

/** The photographs of an archive with their classes, and what of it is left out. `close` ends it. */
class Contents {
  /** @type {{ path: string, label: string, read: () => Promise<Uint8Array>, content?: string, isUsable?: boolean }[]} */
  photos = [];
  /** @type {{ path: string, reason: string }[]} */
  leftOut = [];

  constructor(root, close) {
    this.root = root;
    this.close = close;
  }

  leave(parts, reason) {
    this.leftOut.push({ path: join(this.root, ...parts), reason });
  }

  /** Files that no system has left there. */
  async files(entries) {
    const files = [];
    let bytes = 0;
    for (const [place, entry] of entries.entries()) {
      // Some programs write paths of Windows.
      const parts = entry.path.replaceAll("\\", "/").normalize("NFC").split("/");
      const [last] = parts.slice(-1);
      if (parts.some((part) => isOfSystem(part) || (part.startsWith(".") && ![".", ".."].includes(part)))) continue;
      if (parts.some((part) => part === "" || part === ".." || part.includes("\0"))) {
        if (isPicture(last)) this.leave([String(place)], "its name leads out of the archive; pack it again");
        continue;
      }
      let reason = refusalOf(entry);
      if (!isPicture(last)) {
        if (reason !== null) reason = REASONS.none;
        else reason = engineFormat(await entry.beginning().catch(() => new Uint8Array())) ? REASONS.ending : REASONS.none;
      } else if (reason === null) bytes += entry.size;
      files.push({ parts, entry, reason, isPicture: isPicture(last) });
    }
    if (bytes > MOST_IN_ALL) {
      throw new Error(`${this.root}: unpacks to ${bytes} bytes, and ${MOST_IN_ALL} are read; give several`);
    }
    return files;
  }

  async read(entries) {
    const files = await this.files(entries);
    const pictures = files.filter(({ isPicture }) => isPicture);
    // One folder that all of them lie in is none of a class.
    const top = pictures[0]?.parts[0];
    const isDeep = pictures.some(({ parts }) => parts.length > 2);
    const above = isDeep && pictures.every(({ parts }) => parts.length > 1 && parts[0] === top) ? 1 : 0;
    files.sort(byParts);
    // Whether a picture of the class is taken, by its folder.
    const classes = new Map();
    const taken = new Set();
    const inside = new Set();
    for (const { parts, entry, reason, isPicture } of files) {
      const [folder, name, ...deeper] = parts.slice(above);
      if (name === undefined) {
        if (folder !== undefined && isPicture) this.leave(parts, REASONS.loose);
        continue;
      }
      if (deeper.length) {
        const place = parts.slice(0, above + 2);
        if (!inside.has(place.join("/"))) this.leave(place, REASONS.inside);
        inside.add(place.join("/"));
        continue;
      }
      const place = parts.slice(0, above + 1);
      const of = classes.get(folder) ?? { place, hasPicture: false };
      classes.set(folder, of);
      const label = labelOf(folder);
      if (reason !== null) this.leave(parts, reason);
      else if (label === "") this.leave(parts, REASONS.blank);
      else if (taken.has(parts.join("/"))) {
        this.leave(parts, "an entry of the same name comes before it; rename one of them");
      } else {
        of.hasPicture = true;
        taken.add(parts.join("/"));
        this.photos.push({ path: join(this.root, ...parts), label, read: () => bytesOf(entry) });
      }
    }
    for (const { place, hasPicture } of classes.values()) if (!hasPicture) this.leave(place, REASONS.empty);
  }
}

async function bytesOf(entry) {
  try {
    return new Uint8Array(await (await entry.open()).arrayBuffer());
  } catch (error) {
    throw new Error(`cannot be unpacked: ${error.message}; pack it again`);
  }
}

function byParts({ parts: one }, { parts: other }) {
  for (let at = 0; at < Math.min(one.length, other.length); at += 1) {
    const order = byBytes(one[at], other[at]);
    if (order) return order;
  }
  return one.length - other.length;
}

/** What a zip file holds, whatever its name; null where the path is none. An error says why it has no photograph. */
export async function archiveOf(path) {
  const file = await open(path).catch(() => null);
  if (!file) return null;
  try {
    const isFile = (await file.stat()).isFile();
    const isOne = isFile && (await begins(file));
    const entries = isFile
      ? await entriesIn(file).catch((error) => {
          if (!isOne) return null;
          throw new Error(`${path}: this zip file cannot be read: ${error.message}; pack it again`);
        })
      : null;
    if (!entries) {
      await file.close();
      return null;
    }
    if (entries.length > MOST_ENTRIES) {
      throw new Error(`${path}: holds ${entries.length} entries, and ${MOST_ENTRIES} are read; give several`);
    }
    const contents = new Contents(path, () => file.close());
    await contents.read(entries);
    if (!contents.photos.length) throw noPhotos(path, contents.leftOut);
    return contents;
  } catch (error) {
    await file.close();
    throw error;
  }
}
