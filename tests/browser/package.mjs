// Drives the package's examples in headless Chromium and prints what they saw as JSON.
//
// node package.mjs PACKAGE SITE PICTURE
//   PACKAGE  folder that `cargo xtask package` leaves
//   SITE     published site, for its bundle
import { createReadStream, readFileSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { basename, extname, join, normalize } from "node:path";

import { chromium } from "playwright-core";

import { ISOLATED } from "./host.mjs";

const [folder, site, picture] = process.argv.slice(2);
const types = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".json": "application/json",
  ".wasm": "application/wasm",
};
const NONCE = "c2VydmVkIG9uY2U";
const policy =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval' 'nonce-c2VydmVkIG9uY2U'; " +
  "worker-src 'self'; connect-src 'self'; img-src 'self' blob:; style-src 'self'";

// The pages of the examples: the same code with and without a policy and isolation.
const plain = `<!doctype html><title>plain</title><input type="file">
<script type="module" nonce="${NONCE}">
  import { Magpie, MagpieError } from "/package/magpie.js";
  Object.assign(window, { Magpie, MagpieError });
</script>`;
const element = `<!doctype html><title>element</title>
<script type="module" src="/package/element.js" nonce="${NONCE}"></script>
<magpie-recognizer bundle="/site/bundle/" top-k="2"><span slot="prompt">Give one, </span>
</magpie-recognizer>`;
const pages = {
  "/plain": [plain, {}],
  "/isolated": [plain, ISOLATED],
  "/policy": [plain, { "Content-Security-Policy": policy }],
  "/element": [element, { "Content-Security-Policy": policy }],
};
const roots = { package: folder, site };
const server = createServer((request, response) => {
  const { pathname } = new URL(request.url, "http://x");
  if (pathname in pages) {
    const [html, headers] = pages[pathname];
    response.writeHead(200, { "Content-Type": "text/html", ...headers });
    response.end(html);
    return;
  }
  if (pathname === "/favicon.ico") {
    response.writeHead(204).end();
    return;
  }
  const [, root, ...rest] = pathname.split("/");
  const path = join(roots[root] ?? "/nowhere", normalize(rest.join("/")));
  const fromIsolated = new URL(request.headers.referer ?? "http://x/").pathname === "/isolated";
  try {
    response.setHeader("Content-Length", statSync(path).size);
    response.setHeader("Content-Type", types[extname(path)] ?? "application/octet-stream");
    // A worker of an isolated page has to be isolated itself.
    if (fromIsolated || pathname.startsWith("/package/worker")) {
      for (const [name, value] of Object.entries(ISOLATED)) response.setHeader(name, value);
    }
    createReadStream(path).pipe(response);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const address = `http://127.0.0.1:${server.address().port}`;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-background-networking", "--use-fake-device-for-media-stream"],
});

async function open(path) {
  const page = await (await browser.newContext()).newPage();
  const problems = [];
  const origins = new Set();
  page.on("console", (message) => {
    // The browser's remark where there is no GPU.
    if (message.text() === "No available adapters.") return;
    if (["error", "warning"].includes(message.type())) problems.push(message.text());
  });
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("request", (request) => origins.add(new URL(request.url()).origin));
  await page.goto(address + path);
  return { page, problems, origins };
}

// A page that does not come to an end says so.
const late = (path, problems) =>
  new Promise((_, fail) => {
    const tell = () => fail(new Error(`${path} does not end: ${problems.join("; ")}`));
    setTimeout(tell, 120_000).unref();
  });

const seen = {};
const bytes = [...readFileSync(picture)];
const type = `image/${basename(picture).split(".").pop().replace("jpg", "jpeg")}`;

// The interface, call by call.
for (const path of ["/plain", "/isolated", "/policy"]) {
  const { page, problems, origins } = await open(path);
  await page.waitForFunction(() => window.Magpie);
  const work = page.evaluate(
    async ([bytes, type]) => {
      const file = new File([new Uint8Array(bytes)], "picture", { type });
      const name = (error) => (error instanceof MagpieError ? error.code : error.name);
      const code = (promise) => promise.then(() => "no failure", name);
      const progress = [];
      const magpie = await Magpie.load("/site/bundle/", {
        backend: "cpu",
        onProgress: (step) => progress.push(step),
      });
      const recognized = await magpie.recognize(file);
      const labels = ({ objects }) => objects.map(({ answers }) => answers[0].label);
      const first = labels(recognized);

      // The same picture in every other form.
      const bitmap = await createImageBitmap(file);
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
      const context = canvas.getContext("2d");
      context.drawImage(bitmap, 0, 0);
      const image = new Image();
      image.src = URL.createObjectURL(file);
      await image.decode();
      const offscreen = new OffscreenCanvas(bitmap.width, bitmap.height);
      offscreen.getContext("2d").drawImage(bitmap, 0, 0);
      const video = document.createElement("video");
      video.srcObject = canvas.captureStream();
      video.muted = true;
      // A stream begins with the first thing that is drawn after it.
      const playing = video.play();
      context.drawImage(bitmap, 0, 0);
      await playing;
      const frame = new VideoFrame(canvas, { timestamp: 0 });
      const forms = {
        bitmap,
        canvas,
        image,
        offscreen,
        data: context.getImageData(0, 0, canvas.width, canvas.height),
        frame,
        video,
      };
      const others = {};
      for (const [name, form] of Object.entries(forms)) {
        others[name] = labels(await magpie.recognize(form));
      }

      // Several wait for each other, in their order; one is taken back.
      const order = [];
      const stop = new AbortController();
      const waiting = [0, 1, 2].map((index) =>
        magpie
          .recognize(file, { signal: index === 1 ? stop.signal : undefined })
          .then(() => order.push(index), (error) => order.push(error.name)),
      );
      stop.abort();
      await Promise.all(waiting);

      const detected = await magpie.detect(file);
      const embedding = await magpie.embed(file);
      const two = await magpie.recognize(file, { topK: 2 });
      const nine = await magpie.recognize(file, { topK: 9 });

      // A class of one's own, and back.
      const before = await magpie.gallery.list();
      const added = await magpie.gallery.add("my own thing", file);
      const found = await magpie.gallery.search(embedding, { topK: 3 });
      const exported = await magpie.gallery.export();
      await magpie.gallery.rename("my own thing", "renamed");
      const listed = await magpie.gallery.list("RENAMED");
      const removed = await magpie.gallery.remove("renamed");
      const undone = await magpie.gallery.undo();
      await magpie.gallery.reset();
      const imported = await magpie.gallery.import(exported);
      await magpie.gallery.reset();

      const failures = {
        text: await code(magpie.recognize(new Blob(["no picture"], { type: "image/png" }))),
        unknown: await code(magpie.recognize(new Blob(["no picture"], { type: "image/x-none" }))),
        nothing: await code(magpie.recognize({})),
        missing: await code(Magpie.load("/nowhere/", { backend: "cpu" })),
        backend: await code(Magpie.load("/site/bundle/", { backend: "abacus" })),
        assets: await code(Magpie.load("/site/bundle/", { backend: "cpu", assets: "/nowhere/" })),
        aborted: await code(magpie.recognize(file, { signal: AbortSignal.abort() })),
        class: await code(magpie.gallery.remove("there is no such class")),
        embedding: await code(magpie.gallery.search([1, 2, 3])),
      };
      const last = magpie.recognize(file);
      magpie.dispose();
      failures.running = await code(last);
      failures.disposed = await code(magpie.embed(file));

      return {
        isolated: crossOriginIsolated,
        title: magpie.title,
        backend: magpie.backend,
        progress: progress.at(-1),
        objects: recognized.objects.map(({ box, answers, known, embedding }) => ({
          box,
          known,
          label: answers[0].label,
          thumbnail: answers[0].thumbnail?.size ?? 0,
          embedding: Array.from(embedding),
        })),
        first,
        others,
        order,
        detected: detected.objects.length,
        length: Math.hypot(...embedding),
        answers: [two.objects[0].answers.length, nine.objects[0].answers.length],
        gallery: {
          before: before.classes,
          added: added.classes,
          found: found[0].label,
          listed: listed.shown.map(({ label }) => label),
          removed: removed.classes,
          undone: undone.classes,
          imported: imported.classes,
          bytes: exported.size,
        },
        failures,
      };
    },
    [bytes, type],
  );
  const result = await Promise.race([work, late(path, problems)]);
  seen[path.slice(1)] = { ...result, problems, origins: [...origins] };
  await page.context().close();
}

// Engines that stop: at a request, and then again and again.
{
  const { page, problems } = await open("/plain");
  await page.waitForFunction(() => window.Magpie);
  const given = [bytes, type];
  const first = await page.evaluate(async ([bytes, type]) => {
    window.file = new File([new Uint8Array(bytes)], "picture", { type });
    window.magpie = await Magpie.load("/site/bundle/", { backend: "cpu" });
    await magpie.tune({ minSimilarity: 0.123 });
    await magpie.gallery.add("my own thing", file);
    window.names = async () => (await magpie.recognize(file)).objects.map(({ answers }) => answers[0].label);
    return names();
  }, given);
  // An engine's own thread, as a trap ends it, while it answers and others wait.
  const stop = async (during) => {
    const engine = page.workers().findLast((worker) => /worker\.js/.test(worker.url()));
    await engine.evaluate(() => {
      self.onmessage = () => {
        throw new Error("memory access out of bounds");
      };
    });
    return page.evaluate(during);
  };
  const once = await stop(() => Promise.all([names().catch((error) => error.code), names(), names()]));
  const kept = await page.evaluate(async () => {
    const { shown } = await magpie.gallery.list("my own thing");
    return { taught: shown.length, tuned: (await magpie.tune({})).minSimilarity, backend: magpie.backend };
  });
  // The next engines never come up.
  await page.route("**/worker.js*", (route) => route.abort());
  const never = await stop(() =>
    Promise.all([1, 2, 3].map(() => names().catch((error) => error.code))),
  );
  const after = await page.evaluate(() => names().catch((error) => error.code));
  seen.stopped = { first, once, kept, never, after, problems };
  await page.context().close();
}

// The element, under a policy without inline code or styles.
{
  const { page, problems, origins } = await open("/element");
  const events = page.evaluate(
    () =>
      new Promise((done) => {
        const events = [];
        for (const what of ["progress", "ready", "recognized", "error"]) {
          document.addEventListener(`magpie-${what}`, ({ detail }) => {
            if (events.at(-1) !== what) events.push(what);
            if (what === "recognized" || what === "error") {
              done({ events, message: detail.error?.message });
            }
          });
        }
      }),
  );
  await page.locator("magpie-recognizer input[type=file]").setInputFiles(picture);
  const { events: happened, message } = await Promise.race([events, late("/element", problems)]);
  const texts = (selector) => page.locator(`magpie-recognizer ${selector}`).allTextContents();
  seen.element = {
    events: happened,
    message,
    boxes: await texts(".box"),
    answers: await texts("li"),
    prompt: await page.locator("magpie-recognizer [slot=prompt]").textContent(),
    problems,
    origins: [...origins],
  };
  await page.screenshot({ path: process.env.SCREENSHOT ?? "/dev/null", type: "png" });
}
console.log(JSON.stringify(seen));
await browser.close();
server.close();
