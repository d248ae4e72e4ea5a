// The CPU engine on one and several threads: in a page that may share memory, in one that may not, on the
// second visit to a host that says nothing, and without the module for shared memory. Prints what it
// saw.
//
// node threads.mjs SITE PICTURE SCREENSHOT_FOLDER
import { readFileSync } from "node:fs";

import { give, keepAnswers, launch, settle, watch } from "./chromium.mjs";
import { ISOLATED, start } from "./host.mjs";

const [site, picture, screenshots] = process.argv.slice(2);
const host = await start(site, /worker-.*\.wasm$/);
const browser = await launch();
const bytes = [...readFileSync(picture)];

async function open(address) {
  const page = await (await browser.newContext({ viewport: { width: 1100, height: 900 } })).newPage();
  const { problems } = watch(page);
  await keepAnswers(page);
  await page.goto(address);
  return { page, problems };
}

// Answers of the package with a number of threads asked for, once it has those that it can have.
async function answers(threads) {
  // The measuring page brings no engine of its own along.
  const { page, problems } = await open(`${host.address}bench/`);
  const seen = await page.evaluate(
    async ([threads, bytes]) => {
      const { Magpie } = await import("../magpie.js");
      const magpie = await Magpie.load("../bundle/", { backend: "cpu", threads });
      const file = new File([Uint8Array.from(bytes)], "picture.jpg", { type: "image/jpeg" });
      await magpie.recognize(file);
      await magpie.measure("Search", { runs: 1 });
      const result = await magpie.recognize(file);
      magpie.dispose();
      const objects = result.objects.map(({ box, label, embedding }) => {
        return { box, label, embedding: [...embedding] };
      });
      return { isolated: crossOriginIsolated, threads: result.threads, objects };
    },
    [threads, bytes],
  );
  await page.context().close();
  return { ...seen, problems, modules: host.asked.splice(0).length };
}

const seen = {};
host.headers = ISOLATED;
for (const threads of [1, 2, 4]) seen[threads] = await answers(threads);
host.headers = {};
seen.plain = await answers(2);
host.missing = /worker-relaxed_bg\.wasm$/;
host.headers = ISOLATED;
seen.fallback = await answers(2);
host.missing = null;
host.headers = {};

const { page, problems } = await open(`${host.address}?backend=cpu&lang=en&threads=2`);
const look = async () => {
  await settle(page);
  // The first answers may come before the helpers.
  for (let time = 0; time < 20; time += 1) {
    await give(page, picture);
    if (await page.evaluate(() => window.answers.at(-1).result.threads > 1 || !crossOriginIsolated)) break;
  }
  return {
    isolated: await page.evaluate(() => crossOriginIsolated),
    timings: await page.locator("#timings").textContent(),
    labels: await page.locator("#answers h3 .label").allTextContents(),
  };
};
const first = await look();
await page.evaluate(() => navigator.serviceWorker.ready);
await page.waitForFunction(() => navigator.serviceWorker.controller);
await page.reload();
seen.visits = [first, await look()];
seen.visitProblems = problems;
await page.screenshot({ path: `${screenshots}/threads.png` });

await browser.close();
host.close();
console.log(JSON.stringify(seen));
