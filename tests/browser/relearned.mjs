// A page over a gallery with a map, which grows by a file of entries; prints what was seen as JSON.
//
// node relearned.mjs SITE PICTURE LESSONS SAVED
//   LESSONS  gallery file with new entries
//   SAVED    file to write the gallery into that the page saves
import { give, keepAnswers, launch, saying, settle, watch } from "./chromium.mjs";
import { start } from "./host.mjs";

const [site, picture, lessons, saved] = process.argv.slice(2);
const host = await start(site, /worker-author/);
const browser = await launch();
const page = await (await browser.newContext({ viewport: { width: 1100, height: 900 } })).newPage();
const { problems } = watch(page);
await keepAnswers(page);
// What the engine says that nobody asked for.
await page.addInitScript(() => {
  const Original = window.Worker;
  window.adapted = [];
  window.Worker = class extends Original {
    constructor(...argument) {
      super(...argument);
      this.addEventListener("message", (event) => {
        if (event.data?.Adapted) window.adapted.push(event.data.Adapted.thresholds);
      });
    }
  };
});
const adapted = (count) => page.waitForFunction((count) => window.adapted.length >= count, count);
const last = () => page.evaluate(() => window.adapted.at(-1));
const modules = () => host.asked.filter(({ path }) => /worker-author_bg\.wasm/.test(path)).length;

await page.goto(`${host.address}?backend=cpu&lang=en`);
await settle(page);
await give(page, picture);
const seen = { modules: [modules()] };
await page.evaluate(() => (document.querySelector("#gallery-panel").open = true));
await page.locator("#import").setInputFiles(lessons);
await saying(page, "added from the file");
await adapted(1);
seen.modules.push(modules());
seen.grown = await last();
await page.locator("#edit").click();
const download = page.waitForEvent("download");
await page.locator("#export").click();
await (await download).saveAs(saved);
// The log of changes is kept, and what it teaches is learned at the next visit.
await page.reload();
await settle(page);
await give(page, picture);
await adapted(1);
seen.again = await last();
await page.evaluate(() => (document.querySelector("#gallery-panel").open = true));
await page.locator("#undo").click();
await adapted(2);
seen.undone = await last();
console.log(JSON.stringify({ ...seen, problems }));
await browser.close();
host.close();
