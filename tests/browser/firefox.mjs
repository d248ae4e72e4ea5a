// The published page in Firefox, on the processor; prints what it saw as JSON.
//
// node firefox.mjs ADDRESS SCREENSHOT_FOLDER PICTURE
import { existsSync } from "node:fs";

import puppeteer from "puppeteer-core";

import { PATIENCE } from "./patience.mjs";

const [address, screenshots, picture] = process.argv.slice(2);
const places = ["/usr/bin/firefox-esr", "/usr/bin/firefox"];
const browser = await puppeteer.launch({
  browser: "firefox",
  executablePath: process.env.FIREFOX ?? places.find(existsSync),
  headless: true,
  // The browser's own size: older ones refuse to be given another.
  defaultViewport: null,
  args: ["--width=1100", "--height=900"],
});
const page = await browser.newPage();
page.setDefaultTimeout(PATIENCE);
const problems = [];
page.on("console", (message) => {
  if (["error", "warn"].includes(message.type())) problems.push(message.text());
});
page.on("pageerror", (error) => problems.push(String(error)));
const text = (selector) => page.$eval(selector, (element) => element.textContent);
const texts = (selector) =>
  page.$$eval(selector, (elements) => elements.map((element) => element.textContent));
// By asking again: the page's policy lets no waiting code in.
async function saying(words) {
  for (let tries = 0; tries < 300; tries += 1) {
    if ((await text("#status")).includes(words)) return;
    await new Promise((next) => setTimeout(next, 200));
  }
  throw new Error(`the page says ${await text("#status")}, not ${words}`);
}
const ready = () => page.waitForSelector("#status.done, #status.failed", { timeout: PATIENCE });
const give = async () => {
  await (await page.$("#file")).uploadFile(picture);
  await page.waitForSelector("#answers .card", { timeout: PATIENCE });
};

await page.goto(`${address}?lang=en`);
await ready();
await give();
const seen = {
  status: await text("#status"),
  labels: await texts("#answers h3 .label"),
  boxes: (await page.$$("#boxes .box")).length,
  timings: await text("#timings"),
};
await page.screenshot({ path: `${screenshots}/firefox.png` });
// What is taught is kept.
await page.focus(".correction button");
await page.keyboard.press("Enter");
await page.keyboard.type("my thing");
await page.keyboard.press("Enter");
await saying("Learned");
await page.reload();
await ready();
await give();
seen.taught = (await texts("#answers h3 .label"))[0];
seen.kept = await text("#gallery");
await page.goto(`${address}bench/?lang=en`);
await page.waitForSelector("[data-ready]");
await page.$eval("#runs", (input) => (input.value = "3"));
await page.click("#start");
await page.waitForSelector("#status.done, #status.failed", { timeout: 240_000 });
seen.bench = { status: await text("#status"), parts: (await texts("#rows th")).length };
console.log(JSON.stringify({ ...seen, problems }));
await browser.close();
