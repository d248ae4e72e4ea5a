// A page over a gallery with a map and a calibration, and an image of one color; prints what was seen as JSON.
//
// node adapted.mjs BROWSER SITE PICTURE PLAIN
//   BROWSER  chromium or firefox
//   PLAIN    an image of one color
import { launchNamed } from "./browsers.mjs";
import { give, keepAnswers, saying, settle, watch } from "./chromium.mjs";
import { start } from "./host.mjs";

const [which, site, picture, plain] = process.argv.slice(2);
const host = await start(site, /^$/);
const browser = await launchNamed(which);
const page = await (await browser.newContext({ viewport: { width: 1100, height: 900 } })).newPage();
const { problems } = watch(page);
await keepAnswers(page);
await page.goto(`${host.address}?backend=cpu&lang=en`);
await settle(page);
await give(page, picture);
const seen = {
  objects: await page.evaluate(() =>
    window.answers.at(-1).result.objects.map(({ known, answers }) => ({
      known,
      answers: answers.map(({ label, similarity, probability }) => ({ label, similarity, probability })),
    })),
  ),
  sentences: await page.locator("#answers .lead").allTextContents(),
  size: await page.locator("#gallery").textContent(),
};
// Nothing can be learned from an image of one color.
await give(page, plain);
await page.locator(".correction button").first().click();
await page.locator(".teach input").first().fill("my own thing");
await page.keyboard.press("Enter");
await page.waitForFunction(() => document.querySelector("#status").className === "failed");
seen.plain = {
  words: await page.locator("#own-words").textContent(),
  size: await page.locator("#gallery").textContent(),
};
// The next picture is answered and learned from.
await give(page, picture);
await page.locator(".correction button").first().click();
await page.locator(".teach input").first().fill("my own thing");
await page.keyboard.press("Enter");
await saying(page, "my own thing");
seen.taught = await page.locator("#answers h3 .label").allTextContents();
console.log(JSON.stringify({ ...seen, problems }));
await browser.close();
host.close();
