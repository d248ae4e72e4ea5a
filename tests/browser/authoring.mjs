// The same photographs by the engine that makes sites, in Node and in Chromium; prints of both the gallery and
// the digests of the site's files.
//
// node authoring.mjs PAGE EXTRACTOR PHOTOS TITLE
//   PAGE    the built page with its engines
//   PHOTOS  folder with one sub-folder per class
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { setFlagsFromString } from "node:v8";

import { ThreadWorker } from "../../www/package/node-thread.js";
import { launch } from "./chromium.mjs";
import { start } from "./host.mjs";

// Node 20 has relaxed SIMD behind a flag.
setFlagsFromString("--experimental-wasm-relaxed-simd");

const [page, extractor, photos, title] = process.argv.slice(2);

/** Names of all files below a folder, sorted. */
function list(folder, prefix = "") {
  const names = readdirSync(join(folder, prefix)).flatMap((name) => {
    const path = prefix + name;
    if (name.startsWith(".")) return [];
    return statSync(join(folder, path)).isDirectory() ? list(folder, `${path}/`) : [path];
  });
  return names.sort();
}

const pageNames = list(page);
const photoNames = list(photos).sort((a, b) => (a < b ? -1 : 1));

/** Makes a site by a worker. Runs in Node and, as text, in a page. */
async function make(worker, { extractor, photos, page, title }) {
  const answers = [];
  let next = () => {};
  worker.onmessage = ({ data }) => {
    answers.push(data);
    next();
  };
  const failed = new Promise((_, reject) => {
    worker.onerror = (event) => reject(new Error(event.message));
  });
  const wanted = async (kind) => {
    for (;;) {
      while (answers.length) {
        const answer = answers.shift();
        if (answer === kind || answer[kind]) return answer[kind] ?? answer;
        if (answer.Failed) throw new Error(`${answer.Failed.error.kind}: ${answer.Failed.error.message}`);
      }
      await Promise.race([new Promise((then) => (next = then)), failed]);
    }
  };
  await wanted("Started");
  worker.postMessage({ Open: { extractor, detector: null } });
  const { key, exact } = await wanted("Opened");
  const records = [];
  const listed = [];
  for (const [id, { name, label, file }] of photos.entries()) {
    worker.postMessage({ Look: { id, name, file, pixels: null } });
    const { content, record } = await wanted("Looked");
    records.push(record);
    listed.push({ content, name, label });
  }
  worker.postMessage({ Know: { records } });
  const { photos: known } = await wanted("Known");
  const project = { title, photos: listed, crop: null, adapt: true, calibrate: true, classes: [], samples: [] };
  const from = performance.now();
  worker.postMessage({ Measure: { project } });
  const { figures } = await wanted("Measured");
  const measured = performance.now() - from;
  worker.postMessage({ Make: { project, page, packed: true } });
  const { gallery, site } = await wanted("Made");
  return { key, exact, known, figures, measured, gallery, site };
}

const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

async function inNode() {
  const worker = new ThreadWorker(`${pathToFileURL(resolve(page, "worker.js"))}?engine=author`);
  const made = await make(worker, {
    title,
    extractor: new Uint8Array(readFileSync(extractor)),
    photos: photoNames.map((name) => ({
      name,
      label: name.split("/")[0],
      file: new Uint8Array(readFileSync(join(photos, name))),
    })),
    page: pageNames.map((name) => ({ name, bytes: new Uint8Array(readFileSync(join(page, name))) })),
  });
  worker.terminate();
  const files = Object.fromEntries(made.site.map(({ name, bytes }) => [name, sha256(bytes)]));
  return { ...made, gallery: [...made.gallery], site: files };
}

async function inChromium() {
  const host = await start(page, /^$/);
  // A document without the page's policy.
  host.pages["/blank.html"] = ["<!doctype html><title>Authoring</title>", {}];
  const browser = await launch();
  const context = await browser.newContext();
  const tab = await context.newPage();
  await tab.goto(`${host.address}blank.html`);
  const base64 = (path) => readFileSync(path).toString("base64");
  const seen = await tab.evaluate(
    async ({ make, extractor, photos, pageNames, title }) => {
      const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
      const page = [];
      for (const name of pageNames) {
        page.push({ name, bytes: new Uint8Array(await (await fetch(name)).arrayBuffer()) });
      }
      const worker = new Worker("worker.js?engine=author", { type: "module" });
      const made = await new Function(`return ${make}`)()(worker, {
        title,
        extractor: bytes(extractor),
        photos: photos.map(({ name, label, file }) => ({ name, label, file: bytes(file) })),
        page,
      });
      worker.terminate();
      const sha256 = async (bytes) => {
        const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
        return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
      };
      const site = {};
      for (const { name, bytes } of made.site) site[name] = await sha256(bytes);
      return { ...made, gallery: [...made.gallery], site };
    },
    {
      make: String(make),
      extractor: base64(extractor),
      photos: photoNames.map((name) => ({ name, label: name.split("/")[0], file: base64(join(photos, name)) })),
      pageNames,
      title,
    },
  );
  await browser.close();
  host.close();
  return seen;
}

const seen = JSON.stringify({ node: await inNode(), chromium: await inChromium() });
// A pipe takes 64 kB at once: the rest is waited for.
process.stdout.write(seen, () => process.exit(0));
