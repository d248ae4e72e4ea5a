// The studio in Chromium, on its engine for the processor: photographs are chosen as a folder and become a site, as an
// owner does it. JSON lines.
//
// node studio.mjs SITE PICTURES MADE COUNT
//   SITE      a published site with its studio
//   PICTURES  folders of pictures, each named after what its pictures show
//   MADE      a folder for photographs of a camera's size, which are composed of these pictures where they are missing
//   COUNT     how many of them; 0 takes 2,000 of the pictures as they are
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { basename, extname, join } from "node:path";

import { launch, watch } from "../browser/chromium.mjs";
import { ISOLATED, start } from "../browser/host.mjs";

const [site, pictures, made, count] = process.argv.slice(2);
const CLASSES = 30;
// Photographs of 12 megapixels, and what their files have in bytes.
const [WIDTH, HEIGHT] = [4000, 3000];
const [LEAST, MOST] = [2e6, 4e6];
const AS_THEY_ARE = 2000;
// Changes of labels that are timed, and milliseconds between two looks at the memory.
const CHANGES = 5;
const LOOK = 250;

/** Pictures below a folder with the names of the folders that they lie in, in order. */
function picturesBelow(folder) {
  const found = [];
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile() || !/^\.(jpe?g|png)$/i.test(extname(entry.name))) continue;
    const place = entry.parentPath ?? entry.path;
    found.push({ path: join(place, entry.name), label: basename(place) });
  }
  return found.sort((one, other) => (one.path < other.path ? -1 : 1));
}

/** The classes with most pictures, each with its pictures. */
function classesOf(found, most) {
  const classes = new Map();
  for (const { path, label } of found) classes.set(label, [...(classes.get(label) ?? []), path]);
  const sorted = [...classes].sort(([one, some], [other, more]) => more.length - some.length || (one < other ? -1 : 1));
  return sorted.slice(0, most);
}

/** As many pictures, taken in turn from each class. */
function inTurn(classes, count) {
  const taken = [];
  for (let turn = 0; taken.length < count; turn += 1) {
    const before = taken.length;
    for (const [label, paths] of classes) {
      if (turn < paths.length && taken.length < count) taken.push({ label, path: paths[turn] });
    }
    if (taken.length === before) throw new Error(`${pictures}: has ${before} pictures, and ${count} are wanted`);
  }
  return taken;
}

const browser = await launch();
const host = await start(site, /^$/);
host.headers = ISOLATED;
host.pages["/blank"] = ["<!doctype html>", ISOLATED];
host.sites["/pictures/"] = pictures;

// A thing in front of another picture, turned and lit by chance, with a sensor's noise: as large as a camera's file.
async function compose({ thing, ground, seed, width, height, least, most }) {
  let state = seed;
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  const image = async (address) => createImageBitmap(await (await fetch(address)).blob());
  const [front, back] = [await image(thing), await image(ground)];
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const noise = new OffscreenCanvas(512, 512);
  const grain = noise.getContext("2d");
  const pixels = grain.createImageData(512, 512);
  for (let at = 0; at < pixels.data.length; at += 4) {
    pixels.data.fill(255 * random(), at, at + 3);
    pixels.data[at + 3] = 255;
  }
  grain.putImageData(pixels, 0, 0);
  context.drawImage(back, 0, 0, width, height);
  context.fillStyle = `rgba(255, 255, 255, ${0.5 * random()})`;
  context.fillRect(0, 0, width, height);
  const side = height * (0.6 + 0.3 * random());
  context.translate(width * (0.35 + 0.3 * random()), height / 2);
  context.rotate(0.5 * (random() - 0.5));
  const wide = (side * front.width) / Math.max(front.width, front.height);
  const high = (side * front.height) / Math.max(front.width, front.height);
  context.drawImage(front, -wide / 2, -high / 2, wide, high);
  context.resetTransform();
  let blob = null;
  // Noise until the file has its size.
  for (let turn = 0; turn < 12; turn += 1) {
    context.globalAlpha = 0.02;
    context.globalCompositeOperation = "overlay";
    context.fillStyle = context.createPattern(noise, "repeat");
    context.fillRect(0, 0, width, height);
    blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 });
    if (blob.size >= least) break;
  }
  for (let quality = 0.88; blob.size > most && quality > 0.3; quality -= 0.04) {
    blob = await canvas.convertToBlob({ type: "image/jpeg", quality });
  }
  const reader = new FileReader();
  return new Promise((resolve) => {
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.readAsDataURL(blob);
  });
}

