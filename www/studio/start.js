// What the studio has the browser do with files: it reads, keeps and shows photographs, and packs what is saved. Starts
// the studio's own code.

import { trustedScript } from "../engine.js";
import { endEngine, look, make, openEngine, recordFolders } from "./engine.js";

// Pixels of a small picture from top to bottom.
const SMALL = 224;
const PROJECT = "project";
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
// Photographs that came in since the page began.
const fresh = new Set();

const within = (promise) =>
  Promise.race([promise, new Promise((_, reject) => setTimeout(reject, PATIENCE, new Error("no answer")))]);

async function folders() {
  const create = { create: true };
  const root = await within(navigator.storage.getDirectory());
  const own = await root.getDirectoryHandle(`studio ${encodeURIComponent(site)}`, create);
  const [photos, smalls] = [await own.getDirectoryHandle(PHOTOS, create), await own.getDirectoryHandle(SMALLS, create)];
  // Safari before 26 writes in workers alone.
  const probe = await own.getFileHandle("probe", create);
  if (!probe.createWritable) throw new Error("no way to write");
  return { own, photos, smalls };
}

// Writes beside, and takes the place of what was there once it is whole: a page closed in the middle leaves what was.
async function write(folder, name, content) {
  const file = await folder.getFileHandle(name, { create: true });
  const stream = await file.createWritable();
  try {
    await stream.write(content);
    await stream.close();
  } catch (error) {
    await stream.abort().catch(() => {});
    throw error;
  }
}

const fileOf = async (folder, name) => (await folder.getFileHandle(name)).getFile();
const isMissing = ({ name }) => name === "NotFoundError";

// Whether this tab is the one that has the project, for as long as it is open.
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

/** Who keeps the project ("own", "elsewhere" or "nowhere"), and what was kept. */
async function open() {
  if (!(await isAlone())) return { keeper: "elsewhere", project: null };
  try {
    kept = await folders();
    const project = await fileOf(kept.own, PROJECT).then(
      (file) => file.arrayBuffer(),
      (error) => {
        if (isMissing(error)) return null;
        throw error;
      },
    );
    // A page that was closed before it wrote for the first time leaves a name without contents.
    return { keeper: "own", project: project?.byteLength ? new Uint8Array(project) : null };
  } catch {
    kept = null;
    return { keeper: "nowhere", project: null };
  }
}

/** Keeps the project; whether there was room. */
async function save(bytes) {
  try {
    await write(kept.own, PROJECT, bytes);
    return true;
  } catch {
    return false;
  }
}

const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");

// Decoded and made smaller beside the page's own work; a wide one stays wider.
async function smaller(file) {
  const options = { imageOrientation: "from-image", resizeHeight: SMALL, resizeQuality: "medium" };
  const bitmap = await createImageBitmap(file, options);
  try {
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = canvas.getContext("2d");
    // What is transparent is white, as the networks see it.
    context.fillStyle = "#fff";
    context.fillRect(0, 0, bitmap.width, bitmap.height);
    context.drawImage(bitmap, 0, 0);
    return await canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 });
  } finally {
    bitmap.close();
  }
}

/** The id of a photograph, and whether the browser keeps it; rejected where the browser cannot show it. */
async function prepare(file) {
  const bytes = await file.arrayBuffer();
  const id = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).slice(0, 16);
  const small = await smaller(file);
  const name = hex(id);
  fresh.add(name);
  try {
    await write(kept.photos, name, bytes);
    await write(kept.smalls, name, small);
    return { id, kept: true };
  } catch {
    held.set(name, { file, small });
    return { id, kept: false };
  }
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
  if (!ids.length) fresh.clear();
  const gone = (id) => !wanted.has(id) && !fresh.has(id);
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

// Files of a folder that was dropped, with those of its folders.
async function filesOf(entry, found) {
  if (entry.isFile) {
    const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
    if (file) found.push({ file, path: entry.fullPath });
    return;
  }
  const reader = entry.createReader();
  // Each call gives some, until there are none.
  for (;;) {
    const entries = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!entries.length) return;
    for (const inner of entries) await filesOf(inner, found);
  }
}

/** Files that were chosen, dropped or pasted: `{ file, path }` of each. */
async function given(source) {
  if (source instanceof FileList) {
    return [...source].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
  }
  // Only now does the browser say what they are.
  const items = [...source.items].filter(({ kind }) => kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const found = [];
  for (const entry of entries) {
    if (entry instanceof File) found.push({ file: entry, path: entry.name });
    else if (entry) await filesOf(entry, found);
  }
  return found;
}

/** A file by deflate; as it is where that is not shorter. */
async function pack(bytes) {
  if (!globalThis.CompressionStream) return bytes;
  const packed = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  const short = new Uint8Array(await new Response(packed).arrayBuffer());
  return short.length < bytes.length ? short : bytes;
}

/** Hands a file to the owner. */
function download(name, parts, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(parts, { type }));
  link.download = name;
  link.click();
  // The address is needed until the browser has begun.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

const storage = { own: () => kept?.own, photo, write, fileOf };

window.studio = {
  open,
  save,
  prepare,
  show,
  keepOnly,
  given,
  pack,
  download,
  openEngine: () => openEngine(storage),
  look,
  make,
  endEngine,
};

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
