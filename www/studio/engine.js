// The engine that makes galleries and sites: workers look at photographs beside each other, and the first of them puts
// together what all have seen. What was seen of a photograph is kept as a record, by the networks that saw it.
import { trustedScript } from "../engine.js";
import { decodeUpright, readPixels } from "../pixels.js";
import { opened as fileGiven } from "./given.js";

// Workers that look at photographs: each holds the networks and a photograph, some 150 MB.
const MOST = 4;
// Records that are sent in one message.
const AT_ONCE = 64;
const RECORDS = "records ";
const PAGE = "index.html";
// In a site that is a studio alone: what sites begin with.
const STUDIO_PAGE = "page.html";

let pool = null;

class EngineError extends Error {
  constructor({ kind, message }) {
    super(message);
    this.kind = kind;
  }
}

// A worker that answers one request at a time, in order.
class Author {
  constructor() {
    const script = new URL("../worker.js?engine=author", import.meta.url);
    this.worker = new Worker(trustedScript(script), { type: "module" });
    this.waiting = [];
    // What is sent before the engine listens is lost.
    this.started = new Promise((resolve) => {
      this.start = resolve;
    });
    this.worker.onmessage = ({ data }) => this.hear(data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      this.end({ kind: "Device", message: event.message || "its worker could not be started" });
    };
  }

  // `given` are buffers that the worker gets instead of copies.
  ask(request, progress, given = []) {
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject, progress });
      this.started.then(() => this.worker.postMessage(request, given));
    });
  }

  hear(data) {
    if (data === "Started") {
      this.start();
      return;
    }
    if (data.Progress) {
      this.waiting[0]?.progress?.(data.Progress.done, data.Progress.of);
      return;
    }
    const { resolve, reject } = this.waiting.shift() ?? {};
    if (data.Failed) reject?.(new EngineError(data.Failed.error));
    else resolve?.(Object.values(data)[0]);
  }

  get busy() {
    return this.waiting.length;
  }

  end(error) {
    this.worker.terminate();
    for (const { reject } of this.waiting.splice(0)) reject(new EngineError(error));
  }
}

async function bytesOf(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address}: the host answered ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

// The networks of this site.
async function networks() {
  const manifest = new URL("../bundle/manifest.json", import.meta.url);
  const { extractor, detector } = JSON.parse(new TextDecoder().decode(await bytesOf(manifest)));
  const file = (network) => (network ? bytesOf(new URL(network.file, manifest)) : null);
  return { extractor: await file(extractor), detector: await file(detector) };
}

// Where records of these networks are kept, and whether there were none before; those of others are of no use any more.
async function recordsOf(own, key) {
  if (!own) return { records: null, isNew: true };
  const name = `${RECORDS}${encodeURIComponent(key).slice(0, 100)}`;
  for await (const other of own.keys()) {
    if (other.startsWith(RECORDS) && other !== name) await own.removeEntry(other, { recursive: true }).catch(() => {});
  }
  const before = await own.getDirectoryHandle(name).catch(() => null);
  return { records: before ?? (await own.getDirectoryHandle(name, { create: true })), isNew: !before };
}

/** Folders of records, of whatever networks. */
export async function recordFolders(own) {
  const folders = [];
  for await (const [name, folder] of own.entries()) if (name.startsWith(RECORDS)) folders.push(folder);
  return folders;
}

// Workers with the networks, and where records are kept.
async function begin(mine) {
  const { workers, storage } = mine;
  const given = await networks();
  const opened = await Promise.all(workers.map((worker) => worker.ask({ Open: given })));
  const { records, isNew } = await recordsOf(storage.own(), opened[0].key).catch(() => ({ records: null, isNew: true }));
  mine.records = records;
  // Records of galleries come from these again, whatever networks were here before.
  if (isNew) for (const parts of await storage.galleries()) await entriesOf(mine, parts).catch(() => {});
}