/** A folder of photographs by class, made where it is missing. */
async function photographs(count) {
  const folder = join(made, `photographs-${count}`);
  if (existsSync(join(folder, "whole"))) return folder;
  const chosen = inTurn(classesOf(picturesBelow(pictures), CLASSES), count);
  const page = await (await browser.newContext()).newPage();
  await page.goto(`${host.address}blank`);
  const address = (path) => `/pictures/${path.slice(pictures.length).split("/").filter(Boolean).map(encodeURIComponent).join("/")}`;
  for (const [number, { label, path }] of chosen.entries()) {
    const behind = chosen[(number * 7 + 3) % chosen.length].path;
    const given = { thing: address(path), ground: address(behind), seed: number + 1, width: WIDTH, height: HEIGHT };
    const file = await page.evaluate(compose, { ...given, least: LEAST, most: MOST });
    mkdirSync(join(folder, "shelf", label), { recursive: true });
    writeFileSync(join(folder, "shelf", label, `${number}.jpg`), Buffer.from(file, "base64"));
  }
  await page.context().close();
  writeFileSync(join(folder, "whole"), "");
  return folder;
}

/** A folder of the pictures as they are. */
function asTheyAre() {
  const folder = join(made, `pictures-${AS_THEY_ARE}`);
  for (const [number, { label, path }] of inTurn(classesOf(picturesBelow(pictures), Infinity), AS_THEY_ARE).entries()) {
    mkdirSync(join(folder, "shelf", label), { recursive: true });
    writeFileSync(join(folder, "shelf", label, `${number}${extname(path)}`), readFileSync(path));
  }
  return folder;
}

/** Memory of the browser's processes that show pages, in bytes: what no other process has. */
async function memory(session) {
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  const own = ({ id }) => {
    try {
      const kinds = readFileSync(`/proc/${id}/smaps_rollup`, "utf8").matchAll(/^Private_\w+: +(\d+) kB$/gm);
      return [...kinds].reduce((sum, [, kilobytes]) => sum + 1024 * Number(kilobytes), 0);
    } catch {
      return 0;
    }
  };
  return Math.max(...processInfo.filter(({ type }) => type === "renderer").map(own));
}

const folder = join(Number(count) ? await photographs(Number(count)) : asTheyAre(), "shelf");
const files = picturesBelow(folder);
const bytes = files.reduce((sum, { path }) => sum + statSync(path).size, 0);

const visit = await browser.newContext({ acceptDownloads: true, viewport: { width: 1280, height: 900 } });
const page = await visit.newPage();
page.setDefaultTimeout(0);
const { problems } = watch(page);
await page.addInitScript(() => {
  window.tasks = [];
  new PerformanceObserver((list) => {
    for (const { startTime, duration } of list.getEntries()) window.tasks.push([startTime, duration]);
  }).observe({ type: "longtask", buffered: true });
});
const session = await browser.newBrowserCDPSession();
let peak = 0;
let isWatching = true;
const watching = (async () => {
  while (isWatching) {
    peak = Math.max(peak, await memory(session));
    await new Promise((next) => setTimeout(next, LOOK));
  }
})();
await page.goto(`${host.address}studio/?lang=en`);
const settled = () => page.waitForFunction(() => document.querySelector("#status").className !== "busy");
await settled();
const idle = await memory(session);
// What the page does before anything is given is none of this.
await page.evaluate(() => {
  window.tasks = [];
});

const tasks = () => page.evaluate(() => window.tasks.splice(0));
const seen = { files: files.length, megabytes: bytes / files.length / 1e6 };
const long = {};
const begun = performance.now();
await page.locator("#folder").setInputFiles(folder);
await page.waitForFunction(() => document.querySelector("#status").textContent.includes("came in"));
seen.in_s = (performance.now() - begun) / 1000;
long.in = await tasks();
const coming = page.waitForEvent("download", { timeout: 0 });
await page.locator("#save-site").click();
const download = await coming;
await settled();
await download.saveAs(join(made, "site.zip"));
seen.all_s = (performance.now() - begun) / 1000;
seen.said = await page.locator("#status").textContent();
long.site = await tasks();

// A change of labels, how long the figures are not those of what is seen, and how long they go by what was learned before
// the change. The owner pauses after each: only then is anything learned anew.
const [changes, learned] = [[], []];
const areFresh = () => page.waitForFunction(() => document.querySelector("#figures:not([hidden]):not(.stale)"));
const areLearned = () =>
  page.waitForFunction(() => document.querySelector("#figures:not([hidden]):not(.stale):not(:has(.stale-note))"));
await areLearned();
for (let change = 0; change < CHANGES; change += 1) {
  const name = page.locator("#classes input.name").nth(change);
  await name.fill(`${await name.inputValue()} ${change}`);
  const changed = performance.now();
  await page.keyboard.press("Enter");
  await page.waitForSelector("#figures.stale");
  await areFresh();
  changes.push((performance.now() - changed) / 1000);
  await areLearned();
  learned.push((performance.now() - changed) / 1000);
}
long.change = await tasks();
isWatching = false;
await watching;

const all = Object.values(long).flat().map(([, duration]) => duration);
const median = (seconds) => seconds.sort((one, other) => one - other)[CHANGES >> 1];
Object.assign(seen, { change_s: median(changes), learned_s: median(learned) });
Object.assign(seen, { longest_ms: Math.max(0, ...all), long_tasks: all.length, page_mb: (peak - idle) / 1e6, process_mb: peak / 1e6 });
console.error(JSON.stringify(long), JSON.stringify(problems), seen.said);
console.log(JSON.stringify(seen));
await browser.close();
host.close();
