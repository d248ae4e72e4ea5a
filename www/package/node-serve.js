// A server for a look at a site on the own machine.
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, resolve, sep } from "node:path";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".webmanifest": "application/manifest+json",
  ".wasm": "application/wasm",
  ".svg": "image/svg+xml",
  ".jpg": "image/jpeg",
  ".png": "image/png",
  ".webp": "image/webp",
  ".gif": "image/gif",
};
// Isolated from other sites, a page has threads.
const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "X-Content-Type-Options": "nosniff",
  "Cache-Control": "no-cache",
};

/** The file that an address means; null for what lies outside or is hidden. */
async function fileOf(folder, address) {
  let path;
  try {
    path = decodeURIComponent(new URL(address, "http://x").pathname);
  } catch {
    return null;
  }
  if (path.includes("\0") || path.split(/[/\\]/).some((part) => part.startsWith("."))) return null;
  const file = join(folder, path.endsWith("/") ? `${path}index.html` : path);
  if (!file.startsWith(folder + sep)) return null;
  const there = await stat(file).catch(() => null);
  return there?.isFile() ? { file, size: there.size } : null;
}

/** Sends the files of a folder until the program ends. */
export async function serve(site, port) {
  const folder = resolve(site);
  if (!(await stat(join(folder, "index.html")).catch(() => null))) {
    throw new Error(`${site}: holds no index.html; name the folder of a site`);
  }
  const server = createServer(async (request, response) => {
    const isRead = request.method === "GET" || request.method === "HEAD";
    const found = isRead ? await fileOf(folder, request.url) : null;
    if (!found) return response.writeHead(isRead ? 404 : 405, HEADERS).end();
    const { file, size } = found;
    const type = TYPES[extname(file)] ?? "application/octet-stream";
    response.writeHead(200, { ...HEADERS, "Content-Type": type, "Content-Length": size });
    if (request.method === "HEAD") return response.end();
    createReadStream(file)
      .on("error", () => response.destroy())
      .pipe(response);
  });
  await new Promise((listening, failed) => {
    server.on("error", (error) => failed(new Error(`port ${port}: ${error.message}; choose another --port`)));
    server.listen(port, "127.0.0.1", () => listening(undefined));
  });
  const { port: taken } = /** @type {import("node:net").AddressInfo} */ (server.address());
  process.stdout.write(`http://127.0.0.1:${taken}/\n`);
}
