// What the studio has the browser do with files: it reads, keeps and shows photographs, and packs what is saved. Starts
// the studio's own code.

import { trustedScript } from "../engine.js";
import { beginBurst, closeCamera, endBurst, openCamera } from "./camera.js";
import { ask, endEngine, find, look, make, openEngine, openGallery, recordFolders } from "./engine.js";
import { opened as fileGiven, given } from "./given.js";
import { write } from "./write.js";

// Workers that prepare photographs, at most: as many come in beside each other.
const MOST_PREPARERS = 4;
// Letters of an id, and behind a name those of thumbnails that a gallery has apart.
const ID = 32;
const APART = " thumbnails";
// Bytes that become letters at once.
const PIECE = 8192;
const PROJECT = "project";
const TITLE = "title";
const PROJECTS = "projects";
const CURRENT = "current";
const GALLERIES = "galleries";
const PHOTOS = "photos";
const SMALLS = "small";
// Milliseconds that the browser has to open its storage; some never do.
const PATIENCE = 4000;

// Sites of one origin keep apart.
const site = new URL("..", location.href).pathname;

// Folders of the browser's private file system; null where it keeps nothing for this page.
let kept = null;
// What could not be kept, by id: the photograph as it was given, and the small one.
const held = new Map();
// Photographs that came in since the page began, and those that are just being kept.
const fresh = new Set();
const coming = new Map();

const within = (promise) =>
  Promise.race([promise, new Promise((_, reject) => setTimeout(reject, PATIENCE, new Error("no answer")))]);

const create = { create: true };

async function folders() {
  const root = await within(navigator.storage.getDirectory());
  const shelf = await root.getDirectoryHandle(`studio ${encodeURIComponent(site)}`, create);
  const [id, own] = await opened(shelf);
  const [photos, smalls] = [await own.getDirectoryHandle(PHOTOS, create), await own.getDirectoryHandle(SMALLS, create)];
  // Safari before 26 writes in workers alone.
  const probe = await own.getFileHandle("probe", create);
  if (!probe.createWritable) throw new Error("no way to write");
  return { shelf, id, own, photos, smalls, title: await textOf(own, TITLE) };
}

// The project that was open last, and its folder. The first one lies beside the folder of the others.
async function opened(shelf) {
  const id = await textOf(shelf, CURRENT);
  try {
    if (id) return [id, await (await shelf.getDirectoryHandle(PROJECTS)).getDirectoryHandle(id)];
  } catch {
    // It is gone.
  }
  return ["", shelf];
}

const fileOf = async (folder, name) => (await folder.getFileHandle(name)).getFile();
const isMissing = ({ name }) => name === "NotFoundError";
// A name without contents: the browser had no room, or was closed before it wrote.
const has = (folder, name) => fileOf(folder, name).then(({ size }) => size > 0, () => false);
const textOf = (folder, name) => fileOf(folder, name).then((file) => file.text(), () => "");

// Whether this tab is the one that has the projects, for as long as it is open.
const isAlone = () =>
  new Promise((resolve) => {
    if (!navigator.locks) {
      resolve(true);
      return;
    }
    navigator.locks
      .request(`magpie-studio ${site}`, { ifAvailable: true }, (lock) => {
        resolve(Boolean(lock));
        return lock && new Promise(() => {});
      })
      .catch(() => resolve(true));
  });

// What a page wrote while it ended: the only writing that browsers wait for.
const draft = {
  count: 0,
  key: () => `magpie-studio ${site} ${kept.id}`,
  read() {
    const text = localStorage.getItem(this.key());
    return text && Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  },
  write(bytes) {
    this.count += 1;
    const parts = [];
    for (let at = 0; at < bytes.length; at += PIECE) {
      parts.push(String.fromCharCode(...bytes.subarray(at, at + PIECE)));
    }
    localStorage.setItem(this.key(), parts.join(""));
  },
  forget() {
    localStorage.removeItem(this.key());
  },
};

async function projectOf() {
  const file = await fileOf(kept.own, PROJECT).catch((error) => {
    if (isMissing(error)) return null;
    throw error;
  });
  let last = null;
  try {
    last = draft.read();
    if (last) {
      await write(kept.own, PROJECT, last);
      draft.forget();
    }
  } catch {
    // What cannot be written stays a draft.
  }
  const bytes = last ?? (file && new Uint8Array(await file.arrayBuffer()));
  // A page that was closed before it wrote for the first time leaves a name without contents.
  return bytes?.length ? bytes : null;
}

