// A folder with one sub-folder per class: its photographs, in an order that is the same on every system, and what of
// it is not taken.
import { open, readdir, realpath, stat } from "node:fs/promises";
import { dirname, extname, join, resolve, sep } from "node:path";

import { engineFormat } from "./pixels.js";

// Endings of pictures. Of those that are not read the engine says so, with advice.
const PICTURES = new Set(
  (
    "jpg jpeg jpe jfif jif pjpeg pjp png apng webp gif bmp dib heic heif hif avif tif tiff jxl jp2 j2k jpx ico psd " +
    "psb cr2 cr3 nef arw dng raf orf rw2 pef srw svg svgz"
  ).split(" "),
);
// What systems and programs leave among a person's own, in small letters.
const SYSTEM = new Set([
  ..."@eadir #recycle #snapshot @recycle @recently-snapshot __macosx $recycle.bin lost+found thumbs.db".split(" "),
  ..."ehthumbs.db ehthumbs_vista.db desktop.ini __pycache__".split(" "),
  "system volume information",
  "icon\r",
]);
// Files of a published site, and those of the folder beside it, by which one is known.
const SITES = [
  ["magpie-files.json", "index.html"],
  ["gallery.bin", "index.html"],
];
// Bytes of a file that tell its format.
const BEGINNING = 4096;
// Paths of one reason that are named; more are counted.
const NAMED = 5;

export const REASONS = {
  ending: "a picture by its content, but not by its name; give it an ending of pictures",
  none: "no picture by its name and its content",
  loose: "a picture beside the classes' folders; put it into one of them",
  empty: "a class without a picture that can be used",
  folders:
    "a class that holds folders only; put the pictures right into it, or name it where its folders are the classes",
  inside: "a folder inside of a class; put its pictures right into the class",
  site: "a site that magpie wrote, or its report; move it out of the pictures",
  loop: "a link to a folder that it lies in",
  blank: "its name is blank, which no class can be; rename it",
  dangling: "a link to what is not there; fetch that (`git annex get`, `dvc pull`) or copy it",
};
// Those that keep out no single picture: folders, and what nobody takes for one.
const NO_PICTURES = new Set(
  ["folders", "inside", "site", "loop", "blank", "none", "empty"].map((reason) => REASONS[reason]),
);

/** By the bytes of their UTF-8, as every system and the command order names. */
export const byBytes = (one, other) => Buffer.compare(Buffer.from(one), Buffer.from(other));

/** A text as the label of a class: composed, without blanks at its ends. */
export const labelOf = (text) =>
  text.replace(/^[\s\u00ad\u200b\u2060\u180e\ufeff]+|[\s\u00ad\u200b\u2060\u180e\ufeff]+$/g, "").normalize("NFC");

const endingOf = (path) => extname(path).slice(1).toLowerCase();
export const isPicture = (path) => PICTURES.has(endingOf(path));
export const isOfSystem = (name) => SYSTEM.has(name.toLowerCase());

async function entries(folder) {
  const names = await readdir(folder);
  const all = names.map((name) => ({ name, path: join(folder, name), shown: name.normalize("NFC") }));
  const seen = all.filter(({ shown }) => !shown.startsWith(".") && !isOfSystem(shown));
  return seen.sort((one, other) => byBytes(one.shown, other.shown) || byBytes(one.name, other.name));
}

const isThere = (path) =>
  stat(path).then(
    () => true,
    () => false,
  );

/** Whether a folder is a link to one that it lies in. */
async function leadsUpwards(root, path) {
  const [above, target] = await Promise.all([realpath(root), realpath(path)]);
  return above === target || above.startsWith(target.endsWith(sep) ? target : target + sep);
}

async function beginningOf(path) {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(BEGINNING), 0, BEGINNING, 0);
    return new Uint8Array(buffer.buffer, buffer.byteOffset, bytesRead);
  } finally {
    await file.close();
  }
}

/** The photographs of a folder of classes, and what is left out. */
class Contents {
  /** @type {{ path: string, label: string, read?: () => Promise<Uint8Array>, content?: string, isUsable?: boolean }[]} */
  photos = [];
  /** @type {{ path: string, reason: string }[]} */
  leftOut = [];

  async close() {}

  leave(path, reason) {
    this.leftOut.push({ path, reason });
  }

