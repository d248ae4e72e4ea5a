// Opens the examples of the package in headless Chromium and prints what they showed as JSON.
//
// node examples.mjs EXAMPLES PACKAGE SITE PICTURE SCREENSHOT_FOLDER NAMES
//   EXAMPLES  folder of the examples, those for bundlers built
//   NAMES     which of them, with commas between
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { readdirSync, readFileSync } from "node:fs";
import { extname, join, normalize } from "node:path";

import { launch, watch } from "./chromium.mjs";
import { PATIENCE } from "./patience.mjs";

const [examples, folder, site, picture, screenshots, names] = process.argv.slice(2);
const types = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
  ".json": "application/json",
  ".wasm": "application/wasm",
};

// Where each example has its own files; the package and a bundle lie beside them.
const places = {
  plain: "plain",
  element: "element",
  classic: "classic",
  looks: "looks",
  vite: "vite-react/dist",
  webpack: "webpack",
  next: "next/out",
  astro: "astro/dist",
};

const server = createServer((request, response) => {
  const [, name, ...rest] = new URL(request.url, "http://x").pathname.split("/");
  const path = normalize(rest.join("/")) || "index.html";
  const own = join(examples, places[name] ?? "nowhere", path === "." ? "index.html" : path);
  const beside = /^(bundle|samples)\//.test(path)
    ? join(site, path)
    : path.startsWith("magpie/")
      ? join(folder, path.slice("magpie/".length))
      : null;
  for (const file of [own, beside].filter(Boolean)) {
    try {
      const bytes = readFileSync(file);
      const type = types[extname(file)] ?? "application/octet-stream";
      response.writeHead(200, { "Content-Type": type, "Content-Length": bytes.length });
      response.end(bytes);
      return;
    } catch {
      // The next place may have it.
    }
  }
  // Browsers ask every site for this one.
  response.writeHead(name === "favicon.ico" ? 204 : 404).end();
});

// Engines in what a bundler has written: how many files, and how many different ones.
function engines(name) {
  const written = { webpack: "webpack/dist" }[name] ?? places[name];
  const files = readdirSync(join(examples, written), { recursive: true, withFileTypes: true });
  const modules = files.filter((file) => file.isFile() && file.name.endsWith(".wasm"));
  const digest = (file) => createHash("sha256").update(readFileSync(join(file.parentPath ?? file.path, file.name)));
  return { files: modules.length, different: new Set(modules.map((file) => digest(file).digest("hex"))).size };
}

/** What each of the element's looks shows; then its camera and what it is taught. */
async function looks(page) {
  await page.waitForFunction(
    () => {
      const all = [...document.querySelectorAll("magpie-recognizer[src]")];
      return all.every(({ shadowRoot }) => shadowRoot?.querySelector("li"));
    },
    null,
    { timeout: PATIENCE },
  );
  const shown = await page.evaluate(() => {
    const isSeen = (node) => node.getClientRects().length > 0;
    const all = [...document.querySelectorAll("magpie-recognizer")];
    const each = all.map((element) => {
      const { parts } = element;
      const inside = (selector) => [...element.shadowRoot.querySelectorAll(selector)];
      const own = {
        lines: inside("li").length,
        others: inside(".others").length,
        pictures: inside("li img").filter(isSeen).length,
        camera: isSeen(parts.camera),
        teach: isSeen(parts.teach),
        border: getComputedStyle(parts.drop).borderTopColor,
      };
      return [element.id, own];
    });
    return { each: Object.fromEntries(each), shared: new Set(all.map(({ magpie }) => magpie)).size };
  });
  const used = await page.evaluate(async () => {
    const element = document.querySelector("#camera");
    const next = (what) =>
      new Promise((then) => {
        element.addEventListener(`magpie-${what}`, ({ detail }) => then(detail), { once: true });
      });
    const { parts } = element;
    const before = (await element.magpie.gallery.list()).classes;
    const taught = next("taught");
    parts.name.value = " my own thing ";
    parts.teach.requestSubmit();
    const { label, gallery } = await taught;
    const again = await next("recognized");
    await element.magpie.gallery.reset();
    const first = next("recognized");
    parts.camera.click();
    await first;
    const { width } = await next("recognized");
    const pressed = () => parts.camera.getAttribute("aria-pressed");
    const filming = { pressed: pressed(), video: !parts.video.hidden };
    parts.camera.click();
    const stopped = { pressed: pressed(), figure: parts.figure.hidden, stream: parts.video.srcObject };
    const untaught = await element.learn("nothing").catch(({ code }) => code);
    const { classes } = gallery;
    return { before, label, classes, again: again.objects.length, width, filming, stopped, untaught };
  });
  return { ...shown, used };
}

await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const browser = await launch(["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]);
const seen = {};
for (const name of names.split(",")) {
  const page = await (await browser.newContext()).newPage();
  const { problems, origins } = watch(page);
  await page.goto(`http://127.0.0.1:${server.address().port}/${name}/`);
  if (name === "looks") {
    seen[name] = await looks(page);
    await page.screenshot({ path: `${screenshots}/example-${name}.png`, fullPage: true });
    Object.assign(seen[name], { problems, origins: [...origins] });
    continue;
  }
  await page.waitForFunction(() => {
    const root = document.querySelector("magpie-recognizer")?.shadowRoot ?? document;
    return root.querySelector("input:enabled");
  });
  await page.locator("input[type=file]").setInputFiles(picture);
  await page.locator("li").first().waitFor({ timeout: PATIENCE });
  seen[name] = { lines: await page.locator("li").allTextContents(), problems, origins: [...origins] };
  if (["vite", "webpack", "next", "astro"].includes(name)) seen[name].engines = engines(name);
  const extra = page.locator("#status, #classes").first();
  if (await extra.count()) seen[name].told = await extra.textContent();
  await page.screenshot({ path: `${screenshots}/example-${name}.png` });
}
console.log(JSON.stringify(seen));
await browser.close();
server.close();