async function projects() {
  const found = [["", kept.shelf]];
  const others = await kept.shelf.getDirectoryHandle(PROJECTS).catch(() => null);
  if (others) for await (const [id, folder] of others.entries()) if (folder.kind === "directory") found.push([id, folder]);
  const titled = found.map(async ([id, folder]) => ({ id, title: await textOf(folder, TITLE), open: id === kept.id }));
  return Promise.all(titled);
}

/** Who keeps the project ("own", "elsewhere" or "nowhere"), what was kept, and which projects there are. */
async function open() {
  const nothing = { project: null, projects: [] };
  if (!(await isAlone())) return { keeper: "elsewhere", ...nothing };
  try {
    kept = await folders();
    return { keeper: "own", project: await projectOf(), projects: await projects() };
  } catch {
    kept = null;
    return { keeper: "nowhere", ...nothing };
  }
}

/** Keeps the project under the title of its site; whether there was room. */
async function save(bytes, title) {
  const { count } = draft;
  try {
    await write(kept.own, PROJECT, bytes);
    if (title !== kept.title) await write(kept.own, TITLE, title);
    kept.title = title;
    // One that was written meanwhile is newer.
    if (draft.count === count) draft.forget();
    return true;
  } catch {
    return false;
  }
}

/** Keeps the project while the page ends. */
function saveNow(bytes) {
  draft.write(bytes);
}

/** Opens another project, or a new one, by loading the page again. */
async function choose(id) {
  let chosen = id;
  if (id === undefined) {
    chosen = crypto.randomUUID();
    await (await kept.shelf.getDirectoryHandle(PROJECTS, create)).getDirectoryHandle(chosen, create);
  }
  await write(kept.shelf, CURRENT, chosen);
  location.reload();
}

/** Forgets the open project. */
async function removeProject() {
  draft.forget();
  await write(kept.shelf, CURRENT, "");
  const isOwn = (name) => [PROJECT, TITLE, PHOTOS, SMALLS, GALLERIES, "probe"].includes(name);
  if (kept.id) {
    await (await kept.shelf.getDirectoryHandle(PROJECTS)).removeEntry(kept.id, { recursive: true });
  } else {
    const records = (await recordFolders(kept.own)).map(({ name }) => name);
    for await (const name of kept.own.keys()) {
      if (isOwn(name) || records.includes(name)) await kept.own.removeEntry(name, { recursive: true });
    }
  }
  location.reload();
}

const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");

// Workers that prepare photographs: as many as there are processors, and no more than come in beside each other.
const preparers = [];
const stopped = new WeakSet();
const waiting = new Map();
let number = 0;

function newPreparer() {
  const worker = new Worker(trustedScript(new URL("prepare.js", import.meta.url)), { type: "module" });
  worker.onmessage = ({ data }) => {
    const answer = waiting.get(data.number);
    waiting.delete(data.number);
    if (data.failed) answer?.reject(new Error("this browser cannot show it"));
    else answer?.resolve(data);
  };
  // Those that it had are as broken as it is; another one takes its place.
  worker.onerror = (event) => {
    event.preventDefault();
    preparers.splice(preparers.indexOf(worker), 1);
    worker.terminate();
    stopped.add(worker);
    for (const [number, { of, reject }] of waiting) {
      if (of !== worker) continue;
      waiting.delete(number);
      reject(new Error("the worker that prepares it stopped"));
    }
  };
  preparers.push(worker);
  return worker;
}

// What a worker answers next about a photograph.
const answerOf = (worker, number, message) =>
  new Promise((resolve, reject) => {
    if (stopped.has(worker)) {
      reject(new Error("the worker that prepares it stopped"));
      return;
    }
    waiting.set(number, { resolve, reject, of: worker });
    try {
      worker.postMessage({ number, ...message });
    } catch (error) {
      waiting.delete(number);
      reject(error);
    }
  });

