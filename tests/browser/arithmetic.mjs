// What a site whose detector computes in int8 finds in a picture: with relaxed SIMD, and in the
// module without it. Prints what it saw.
//
// node arithmetic.mjs SITE PICTURE SCREENSHOT_FOLDER
import { readFileSync } from "node:fs";

import { launch, watch } from "./chromium.mjs";
import { start } from "./host.mjs";

const [site, picture] = process.argv.slice(2);
const host = await start(site, /worker-.*\.wasm$/);
const browser = await launch();
const bytes = [...readFileSync(picture)];

async function boxes() {
  const page = await (await browser.newContext()).newPage();
  const { problems } = watch(page);
  await page.goto(`${host.address}bench/`);
  const found = await page.evaluate(async (bytes) => {
    const { Magpie } = await import("../magpie.js");
    const magpie = await Magpie.load("../bundle/", { backend: "cpu", threads: 1 });
    const file = new File([Uint8Array.from(bytes)], "picture.jpg", { type: "image/jpeg" });
    const result = await magpie.recognize(file);
    magpie.dispose();
    return result.objects.map(({ box: { x, y, width, height } }) => [x, y, x + width, y + height]);
  }, bytes);
  await page.context().close();
  return { boxes: found, problems };
}

const seen = { relaxed: await boxes() };
host.missing = /worker-relaxed_bg\.wasm$/;
seen.plain = await boxes();
console.log(JSON.stringify(seen));
await browser.close();
host.close();