  /** What lies behind a name; null where nothing can be made of it. */
  async look({ path }) {
    try {
      return await stat(path);
    } catch (error) {
      this.leave(path, error.code === "ENOENT" ? REASONS.dangling : error.message);
      return null;
    }
  }

  async read(root) {
    const classes = [];
    for (const entry of await entries(root)) {
      const there = await this.look(entry);
      if (there?.isDirectory()) {
        const { path, name } = entry;
        const label = labelOf(name);
        if (await leadsUpwards(root, path)) this.leave(path, REASONS.loop);
        else if (await isOfSite(path)) this.leave(path, REASONS.site);
        else if (label === "") this.leave(path, REASONS.blank);
        else classes.push({ label, ...entry });
      } else if (there && isPicture(entry.path)) {
        this.leave(entry.path, REASONS.loose);
      }
    }
    classes.sort((one, other) => byBytes(one.label, other.label) || byBytes(one.name, other.name));
    for (const of of classes) await this.readClass(of);
  }

  async readClass({ label, path }) {
    const folders = [];
    const before = [this.photos.length, this.leftOut.length];
    let inside;
    try {
      inside = await entries(path);
    } catch (error) {
      return this.leave(path, error.message);
    }
    for (const entry of inside) {
      const there = await this.look(entry);
      if (there?.isDirectory()) folders.push(entry.path);
      else if (there?.isFile()) await this.take(entry.path, label);
      else if (there) this.leave(entry.path, "not a file");
    }
    const isEmpty = this.photos.length === before[0];
    if (isEmpty && folders.length && this.leftOut.length === before[1]) return this.leave(path, REASONS.folders);
    for (const folder of folders) this.leave(folder, REASONS.inside);
    if (isEmpty) this.leave(path, REASONS.empty);
  }

  async take(path, label) {
    if (isPicture(path)) return this.photos.push({ path, label });
    try {
      this.leave(path, engineFormat(await beginningOf(path)) ? REASONS.ending : REASONS.none);
    } catch (error) {
      this.leave(path, error.message);
    }
  }
}

async function isOfSite(folder) {
  for (const names of SITES) {
    const there = await Promise.all(names.map((name) => isThere(join(folder, name))));
    if (there.every(Boolean)) return true;
  }
  return false;
}

/** The photographs of a folder with their classes, and what of it is left out; an error says why there is none. */
export async function photosOf(root) {
  const there = await stat(root).catch(() => {
    throw new Error(`${root}: there is no such file or folder; check the path`);
  });
  if (!there.isDirectory()) {
    throw new Error(`${root}: is a file; give a folder with one sub-folder per class, or a zip file of such a folder`);
  }
  const contents = new Contents();
  await contents.read(root);
  if (contents.photos.length) return contents;
  if (contents.leftOut.some(({ reason }) => reason === REASONS.loose)) {
    throw new Error(
      `${root}: holds pictures itself, as the folder of one class does; give the folder that holds the classes' ` +
        `folders: ${dirname(resolve(root))}`,
    );
  }
  throw noPhotos(root, contents.leftOut);
}

/** Why there is no photograph. */
export function noPhotos(root, leftOut) {
  const texts = leftOutTexts(leftOut);
  const why = texts.length ? ` (${texts.join("; ")})` : "";
  return new Error(`${root}: no picture lies in a sub-folder; make one per class, as photos/blue mug/1.jpg${why}`);
}

/** What is left out, in a sentence for each reason: first what a person would miss. */
export function leftOutTexts(leftOut) {
  const groups = new Map();
  for (const one of leftOut) groups.set(one.reason, [...(groups.get(one.reason) ?? []), one]);
  const sorted = [...groups].sort(([one], [other]) => Number(one === REASONS.none) - Number(other === REASONS.none));
  return sorted.map(([reason, of]) => {
    const more = of.length > NAMED ? ` and ${of.length - NAMED} more` : "";
    const names = of.slice(0, NAMED).map(({ path }) => path);
    return `${of.length > 1 ? `${of.length} ` : ""}left out: ${names.join(", ")}${more}: ${reason}`;
  });
}

/** How many of what is left out are pictures, and how many are classes without any. */
export const lossesOf = (leftOut) => ({
  pictures: leftOut.filter(({ reason }) => !NO_PICTURES.has(reason)).length,
  classes: leftOut.filter(({ reason }) => [REASONS.empty, REASONS.folders].includes(reason)).length,
});
