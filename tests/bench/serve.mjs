// A server of folders for measurements in a browser.
import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

import { ISOLATED } from "../browser/host.mjs";

const types = {
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
  ".html": "text/html",
};

// Serves each folder of `roots` under its name and `page` at the top; `headers` go with everything.
export async function serve(roots, { page = "<!doctype html>", headers = {} } = {}) {
  const server = createServer((request, response) => {
    const [, root, ...rest] = new URL(request.url, "http://x").pathname.split("/");
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    if (!root) {
      response.setHeader("Content-Type", "text/html");
      response.end(page);
      return;
    }
    const path = join(roots[root] ?? "/nowhere", normalize(rest.join("/")));
    try {
      response.setHeader("Content-Length", statSync(path).size);
      response.setHeader("Content-Type", types[extname(path)] ?? "application/octet-stream");
      createReadStream(path).pipe(response);
    } catch {
      response.statusCode = 404;
      response.end();
    }
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  return { address: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}

// Serves what the pages with the measured runtimes ask for: networks, Magpie's modules, npm's packages.
export function serveRuntimes(folder, ours, npm) {
  const here = (path) => fileURLToPath(new URL(path, import.meta.url));
  const roots = { nets: folder, ours, npm: join(npm, "node_modules"), bench: here("./"), www: here("../../www/") };
  const imports = { "@litertjs/wasm-utils": "/npm/@litertjs/wasm-utils/dist/index.js" };
  const page = `<!doctype html><script type="importmap">${JSON.stringify({ imports })}</script>`;
  return serve(roots, { page, headers: ISOLATED });
}
