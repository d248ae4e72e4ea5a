// Gives many pictures of random sizes to one page, then a quarter as many lessons, and prints the memory that its
// engine took after every fifth of either; of a thousand pictures and more also the whole page's.
//
// node soak.mjs SITE PICTURE COUNT
import { readFileSync } from "node:fs";

import { openMeasured } from "./measured.mjs";

const [site, picture, count] = process.argv.slice(2);
const { page, problems, close } = await openMeasured(site);
await page.evaluate(
  async (bytes) => {
    const { Magpie } = await import("../magpie.js");
    const magpie = await Magpie.load("../bundle/", { backend: "cpu" });
    const sample = await createImageBitmap(new Blob([Uint8Array.from(bytes)]));
    let state = 1;
    // From 0 to 1, the same on every run.
    const random = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state / 2 ** 32;
    };
    // The sample, turned and squeezed, as a file or as pixels.
    const draw = async (width, height) => {
      const canvas = new OffscreenCanvas(width, height);
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.fillStyle = `hsl(${360 * random()} 60% 60%)`;
      context.fillRect(0, 0, width, height);
      context.rotate(0.3 * random());
      context.drawImage(sample, 0, 0, width * (0.5 + random()), height * (0.5 + random()));
      if (random() < 0.3) return context.getImageData(0, 0, width, height);
      const type = random() < 0.8 ? "image/jpeg" : "image/png";
      return canvas.convertToBlob({ type });
    };
    const side = () => Math.round(16 * (2000 / 16) ** random());
    const seen = { pictures: 0, objects: 0, refused: 0 };
    window.give = async (count) => {
      for (let index = 0; index < count; index += 1, seen.pictures += 1) {
        // The largest come first: what they need is not growth.
        const [width, height] = seen.pictures < 3 ? [2000, 2000] : [side(), side()];
        try {
          seen.objects += (await magpie.recognize(await draw(width, height))).objects.length;
        } catch {
          seen.refused += 1;
        }
      }
      return seen;
    };
    window.teach = async (count) => {
      const milliseconds = [];
      for (let index = 0; index < count; index += 1) {
        const thing = await draw(200, 200);
        const began = performance.now();
        await magpie.gallery.add(`thing ${Math.floor(50 * random())}`, thing);
        milliseconds.push(performance.now() - began);
      }
      return milliseconds.sort((a, b) => a - b)[count >> 1];
    };
    // Takes the browser up to a minute.
    window.wholePage = async () => (await performance.measureUserAgentSpecificMemory()).bytes;
  },
  [...readFileSync(picture)],
);
const engine = page.workers().find((worker) => /worker\.js/.test(worker.url()));
const seen = { engine: [], page: [], taught: [], lesson: [] };
for (let fifth = 0; fifth < 5; fifth += 1) {
  Object.assign(seen, await page.evaluate((count) => window.give(count), Math.ceil(Number(count) / 5)));
  seen.engine.push(await engine.evaluate(() => self.memory.buffer.byteLength));
  if (Number(count) >= 1000) seen.page.push(await page.evaluate(() => window.wholePage()));
}
for (let fifth = 0; fifth < 5; fifth += 1) {
  seen.lesson.push(await page.evaluate((count) => window.teach(count), Math.ceil(Number(count) / 20)));
  seen.taught.push(await engine.evaluate(() => self.memory.buffer.byteLength));
}
await close();
console.log(JSON.stringify({ ...seen, problems }));