async function ready(storage) {
  if (!pool) {
    const count = Math.max(1, Math.min(MOST, navigator.hardwareConcurrency || 2));
    const workers = Array.from({ length: count }, () => new Author());
    pool = { workers, storage, records: null, held: new Map(), told: new Map() };
    pool.begun = begin(pool);
  }
  const mine = pool;
  try {
    await mine.begun;
  } catch (error) {
    if (pool === mine) endEngine();
    throw error;
  }
  return mine;
}

/** Opens the engine: how many photographs it looks at beside each other, and names of the records that are kept. */
export async function openEngine(storage) {
  const { workers, records, held } = await ready(storage);
  const known = [...held.keys()];
  if (records) for await (const name of records.keys()) known.push(name);
  return { beside: workers.length, known };
}

/** Ends the engine, whatever it does. */
export function endEngine() {
  const ended = pool;
  pool = null;
  for (const worker of ended?.workers ?? []) worker.end({ kind: "Ended", message: "ended" });
}

async function keepRecord({ storage, records, held }, name, record) {
  try {
    if (!records) throw new Error("nothing is kept");
    await storage.write(records, name, record);
  } catch {
    held.set(name, record);
  }
}

// Entries of a gallery become records.
async function entriesOf(mine, { gallery, thumbnails }) {
  const opened = await mine.workers[0].ask({ OpenGallery: { gallery, thumbnails } });
  for (const { content, record } of opened.photos) await keepRecord(mine, content, record);
  return opened;
}

// The gallery among files that were given: one file, or those of a site's bundle.
async function partsOf(files) {
  const bytes = async ({ file }) => new Uint8Array(await (await fileGiven(file)).arrayBuffer());
  const manifest = files.find(({ name }) => name === "manifest.json");
  if (!manifest) return { title: "", gallery: await bytes(files[0]), thumbnails: null };
  const { title, gallery, pictures, shards } = JSON.parse(new TextDecoder().decode(await bytes(manifest)));
  if (shards?.length) throw new Error("its gallery is in parts; open the gallery's file, which lies in the report");
  const named = (name) => {
    const found = files.find((file) => file.name === name);
    if (!found) throw new Error(`${name}: is missing`);
    return bytes(found);
  };
  return { title, gallery: await named(gallery), thumbnails: pictures ? await named(pictures) : null };
}

/** Opens a gallery: its classes and photographs, whose records are kept. */
export async function openGallery(storage, files) {
  const parts = await partsOf(files);
  const mine = await ready(storage);
  const { crop, classes, photos } = await entriesOf(mine, parts);
  const pictures = photos.map(({ content, class: place }) => [content, classes[place].thumbnail]);
  await storage.keepGallery(parts.gallery, parts.thumbnails, pictures);
  return {
    title: parts.title,
    crop,
    classes: classes.map(({ label, metadata }) => ({ label, metadata })),
    photos: photos.map(({ content, class: place }) => ({ content, class: place })),
  };
}

const idlest = () => pool.workers.reduce((best, worker) => (worker.busy < best.busy ? worker : best));

async function pixelsOf(file, bytes) {
  const bitmap = await decodeUpright(file, bytes);
  try {
    return await readPixels(bitmap);
  } finally {
    bitmap?.close?.();
  }
}

// Asks the idlest worker about a file; where its own decoders do not read it, about the pixels that the browser's do.
async function asked(file, requestOf, worker = idlest()) {
  const read = async () => new Uint8Array(await file.arrayBuffer());
  const bytes = await read();
  // A name without contents: the browser had no room, or was closed before it wrote.
  if (!bytes.length) throw new EngineError({ kind: "Gone", message: "nothing was kept" });
  try {
    return await worker.ask(requestOf(bytes, null), undefined, [bytes.buffer]);
  } catch (error) {
    if (error.kind !== "Format") throw error;
    const again = await read();
    const pixels = await pixelsOf(file, again).catch(() => {
      throw new EngineError({ kind: "Picture", message: error.message });
    });
    return worker.ask(requestOf(again, pixels));
  }
}