/** The id of a photograph, and whether the browser keeps it; rejected where the browser cannot show it. */
async function prepare(source) {
  const file = await fileGiven(source);
  const most = Math.min(MOST_PREPARERS, navigator.hardwareConcurrency || 2);
  number += 1;
  const own = number;
  // In turn.
  const worker = preparers.length < most ? newPreparer() : preparers[own % preparers.length];
  const { id } = await answerOf(worker, own, { file });
  const name = hex(id);
  try {
    // Another worker keeps it just now.
    while (coming.has(name)) await coming.get(name).catch(() => {});
    // What is there already is not written again: pictures that are shown are read from its file.
    if (held.has(name)) return { id, kept: false };
    if (kept && (await has(kept.photos, name)) && (await has(kept.smalls, name))) {
      fresh.add(name);
      return { id, kept: true };
    }
    const keeping = keep(worker, own, name, file);
    coming.set(name, keeping);
    try {
      return { id, kept: await keeping };
    } finally {
      coming.delete(name);
    }
  } finally {
    // Else the worker would wait for what becomes of it; once it knows, it hears no more.
    worker.postMessage({ number: own, letGo: true });
  }
}

// Has a worker keep a photograph that it has read.
async function keep(worker, number, name, file) {
  fresh.add(name);
  const folders = kept && { photos: kept.photos, smalls: kept.smalls };
  const { small, isKept } = await answerOf(worker, number, { name, folders });
  if (!isKept) held.set(name, { file, small });
  // A gallery that was opened had only the picture of its class.
  else if (addresses.has(name)) showAnew(name);
  return isKept;
}

/** Keeps what an opened gallery has: its file, and the picture of a class for each of its photographs. */
async function keepGallery(gallery, thumbnails, pictures) {
  const folder = await kept.own.getDirectoryHandle(GALLERIES, create);
  const name = hex(new Uint8Array(await crypto.subtle.digest("SHA-256", gallery)).slice(0, 16));
  await write(folder, name, gallery);
  if (thumbnails) await write(folder, `${name}${APART}`, thumbnails);
  for (const [id, picture] of pictures) {
    fresh.add(id);
    if (picture.length && !(await has(kept.smalls, id))) await write(kept.smalls, id, new Blob([picture], { type: "image/jpeg" }));
  }
}

/** The galleries that were opened, each with its thumbnails where they are apart. */
async function galleries() {
  const folder = await kept?.own.getDirectoryHandle(GALLERIES).catch(() => null);
  const found = [];
  if (!folder) return found;
  const bytes = async (name) => new Uint8Array(await (await fileOf(folder, name)).arrayBuffer());
  const names = [];
  for await (const name of folder.keys()) names.push(name);
  for (const name of names.filter((name) => !name.endsWith(APART))) {
    const apart = names.includes(name + APART) ? await bytes(name + APART) : null;
    found.push({ gallery: await bytes(name), thumbnails: apart });
  }
  return found;
}

// A photograph as it was given.
const photo = async (id) => held.get(id)?.file ?? fileOf(kept.photos, id);

const addresses = new Map();
async function addressOf(id) {
  if (!addresses.has(id)) {
    const small = held.get(id)?.small ?? (await fileOf(kept.smalls, id));
    addresses.set(id, URL.createObjectURL(small));
  }
  return addresses.get(id);
}

// The picture of a photograph is another one now.
function showAnew(id) {
  URL.revokeObjectURL(addresses.get(id));
  addresses.delete(id);
  for (const image of document.querySelectorAll(`img[data-photo="${id}"]`)) near.observe(image);
}

/** An address of a photograph as it was given; of its small picture where it was not. */
async function addressOfWhole(id) {
  const file = await photo(id).catch(() => held.get(id)?.small ?? fileOf(kept.smalls, id));
  return URL.createObjectURL(file);
}

// Pictures have an address while they are near to what is seen.
const near = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      addressOf(target.dataset.photo).then(
        (address) => {
          target.src = address;
        },
        () => target.classList.add("gone"),
      );
    }
  },
  { rootMargin: "400px" },
);

/** Shows the small picture of a photograph once it is near to what is seen. */
function show(image, id) {
  image.dataset.photo = id;
  near.observe(image);
}

