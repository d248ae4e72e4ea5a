// Measures Magpie and the runtimes that a site's owner put beside it; prints what it saw as JSON.
//
// node peers.mjs ADDRESS SCREENSHOT_FOLDER SCHEMA
import { readFileSync } from "node:fs";

import Ajv from "ajv/dist/2020.js";

import { launch, watch } from "./chromium.mjs";

const [address, screenshots, schema] = process.argv.slice(2);
const browser = await launch();
const page = await (await browser.newContext({ viewport: { width: 1400, height: 900 } })).newPage();
const { problems, origins } = watch(page);
const valid = new Ajv({ strict: false }).compile(JSON.parse(readFileSync(schema, "utf8")));

await page.goto(`${address}bench/?lang=en`);
await page.waitForSelector("[data-ready]");
// Nobody downloads another runtime without having asked for it.
if ((await page.locator("#peers input:checked").count()) > 0) problems.push("runtimes are chosen already");
for (const box of await page.locator("#peers input").all()) await box.check();
await page.locator("#arithmetic").selectOption("f32,i8");
await page.locator("#runs").fill("3");
await page.locator("#start").click();
await page.waitForFunction(
  () => ["done", "failed"].includes(document.querySelector("#status").className),
  null,
  { timeout: 240_000 },
);
const status = await page.locator("#status").textContent();
await page.screenshot({ path: `${screenshots}/bench-peers.png`, fullPage: true });
const download = page.waitForEvent("download");
await page.locator("#save").click();
const reports = JSON.parse(readFileSync(await (await download).path(), "utf8"));
const faults = valid(reports) ? [] : valid.errors.map(({ instancePath, message }) => `${instancePath} ${message}`);
// LiteRT tells its log as errors.
const own = problems.filter((problem) => !/^(INFO|WARNING): /.test(problem));
console.log(JSON.stringify({ status, reports, faults, problems: own, origins: [...origins] }));
await browser.close();
