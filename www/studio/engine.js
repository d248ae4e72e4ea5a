// The engine that makes galleries and sites: workers look at photographs beside each other, and the first of them puts
// together what all have seen. What was seen of a photograph is kept as a record, by the networks that saw it.
import { trustedScript } from "../engine.js";
import { decodeUpright, readPixels } from "../pixels.js";

// Workers that look at photographs: each holds the networks and a photograph, some 150 MB.
const MOST = 4;
// Records that are sent in one message.
const AT_ONCE = 64;
const RECORDS = "records ";

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

  ask(request, progress) {
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject, progress });
      this.started.then(() => this.worker.postMessage(request));
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

// Where records of these networks are kept; those of others are of no use any more.
async function recordsOf(own, key) {
  if (!own) return null;
  const name = `${RECORDS}${encodeURIComponent(key).slice(0, 100)}`;
  for await (const other of own.keys()) {
    if (other.startsWith(RECORDS) && other !== name) await own.removeEntry(other, { recursive: true }).catch(() => {});
  }
  return own.getDirectoryHandle(name, { create: true });
}

/** Folders of records, of whatever networks. */
export async function recordFolders(own) {
  const folders = [];
  for await (const [name, folder] of own.entries()) if (name.startsWith(RECORDS)) folders.push(folder);
  return folders;
}

/** Opens the engine: how many photographs it looks at beside each other, and those whose records are kept. */
export async function openEngine(storage) {
  endEngine();
  const given = await networks();
  const count = Math.max(1, Math.min(MOST, (navigator.hardwareConcurrency || 2) - 1));
  const workers = Array.from({ length: count }, () => new Author());
  pool = { workers, storage, records: null, held: new Map(), told: new Set() };
  const mine = pool;
  const opened = await Promise.all(workers.map((worker) => worker.ask({ Open: given })));
  mine.records = await recordsOf(storage.own(), opened[0].key).catch(() => null);
  const known = [];
  if (mine.records) for await (const name of mine.records.keys()) known.push(name);
  return { beside: count, known };
}

/** Ends the engine, whatever it does. */
export function endEngine() {
  const ended = pool;
  pool = null;
  for (const worker of ended?.workers ?? []) worker.end({ kind: "Ended", message: "ended" });
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

/** Has the engine look at a photograph, and keeps what it has seen. */
export async function look(id, name) {
  const { storage, records, held } = pool;
  const photo = await storage.photo(id).catch((error) => {
    throw new EngineError({ kind: "Gone", message: error.message });
  });
  const file = new Uint8Array(await photo.arrayBuffer());
  // A name without contents: the browser had no room, or was closed before it wrote.
  if (!file.length) throw new EngineError({ kind: "Gone", message: "nothing was kept" });
  const worker = idlest();
  const request = (pixels) => ({ Look: { id: 0, name, file, pixels } });
  let seen;
  try {
    seen = await worker.ask(request(null));
  } catch (error) {
    if (error.kind !== "Format") throw error;
    const pixels = await pixelsOf(photo, file).catch(() => {
      throw new EngineError({ kind: "Picture", message: error.message });
    });
    seen = await worker.ask(request(pixels));
  }
  try {
    if (!records) throw new Error("nothing is kept");
    await storage.write(records, id, seen.record);
  } catch {
    held.set(id, seen.record);
  }
}

// The first worker hears of all records that it does not know.
async function tell(contents) {
  const { workers, records, held, told, storage } = pool;
  const news = contents.filter((id) => !told.has(id));
  for (let at = 0; at < news.length; at += AT_ONCE) {
    const some = news.slice(at, at + AT_ONCE);
    const read = async (id) =>
      held.get(id) ?? new Uint8Array(await (await storage.fileOf(records, id)).arrayBuffer());
    await workers[0].ask({ Know: { records: await Promise.all(some.map(read)) } }).catch(async (error) => {
      // Looked at anew the next time.
      for (const id of some) await records?.removeEntry(id).catch(() => {});
      throw error;
    });
    for (const id of some) told.add(id);
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
  return Promise.all(names.map(async (name) => ({ name, bytes: await bytesOf(new URL(`../${name}`, import.meta.url)) })));
}

/** Makes what is wanted of a project: "figures", "gallery" or "site". */
export async function make(goal, project, progress) {
  await tell(project.photos.map(({ content }) => content));
  const request = {
    figures: () => ({ Measure: { project } }),
    gallery: () => ({ Export: { project } }),
    site: async () => ({ Make: { project, page: await page(), packed: false } }),
  };
  return pool.workers[0].ask(await request[goal](), progress);
}