const photoOf = (id) =>
  pool.storage.photo(id).catch((error) => {
    throw new EngineError({ kind: "Gone", message: error.message });
  });

/** Has the engine look at a photograph, or at a part of it, and keeps what it has seen under the name of the record. */
export async function look(id, name, record, part) {
  const mine = pool;
  const edges = part ? [...part] : null;
  const seen = await asked(await photoOf(id), (file, pixels) => ({ Look: { id: 0, name, file, pixels, part: edges } }));
  await keepRecord(mine, record, seen.record);
}

/** The main body of a photograph: its edges as shares of width and height; null without one. */
export async function find(id) {
  const { part } = await asked(await photoOf(id), (file, pixels) => ({ Find: { name: "", file, pixels } }));
  return part ?? null;
}

// Where the picture is that was asked about last.
let shown = null;

/** What the gallery that was measured last says of a picture. */
export async function ask(file, name) {
  // The worker that has the gallery.
  const answer = await asked(file, (bytes, pixels) => ({ Ask: { name, file: bytes, pixels } }), pool.workers[0]);
  if (shown) URL.revokeObjectURL(shown);
  shown = URL.createObjectURL(file);
  return { ...answer, address: shown };
}

// The first worker hears of all records that it does not know.
async function tell(photos) {
  const { workers, records, held, told, storage } = pool;
  const news = photos.filter(({ content, record }) => told.get(content) !== record);
  for (let at = 0; at < news.length; at += AT_ONCE) {
    const some = news.slice(at, at + AT_ONCE);
    const read = async ({ record }) =>
      held.get(record) ?? new Uint8Array(await (await storage.fileOf(records, record)).arrayBuffer());
    await workers[0].ask({ Know: { records: await Promise.all(some.map(read)) } }).catch(async (error) => {
      // Looked at anew the next time.
      for (const { record } of some) await records?.removeEntry(record).catch(() => {});
      throw error;
    });
    for (const { content, record } of some) told.set(content, record);
  }
}

// What a site has beside its page: what is made anew.
const isMade = (name) =>
  /^(bundle|samples)\//.test(name) ||
  /\.(br|gz)$/.test(name) ||
  /^(_headers.*|samples\.json|precache\.json|magpie-files\.json)$/.test(name);

// The files of this site's page.
async function page() {
  const list = new URL("../magpie-files.json", import.meta.url);
  const { files } = JSON.parse(new TextDecoder().decode(await bytesOf(list)));
  const names = files.filter((name) => !isMade(name));
  // Its own page only leads to the studio.
  const isAlone = names.includes(STUDIO_PAGE);
  const read = async (name) => ({
    name: name === STUDIO_PAGE ? PAGE : name,
    bytes: await bytesOf(new URL(`../${name}`, import.meta.url)),
  });
  return Promise.all(names.filter((name) => !isAlone || name !== PAGE).map(read));
}

/**
 * Makes what is wanted of a project: "figures", "nearly" (the same by what was learned before labels changed, many times as
 * fast), "gallery", "site" or "folder", which is the same files.
 */
export async function make(goal, project, progress) {
  const mine = pool;
  await tell(project.photos);
  const request = {
    figures: () => ({ Measure: { project } }),
    nearly: () => ({ Measure: { project, at_once: true } }),
    gallery: () => ({ Export: { project } }),
    site: async () => ({ Make: { project, page: await page(), packed: false } }),
    folder: () => request.site(),
  };
  const asked = await request[goal]();
  const files = asked.Make?.page.map(({ bytes }) => bytes.buffer);
  // One that was ended meanwhile has no successor in this.
  if (pool !== mine) throw new EngineError({ kind: "Ended", message: "ended" });
  return mine.workers[0].ask(asked, progress, files);
}
