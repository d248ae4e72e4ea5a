// Opens a page whose gallery is in shards: what is fetched for a picture, what is answered, what a
// visitor can change. Prints what it saw.
//
// node shards.mjs SITE NEXT SCREENSHOT_FOLDER PICTURE...
//   NEXT  folder of a site that takes the place of SITE while the page is open
import { cpSync } from "node:fs";

import { give, keepAnswers, launch, saying, settle, watch } from "./chromium.mjs";
import { start } from "./host.mjs";

const [site, next, screenshots, ...pictures] = process.argv.slice(2);
const host = await start(site, /\.shard$/);
const browser = await launch();

async function open() {
  const page = await (await browser.newContext({ viewport: { width: 1100, height: 900 } })).newPage();
  const { problems } = watch(page);
  await keepAnswers(page);
  await page.goto(`${host.address}?backend=cpu&lang=en`);
  await settle(page);
  return { page, problems };
}

// The newest answer: boxes, best labels, whether each has a picture, and what was fetched for it.
async function ask(page, picture) {
  host.asked = [];
  await give(page, picture);
  // A failure of the picture before still stands there until this one is begun.
  await page.waitForFunction(() => window.answers.length > 0);
  const objects = await page.evaluate(() =>
    window.answers.at(-1).result.objects.map(({ known, answers }) => ({
      known,
      labels: answers.map(({ label }) => label),
      similarity: answers[0]?.similarity,
      pictured: answers.map(({ thumbnail }) => thumbnail.length > 0),
    })),
  );
  return { objects, asked: [...host.asked] };
}

const seen = {};
{
  const { page, problems } = await open();
  seen.size = await page.locator("#gallery").textContent();
  seen.first = [await ask(page, pictures[0])];
  seen.again = await ask(page, pictures[0]);
  for (const picture of pictures.slice(1)) seen.first.push(await ask(page, picture));
  await page.screenshot({ path: `${screenshots}/shards.png`, fullPage: true });

  // The visitor's own class is beside the published ones, comes back after a reload, and can go.
  await page.locator("#gallery-panel summary").click();
  const first = () => page.locator("#answers h3 .label").first().textContent();
  await page.locator(".correction button").first().focus();
  for (const keys of ["Enter", "My thing", "Enter"]) {
    await (keys === "Enter" ? page.keyboard.press(keys) : page.keyboard.type(keys));
  }
  await saying(page, "Learned");
  seen.taught = await first();
  seen.rest = await page.locator("#more-classes").textContent();
  seen.own = await page.locator("#classes .name").allTextContents();
  await page.reload();
  await settle(page);
  seen.back = (await ask(page, pictures.at(-1))).objects.map(({ labels }) => labels[0]);
  await page.locator("#gallery-panel summary").click();
  await page.locator("#reset").click();
  await page.locator("dialog .primary").click();
  await page.waitForFunction(() => document.querySelector("#reset").disabled);
  seen.reset = await first();
  seen.problems = problems;
  await page.context().close();
}
// A host that sends whole files only: more bytes, the same answers.
host.ranges = false;
{
  const { page } = await open();
  seen.whole = await ask(page, pictures[0]);
  await page.context().close();
}
// A host that is gone: the page says so, and answers once it is back.
host.ranges = true;
{
  const { page } = await open();
  host.gone = true;
  await give(page, pictures[0]);
  seen.gone = await page.locator("#status").textContent();
  host.gone = false;
  seen.returned = await ask(page, pictures[0]);
  await page.context().close();
}
// Without a network: what was seen before is known, also by a page that is opened anew.
{
  const { page } = await open();
  await page.waitForFunction(() => document.querySelector("#offline").textContent !== "");
  seen.offline = await page.locator("#offline").textContent();
  for (const picture of pictures.slice(0, 2)) await ask(page, picture);
  host.gone = true;
  await page.reload();
  await settle(page);
  seen.away = await ask(page, pictures[1]);
  host.gone = false;
  await page.context().close();
}
// Somebody publishes anew while the page is open; what the visitor taught stays beside it.
{
  const { page, problems } = await open();
  await give(page, pictures[0]);
  cpSync(`${next}/bundle`, `${site}/bundle`, { recursive: true });
  await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
  await saying(page, "newer gallery");
  seen.newSize = await page.locator("#gallery").textContent();
  seen.newer = await ask(page, pictures[0]);
  seen.newProblems = problems;
  await page.context().close();
}
console.log(JSON.stringify(seen));
await browser.close();
host.close();
