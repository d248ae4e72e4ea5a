// Opens the examples of the package in headless Chromium and prints what they showed as JSON.
//
// node examples.mjs EXAMPLES PACKAGE SITE PICTURE SCREENSHOT_FOLDER
//   EXAMPLES  folder of the examples, the one for Vite built
import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { extname, join, normalize } from "node:path";

import { launch, watch } from "./chromium.mjs";

const [examples, folder, site, picture, screenshots] = process.argv.slice(2);
const types = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".json": "application/json",
  ".wasm": "application/wasm",
};

// Where each example has its own files; the package and a bundle lie beside them.
const places = {
  plain: join(examples, "plain"),
  element: join(examples, "element"),
  vite: join(examples, "vite-react/dist"),
};

const server = createServer((request, response) => {
  const [, name, ...rest] = new URL(request.url, "http://x").pathname.split("/");
  const path = normalize(rest.join("/")) || "index.html";
  const own = join(places[name] ?? "/nowhere", path === "." ? "index.html" : path);
  const beside = path.startsWith("bundle/")
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
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const browser = await launch();
const seen = {};
for (const name of Object.keys(places)) {
  const page = await (await browser.newContext()).newPage();
  const { problems, origins } = watch(page);
  await page.goto(`http://127.0.0.1:${server.address().port}/${name}/`);
  await page.waitForFunction(() => {
    const root = document.querySelector("magpie-recognizer")?.shadowRoot ?? document;
    return root.querySelector("input:enabled");
  });
  await page.locator("input[type=file]").setInputFiles(picture);
  await page.locator("li").first().waitFor({ timeout: 60_000 });
  seen[name] = { lines: await page.locator("li").allTextContents(), problems, origins: [...origins] };
  await page.screenshot({ path: `${screenshots}/example-${name}.png` });
}
console.log(JSON.stringify(seen));
await browser.close();
server.close();
