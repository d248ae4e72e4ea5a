// From opening a page to its first answer over a slow network, nothing cached: a published site
// beside the same bundle on ONNX Runtime Web. JSON lines.
//
// node page_open.mjs SITE ONNX NPM RUNS MEGABITS
//   SITE  published site, with packed copies and samples/1.jpg
//   ONNX  folder with detector.onnx and extractor.onnx, the bundle's networks
//   NPM   folder with node_modules: onnxruntime-web
//
// The other page is as lean as can be: it loads everything at once, is told where the objects are
// instead of decoding and suppressing boxes, and compares with vectors that it makes up.
import { readFileSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { extname, join, normalize } from "node:path";
import { brotliCompressSync, constants } from "node:zlib";

const { chromium } = createRequire(new URL("../browser/", import.meta.url))("playwright-core");
const [site, onnx, npm, runs, megabits] = process.argv.slice(2);
const ROUND_TRIP = 20;
const TURN = 5;
const bytesPerTurn = (Number(megabits) * 1e6 * TURN) / 8 / 1000;

const manifest = JSON.parse(readFileSync(join(site, "bundle/manifest.json"), "utf8"));
const describe = (file) => {
  const bytes = readFileSync(file);
  return JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE(0))).toString()).__metadata__;
};
const inputOf = (name) => {
  const description = Object.values(describe(join(site, "bundle", name))).join(" ");
  return Number(/"preprocess":\s*\{\s*"width":\s*(\d+)/.exec(description)[1]);
};
const sides = { detector: inputOf(manifest.detector.file), extractor: inputOf(manifest.extractor.file) };

const peer = `<!doctype html><title>peer</title><script type="module">
  import * as ort from "/npm/onnxruntime-web/dist/ort.wasm.min.mjs";
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = "/npm/onnxruntime-web/dist/";
  const bytes = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
  const sides = ${JSON.stringify(sides)};
  const options = { executionProviders: ["wasm"] };
  const [detector, extractor, gallery, picture] = await Promise.all([
    bytes("/onnx/detector.onnx").then((model) => ort.InferenceSession.create(model, options)),
    bytes("/onnx/extractor.onnx").then((model) => ort.InferenceSession.create(model, options)),
    bytes("/site/bundle/${manifest.gallery}"),
    fetch("/site/samples/1.jpg").then((response) => response.blob()).then(createImageBitmap),
  ]);
  const input = (side, [x, y, width, height]) => {
    const canvas = new OffscreenCanvas(side, side);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, x, y, width, height, 0, 0, side, side);
    const { data } = context.getImageData(0, 0, side, side);
    const values = new Float32Array(3 * side * side);
    for (let pixel = 0; pixel < side * side; pixel += 1) {
      values[pixel] = (data[4 * pixel] / 255 - 0.485) / 0.229;
      values[side * side + pixel] = (data[4 * pixel + 1] / 255 - 0.456) / 0.224;
      values[2 * side * side + pixel] = (data[4 * pixel + 2] / 255 - 0.406) / 0.225;
    }
    return new ort.Tensor("float32", values, [1, 3, side, side]);
  };
  const run = (session, tensor) => session.run({ [session.inputNames[0]]: tensor });
  await run(detector, input(sides.detector, [0, 0, picture.width, picture.height]));
  const rows = new Float32Array(gallery.length / 2);
  const answers = [];
  for (const box of [[95, 251, 72, 65], [102, 7, 75, 66], [228, 70, 78, 113]]) {
    const [embedding] = Object.values(await run(extractor, input(sides.extractor, box)));
    let best = -Infinity;
    const dim = embedding.data.length;
    for (let row = 0; row + dim <= rows.length; row += dim) {
      let sum = 0;
      for (let at = 0; at < dim; at += 1) sum += rows[row + at] * embedding.data[at];
      best = Math.max(best, sum);
    }
    answers.push(best);
  }
  window.answered = performance.now();
</script>`;

const types = {
  ".css": "text/css",
  ".html": "text/html",
  ".js": "text/javascript",
  ".json": "application/json",
  ".mjs": "text/javascript",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};
const roots = { site, onnx, npm: join(npm, "node_modules") };
const packed = new Map();

// A file as a host with packed copies sends it.
function file(path) {
  if (!packed.has(path)) {
    let body = readFileSync(path);
    let encoding = null;
    try {
      body = readFileSync(`${path}.br`);
      encoding = "br";
    } catch {
      const params = { [constants.BROTLI_PARAM_QUALITY]: 9, [constants.BROTLI_PARAM_LGWIN]: 24 };
      const smaller = brotliCompressSync(body, { params });
      if (smaller.length < 0.95 * body.length) [body, encoding] = [smaller, "br"];
    }
    packed.set(path, { body, encoding });
  }
  return packed.get(path);
}

// One line for all: every turn is shared by what is under way.
const underWay = [];
let sent = 0;
setInterval(() => {
  let room = bytesPerTurn;
  while (room > 0 && underWay.length > 0) {
    const transfer = underWay.shift();
    const part = Math.min(room, 1500, transfer.body.length - transfer.at);
    transfer.response.write(transfer.body.subarray(transfer.at, transfer.at + part));
    transfer.at += part;
    room -= part;
    sent += part;
    if (transfer.at < transfer.body.length) underWay.push(transfer);
    else transfer.response.end();
  }
}, TURN);

const server = createServer((request, response) => {
  const { pathname } = new URL(request.url, "http://x");
  const [, root, ...rest] = pathname.split("/");
  let body = Buffer.from(peer);
  let encoding = null;
  let type = "text/html";
  if (pathname !== "/peer") {
    const name = normalize(rest.join("/")) || "index.html";
    const path = join(roots[root] ?? "/nowhere", name === "." ? "index.html" : name);
    try {
      if (!statSync(path).isFile()) throw new Error("a folder");
      ({ body, encoding } = file(path));
      type = types[extname(path)] ?? "application/octet-stream";
    } catch {
      response.writeHead(404).end();
      return;
    }
  }
  setTimeout(() => {
    response.writeHead(200, {
      "Content-Type": type,
      "Cache-Control": "no-cache",
      ...(encoding ? { "Content-Encoding": encoding } : {}),
    });
    underWay.push({ response, body, at: 0 });
  }, ROUND_TRIP);
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const address = `http://127.0.0.1:${server.address().port}`;
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-background-networking"],
});

const pages = {
  magpie: "/site/?backend=cpu&image=samples/1.jpg",
  "onnxruntime-web": "/peer",
};
const figures = Object.fromEntries(Object.keys(pages).map((name) => [name, []]));
const bytes = {};
for (let run = 0; run < Number(runs); run += 1) {
  for (const [name, path] of Object.entries(pages)) {
    const page = await (await browser.newContext()).newPage();
    page.on("pageerror", (error) => console.error(name, String(error)));
    await page.addInitScript(() => {
      document.addEventListener("DOMContentLoaded", () => {
        const answers = document.querySelector("#answers");
        if (!answers) return;
        new MutationObserver(() => {
          window.answered ??= performance.now();
        }).observe(answers, { childList: true });
      });
    });
    sent = 0;
    await page.goto(address + path, { waitUntil: "commit" });
    await page.waitForFunction(() => window.answered, null, { timeout: 120_000, polling: 20 });
    bytes[name] = sent;
    figures[name].push(await page.evaluate(() => window.answered));
    await page.context().close();
    // What the closed page still asked for is no load on the next one.
    while (underWay.length > 0) await new Promise((next) => setTimeout(next, 50));
  }
}
for (const [name, times] of Object.entries(figures)) {
  times.sort((a, b) => a - b);
  const [median, least] = [times[Math.floor(times.length / 2)], times[0]];
  const figure = { page: name, megabits: Number(megabits), runs: times.length };
  console.log(JSON.stringify({ ...figure, median_ms: median, least_ms: least, bytes: bytes[name] }));
}
await browser.close();
server.close();
server.closeAllConnections();
process.exit();
