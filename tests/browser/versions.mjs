// A site that is kept, and another build of it at its host, of which one file does not come: no page is put together
// of both. Chromium; prints what the page said.
//
// node versions.mjs SITE FOLDER
//   FOLDER  for the other build
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { launch } from "./chromium.mjs";
import { ISOLATED, start } from "./host.mjs";
import { PATIENCE } from "./patience.mjs";

const [site, folder] = process.argv.slice(2);
const other = join(folder, "other");
cpSync(site, other, { recursive: true });
// The same names changed in script and module, as another build has other ones.
const script = readFileSync(join(other, "web.js"), "utf8");
const module = readFileSync(join(other, "web_bg.wasm"));
const [name] = /__wbg_[a-zA-Z]+_[0-9a-f]{16}/.exec(script);
const changed = name.slice(0, -4) + (name.endsWith("ffff") ? "eeee" : "ffff");
writeFileSync(join(other, "web.js"), script.replaceAll(name, changed));
for (let at = module.indexOf(name); at >= 0; at = module.indexOf(name, at + 1)) module.write(changed, at);
writeFileSync(join(other, "web_bg.wasm"), module);
const worker = readFileSync(join(other, "sw.js"), "utf8");
writeFileSync(join(other, "sw.js"), worker.replace(/const VERSION = "[^"]*"/, 'const VERSION = "0123456789abcdef"'));

const look = (page) =>
  page.evaluate(() => ({
    state: document.querySelector("#status").className,
    unable: document.querySelector("#unable").hidden ? null : document.querySelector("#unable").textContent,
    offline: document.querySelector("#offline").textContent,
  }));
async function until(page, test) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    // Between two documents there is nothing to look at.
    const seen = await look(page).catch(() => null);
    if (seen && test(seen)) return seen;
    if (Date.now() > end) return { ...seen, late: true };
    await new Promise((then) => setTimeout(then, 100));
  }
}

const browser = await launch();
const seen = {};
for (const missing of ["web_bg.wasm", null]) {
  const host = await start(site, /^$/);
  host.headers = ISOLATED;
  const context = await browser.newContext();
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  await page.goto(`${host.address}?lang=en&backend=cpu`);
  await until(page, ({ offline }) => offline !== "");
  host.site = other;
  if (missing) await context.route(`**/${missing}`, (route) => route.fulfill({ status: 503, body: "not now" }));
  await page.reload({ waitUntil: "domcontentloaded" });
  const said = await until(page, ({ state, unable }) => /done|failed/.test(state) || unable !== null);
  seen[missing ?? "all"] = { ...said, errors };
  host.close();
  await context.close();
}
console.log(JSON.stringify(seen));
await browser.close();
process.exit(0);
