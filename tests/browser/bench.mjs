// Runs the page for measurements in headless Chromium; prints what it saw as JSON.
//
// node bench.mjs ADDRESS SCREENSHOT_FOLDER SCHEMA NATIVE
//   SCHEMA  the form of reports
//   NATIVE  file that `magpie bench --json` printed
import { readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import Ajv from "ajv/dist/2020.js";

import { launch, saying, watch } from "./chromium.mjs";

const [address, screenshots, schema, native] = process.argv.slice(2);
const browser = await launch();
const context = await browser.newContext({ viewport: { width: 1100, height: 900 } });
const page = await context.newPage();
const { problems, origins } = watch(page);
const valid = new Ajv({ strict: false }).compile(JSON.parse(readFileSync(schema, "utf8")));
const check = (report) => (valid(report) ? [] : valid.errors.map(({ instancePath, message }) => `${instancePath} ${message}`));
const headings = () => page.locator("#rows th").allTextContents();
const said = (words) => saying(page, words);

await page.goto(`${address}bench/?lang=en`);
await page.waitForSelector("[data-ready]");
await page.locator("#runs").fill("3");
await page.locator("#start").focus();
await page.keyboard.press("Enter");
await page.waitForFunction(
  () => ["done", "failed"].includes(document.querySelector("#status").className),
  null,
  { timeout: 240_000 },
);
const seen = { status: await page.locator("#status").textContent(), parts: await headings() };
const download = page.waitForEvent("download");
await page.locator("#save").click();
const file = join(tmpdir(), `magpie-bench-${process.pid}.json`);
await (await download).saveAs(file);
seen.report = JSON.parse(readFileSync(file, "utf8"));
seen.faults = check(seen.report);

// The native report stands beside it, and the link holds both.
const nativeReport = JSON.parse(readFileSync(native, "utf8"));
seen.nativeFaults = check(nativeReport);
await page.locator("#compare").setInputFiles(native);
await page.waitForFunction(() => document.querySelectorAll("#columns th").length === 3);
seen.bars = await page.locator("#rows .bar").count();
await page.locator("#link").click();
await page.waitForFunction(() => location.hash.startsWith("#r="));
const link = page.url();
seen.link = link.length;
await page.screenshot({ path: `${screenshots}/bench.png`, fullPage: true });
const other = await context.newPage();
await other.goto(link);
await other.waitForFunction(() => document.querySelectorAll("#columns th").length === 3);
seen.same = (await other.locator("#rows").textContent()) === (await page.locator("#rows").textContent());

// What is no report changes nothing.
writeFileSync(file, '{"schema": 2, "results": "none"}');
await page.locator("#compare").setInputFiles(file);
await said("holds no results");
seen.columns = await page.locator("#columns th").count();

// Stopping is at once.
await page.locator("#runs").fill("1000");
await page.locator("#start").click();
await said("embedding");
await page.locator("#stop").click();
await said("Stopped");
seen.started = await page.locator("#start").isEnabled();
await page.setViewportSize({ width: 360, height: 780 });
seen.overflow = await page.evaluate(
  () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
);
console.log(JSON.stringify({ ...seen, problems, origins: [...origins] }));
await browser.close();