/** Forgets every photograph but these and those that came in since; without these, all. */
async function keepOnly(ids) {
  const wanted = new Set(ids);
  if (!ids.length) {
    fresh.clear();
    await kept?.own.removeEntry(GALLERIES, { recursive: true }).catch(() => {});
  }
  // Records of a part are named after its photograph, too.
  const isWanted = (id) => wanted.has(id) || fresh.has(id);
  const gone = (name) => !isWanted(name.slice(0, ID));
  for (const id of [...held.keys()].filter(gone)) held.delete(id);
  for (const id of [...addresses.keys()].filter(gone)) {
    URL.revokeObjectURL(addresses.get(id));
    addresses.delete(id);
  }
  for (const folder of kept ? [kept.photos, kept.smalls, ...(await recordFolders(kept.own))] : []) {
    const names = [];
    for await (const name of folder.keys()) names.push(name);
    // One that came in meanwhile stays.
    for (const name of names) if (gone(name)) await folder.removeEntry(name).catch(() => {});
  }
}

/**
 * Files packed for an archive, each with the CRC-32 and the length of what it is; a worker does it, and gets the files
 * instead of copies.
 */
function packFiles(files) {
  const worker = new Worker(trustedScript(new URL("pack.js", import.meta.url)), { type: "module" });
  const packed = new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => (data.packed ? resolve(data.packed) : reject(new Error(data.failed)));
    worker.onerror = (event) => {
      event.preventDefault();
      reject(new Error(event.message || "the worker that packs could not be started"));
    };
    worker.postMessage(files, files.map(({ bytes }) => bytes.buffer));
  });
  return packed.finally(() => worker.terminate());
}

// Promises that wait until the browser has done what came before.
const pausing = [];
const { port1: bell, port2: ear } = new MessageChannel();
ear.onmessage = () => pausing.shift()();

/** Lets the browser do what waits; unlike with a timer, a page that is not seen goes on as fast. */
const pause = () =>
  new Promise((resolve) => {
    pausing.push(resolve);
    bell.postMessage(null);
  });

/** Hands a file to the owner. */
function download(name, parts, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(parts, { type }));
  link.download = name;
  link.click();
  // The address is needed until the browser has begun.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// The folder that the owner has chosen for a site.
let folder = null;

/** Asks for a folder; rejected where the owner chooses none. */
async function pickFolder() {
  folder = await window.showDirectoryPicker({ mode: "readwrite", id: "magpie-site" });
}

// What a browser asks for first comes last, so that a site that is half written is none yet.
const LAST = ["bundle/manifest.json", "precache.json", "sw.js", "magpie-files.json", "index.html"];

/** Writes the files of a site into the folder. */
async function writeFolder(files) {
  const sorted = [...files].sort((one, other) => LAST.indexOf(one.name) - LAST.indexOf(other.name));
  for (const { name, bytes } of sorted) {
    const path = name.split("/");
    const last = path.pop();
    let place = folder;
    for (const part of path) place = await place.getDirectoryHandle(part, create);
    await write(place, last, bytes);
  }
}

const storage = { own: () => kept?.own, photo, write, fileOf, keepGallery, galleries };

window.studio = {
  open,
  save,
  saveNow,
  choose,
  removeProject,
  prepare,
  show,
  addressOfWhole,
  letGo: (address) => URL.revokeObjectURL(address),
  keepOnly,
  given,
  packFiles,
  pause,
  download,
  pickFolder,
  writeFolder,
  openCamera,
  closeCamera,
  beginBurst,
  endBurst,
  openEngine: () => openEngine(storage),
  openGallery: async (files) => openGallery(storage, files),
  look,
  find,
  ask: async (source, name) => ask(await fileGiven(source), name),
  make,
  endEngine,
};

document.body.classList.toggle("has-folders", "showDirectoryPicker" in window);
document.body.classList.toggle("has-camera", Boolean(navigator.mediaDevices?.getUserMedia));

// Has the browser keep the studio and its engine for visits without a network, as the site's own page does.
async function keepSite() {
  if (!navigator.serviceWorker) return;
  await navigator.serviceWorker.register(trustedScript(new URL("../sw.js", location.href)));
  const { active } = await navigator.serviceWorker.ready;
  active?.postMessage({ keep: "author" });
}

const { default: init } = await import("./studio.js");
await init();
// A host without the site's list of files, or a browser that keeps nothing, goes on needing the network.
keepSite().catch(() => {});
