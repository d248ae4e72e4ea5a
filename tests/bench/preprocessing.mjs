// How a picture gets from a file to a network's input, by the engine or by the browser: recall, likeness of
// the embeddings and time of each way, in Chromium, as JSON lines.
//
// node preprocessing.mjs SITE LIST SIDE [STEP]
//   SITE  published site without a detector, whose gallery holds the labels of LIST
//   LIST  lines of a picture's path, relative to the list, and its label
//   SIDE  side of the network's input
//   STEP  takes every STEP-th line (1)
import { readFileSync } from "node:fs";
import { dirname } from "node:path";

import { launch } from "../browser/chromium.mjs";
import { serve } from "./serve.mjs";

const [site, list, side, step = "1"] = process.argv.slice(2);
const server = await serve({ site, data: dirname(list) });
const lines = readFileSync(list, "utf8")
  .split("\n")
  .filter((line) => line.trim())
  .filter((_, index) => index % Number(step) === 0)
  .map((line) => /^(\S+)\s+(.*)$/.exec(line).slice(1, 3));

const browser = await launch();
const page = await (await browser.newContext()).newPage();
page.setDefaultTimeout(0);
await page.goto(server.address);
await page.evaluate(async (side) => {
  const { Magpie } = await import("/site/magpie.js");
  const magpie = await Magpie.load("/site/bundle/", { backend: "cpu" });
  // Of one size each, for good.
  const canvases = new Map();
  const drawn = (bitmap, width, height, quality) => {
    const key = `${width}×${height}`;
    if (!canvases.has(key)) canvases.set(key, new OffscreenCanvas(width, height));
    const context = canvases.get(key).getContext("2d", { willReadFrequently: true });
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = quality ?? "low";
    context.drawImage(bitmap, 0, 0, width, height);
    return context.getImageData(0, 0, width, height);
  };
  const resized = async (file, resizeQuality) => {
    const size = { resizeWidth: side, resizeHeight: side };
    return drawn(await createImageBitmap(file, { ...size, resizeQuality }), side, side);
  };
  const ways = {
    "engine decodes, engine resamples": async (file) => file,
    "browser decodes, engine resamples": async (file) => {
      const bitmap = await createImageBitmap(file);
      return drawn(bitmap, bitmap.width, bitmap.height);
    },
    "browser decodes without color profiles, engine resamples": async (file) => {
      const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
      return drawn(bitmap, bitmap.width, bitmap.height);
    },
    "canvas, low": async (file) => drawn(await createImageBitmap(file), side, side, "low"),
    "canvas, medium": async (file) => drawn(await createImageBitmap(file), side, side, "medium"),
    "canvas, high": async (file) => drawn(await createImageBitmap(file), side, side, "high"),
    "createImageBitmap, pixelated": (file) => resized(file, "pixelated"),
    "createImageBitmap, low": (file) => resized(file, "low"),
    "createImageBitmap, medium": (file) => resized(file, "medium"),
    "createImageBitmap, high": (file) => resized(file, "high"),
  };
  window.sums = Object.fromEntries(
    Object.keys(ways).map((way) => [way, { right: 0, cosine: 0, least: 1, browser: [], engine: [] }]),
  );
  window.look = async (path, label) => {
    const blob = await (await fetch(`/data/${path}`)).blob();
    const file = new File([blob], path, { type: "image/jpeg" });
    let own;
    for (const [way, prepare] of Object.entries(ways)) {
      const sum = window.sums[way];
      const start = performance.now();
      const picture = await prepare(file);
      sum.browser.push(performance.now() - start);
      const { objects, timings } = await magpie.recognize(picture, { topK: 1 });
      const { answers, embedding } = objects[0];
      own ??= embedding;
      const cosine = embedding.reduce((sum, value, index) => sum + value * own[index], 0);
      sum.right += answers[0].label === label;
      sum.cosine += cosine;
      sum.least = Math.min(sum.least, cosine);
      sum.engine.push(timings.decode + timings.embed);
    }
  };
}, Number(side));
for (const [path, label] of lines) {
  await page.evaluate(([path, label]) => window.look(path, label), [path, label]);
}
const sums = await page.evaluate(() => window.sums);
const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];
for (const [way, { right, cosine, least, browser, engine }] of Object.entries(sums)) {
  const figures = {
    way,
    pictures: lines.length,
    recall_at_1: right / lines.length,
    mean_cosine: cosine / lines.length,
    least_cosine: least,
    browser_ms: median(browser),
    engine_ms: median(engine),
  };
  console.log(JSON.stringify(figures));
}
await browser.close();
server.close();
