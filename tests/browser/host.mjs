// A static host that can be slow, break connections, and refuse to send parts of files.
import { createServer } from "node:http";
import { readFileSync, statSync } from "node:fs";
import { extname, join, normalize } from "node:path";

import { LIES } from "./lies.mjs";

/** What isolates a page from other sites, so that it may share memory and measure exactly. */
export const ISOLATED = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

const types = {
  ".css": "text/css",
  ".html": "text/html",
  ".js": "text/javascript",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};

/**
 * Sends a folder. The object that comes back can be changed while it runs: `ranges` (whether parts are
 * sent), `gone` (whether nothing answers), `missing` (which files it has not), `headers` (sent with
 * everything), `breakAt` (bytes after which the next answers break off) and `bytesPerSecond` of the
 * watched files, `lie` (a name in lies.mjs: how these are answered), `status` (of every answer), `silent`
 * (paths that are accepted and never answered), `before` (path: code in front of a script), `spa` (paths that are answered with the page and 200),
 * `pages` (path: `[markup, headers]`), `site`, `sites` (beginning of a path: the folder that lies there). `asked` has the requests
 * for these: `{ path, range, bytes }`, the bytes as they were sent; a browser may ask again for what it has asked for.
 * Requests from scripts that `ignored` names are not watched.
 */
export async function start(site, watched) {
  const host = {
    ranges: true,
    gone: false,
    missing: null,
    headers: {},
    breakAt: null,
    bytesPerSecond: null,
    asked: [],
    ignored: null,
    lie: null,
    status: null,
    silent: null,
    before: {},
    spa: null,
    pages: {},
    site,
    sites: {},
  };
  const server = createServer(async (request, response) => {
    if (host.gone) {
      response.destroy();
      return;
    }
    const path = normalize(decodeURIComponent(new URL(request.url, "http://x").pathname));
    if (host.silent?.test(path)) return;
    if (host.status) {
      response.writeHead(host.status).end("not now");
      return;
    }
    if (host.pages[path]) {
      const [markup, headers] = host.pages[path];
      response.writeHead(200, { "Content-Type": "text/html", ...headers }).end(markup);
      return;
    }
    const wanted = host.spa?.test(path) ? "/" : path;
    const named = wanted.endsWith("/") ? `${wanted}index.html` : wanted;
    const place = Object.keys(host.sites).find((place) => named.startsWith(place));
    const file = place ? join(host.sites[place], named.slice(place.length)) : join(host.site, named);
    let bytes;
    try {
      if (host.missing?.test(path) || !statSync(file).isFile()) throw new Error("no file");
      bytes = readFileSync(file);
      if (host.before[path]) bytes = Buffer.concat([Buffer.from(host.before[path]), bytes]);
    } catch {
      response.writeHead(404).end();
      return;
    }
    const all = bytes.length;
    const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
    const part = host.ranges && from !== undefined;
    const last = part && to ? Math.min(Number(to), all - 1) : all - 1;
    let rest = part ? bytes.subarray(Number(from), last + 1) : bytes;
    const isWatched = watched.test(path) && !host.ignored?.test(request.headers.referer ?? "");
    if (isWatched) host.asked.push({ path, range: request.headers.range ?? "all", bytes: rest.length });
    if (isWatched && host.lie) {
      const ranged = from !== undefined;
      const asked = { all: bytes, from: Number(from ?? 0), last, ranged };
      const accepts = request.headers["accept-encoding"] ?? "";
      if (LIES[host.lie](response, { ...asked, accepts, host, headers: host.headers })) return;
    }
    response.writeHead(part ? 206 : 200, {
      "Content-Type": types[extname(file)] ?? "application/octet-stream",
      "Content-Length": rest.length,
      "Cache-Control": "no-store",
      ...host.headers,
      ...(part ? { "Content-Range": `bytes ${from}-${last}/${all}` } : {}),
    });
    if (isWatched && host.breakAt?.length > 0) {
      // What was sent arrives, and is looked at by an engine that has just started; the rest never does.
      response.write(rest.subarray(0, host.breakAt.shift()), () =>
        setTimeout(() => response.destroy(), 600),
      );
      return;
    }
    while (isWatched && host.bytesPerSecond && rest.length > 0) {
      const piece = Math.ceil(host.bytesPerSecond / 20);
      response.write(rest.subarray(0, piece));
      rest = rest.subarray(piece);
      await new Promise((next) => setTimeout(next, 50));
    }
    response.end(rest);
  });
  // A browser repeats what it sends over a connection that ends at that moment.
  server.keepAliveTimeout = 120_000;
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  host.address = `http://127.0.0.1:${server.address().port}/`;
  host.close = () => {
    server.close();
    server.closeAllConnections();
  };
  return host;
}
