// Opens a published page over networks that are slow, break, or change under it; prints what it saw.
//
// node flaky.mjs SITE PICTURE
//   SITE  folder of the site, sent by a server in here
import { createServer } from "node:http";
import { readFileSync, statSync } from "node:fs";
import { extname, join, normalize } from "node:path";

import { give, keepAnswers, launch, settle, watch } from "./chromium.mjs";

const [site, picture] = process.argv.slice(2);
const types = {
  ".css": "text/css",
  ".html": "text/html",
  ".js": "text/javascript",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};

// How the host behaves now; `asked` has the requests for files of the bundle.
const host = { ranges: true, breakAt: null, bytesPerSecond: null, asked: [] };

const server = createServer(async (request, response) => {
  const path = normalize(decodeURIComponent(new URL(request.url, "http://x").pathname));
  const file = join(site, path.endsWith("/") ? `${path}index.html` : path);
  let bytes;
  try {
    if (!statSync(file).isFile()) throw new Error("no file");
    bytes = readFileSync(file);
  } catch {
    response.writeHead(404).end();
    return;
  }
  const isModel = /extractor.*\.safetensors$/.test(path);
  const range = /^bytes=(\d+)-$/.exec(request.headers.range ?? "");
  if (isModel) host.asked.push(request.headers.range ?? "all");
  let from = 0;
  if (range && host.ranges) from = Number(range[1]);
  response.writeHead(from > 0 ? 206 : 200, {
    "Content-Type": types[extname(file)] ?? "application/octet-stream",
    "Content-Length": bytes.length - from,
    "Cache-Control": "no-store",
    ...(from > 0 ? { "Content-Range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {}),
  });
  let rest = bytes.subarray(from);
  if (isModel && host.breakAt !== null && host.breakAt.length > 0) {
    // What was sent arrives; the rest never does.
    response.write(rest.subarray(0, host.breakAt.shift()), () =>
      setTimeout(() => response.destroy(), 200),
    );
    return;
  }
  while (host.bytesPerSecond && rest.length > 0) {
    const part = Math.ceil(host.bytesPerSecond / 20);
    response.write(rest.subarray(0, part));
    rest = rest.subarray(part);
    await new Promise((next) => setTimeout(next, 50));
  }
  response.end(rest);
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const address = `http://127.0.0.1:${server.address().port}/?backend=cpu&lang=en`;
const browser = await launch();

async function visit(during) {
  host.asked = [];
  const page = await (await browser.newContext()).newPage();
  const { problems } = watch(page);
  await keepAnswers(page);
  await page.goto(address);
  const extra = during ? await during(page) : {};
  await settle(page);
  const state = await page.locator("#status").getAttribute("class");
  if (state === "done") await give(page, picture);
  const answers = await page.locator("#answers h3 .label").allTextContents();
  const status = await page.locator("#status").textContent();
  await page.context().close();
  return { state, status, answers, asked: host.asked, problems, ...extra };
}

const seen = {};
seen.whole = await visit();
// Two breaks: each next try asks for what is missing.
host.breakAt = [300_000, 500_000];
seen.broken = await visit();
// A host that sends no parts: each next try begins anew.
Object.assign(host, { ranges: false, breakAt: [300_000] });
seen.noRanges = await visit();
// A host that always breaks.
Object.assign(host, { ranges: true, breakAt: Array(20).fill(1000) });
seen.hopeless = await visit();
// A slow host: the page says how far it is. A reload in the middle begins again and ends well.
Object.assign(host, { breakAt: null, bytesPerSecond: 600_000 });
seen.slow = await visit(async (page) => {
  const loading = () => /Loading ([\d.]+) of/.exec(document.querySelector("#status").textContent)?.[1];
  const first = await (await page.waitForFunction(loading, null, { timeout: 60_000 })).jsonValue();
  await page.waitForTimeout(600);
  const later = await page.evaluate(loading);
  const bar = await page.locator("#progress").isVisible();
  await page.reload();
  return { first: Number(first), later: Number(later), bar };
});
console.log(JSON.stringify(seen));
await browser.close();
server.close();
server.closeAllConnections();
