// Keeps the published site for visits without a network.
//
// `magpie publish` writes the list of files (precache.json) and puts a digest of it here, so that the
// browser sees another worker whenever something else was published. Files that are named after their
// content come from the cache; everything else from the network while there is one.
const VERSION = "unpublished";
const PREFIX = "magpie-";
const CACHE = PREFIX + VERSION;
const NAMED_AFTER_CONTENT = /-[0-9a-f]{16}\.[a-z]+$/;

const files = async () => (await fetch("precache.json", { cache: "no-cache" })).json();

// Adds what is not there yet; the bytes mostly come from the browser's own cache.
async function keep(names) {
  const cache = await caches.open(CACHE);
  for (const name of names) {
    if (!(await cache.match(name))) await cache.add(name);
  }
}

self.addEventListener("install", (event) => {
  event.waitUntil(files().then((list) => keep(list.page)));
  self.skipWaiting();
});

self.addEventListener("activate", (event) => {
  const tidy = async () => {
    for (const name of await caches.keys()) {
      if (name.startsWith(PREFIX) && name !== CACHE) await caches.delete(name);
    }
    await self.clients.claim();
  };
  event.waitUntil(tidy());
});

// The page says which engine this device uses; the other one is not downloaded.
self.addEventListener("message", (event) => {
  const engine = event.data?.keep;
  const all = async () => {
    const list = await files();
    await keep([...list.page, ...(list.engines[engine] ?? []), ...list.bundle]);
    event.source?.postMessage({ kept: engine });
  };
  // Without a network everything that can be kept is there already.
  event.waitUntil(all().catch(() => {}));
});

// Headers of a file whose packed copy the browser has unpacked.
function unpacked({ headers }) {
  const kept = new Headers(headers);
  for (const name of ["content-encoding", "content-length"]) kept.delete(name);
  return kept;
}

async function answer(request) {
  const cache = await caches.open(CACHE);
  // Without its own address the answer has that of the request, whose query a worker reads.
  const kept = async () => {
    const { origin, pathname } = new URL(request.url);
    const file =
      (await cache.match(origin + pathname)) ??
      (pathname.endsWith("/") && (await cache.match(`${origin}${pathname}index.html`)));
    if (!file) return null;
    return new Response(file.body, { headers: unpacked(file) });
  };
  if (NAMED_AFTER_CONTENT.test(new URL(request.url).pathname)) {
    const file = await kept();
    if (file) return file;
  }
  try {
    const response = await fetch(request);
    // What is kept stays as new as what was last seen.
    if (response.ok && (await kept())) await cache.put(request.url.split("?")[0], response.clone());
    return response;
  } catch (error) {
    const file = (await kept()) ?? (request.mode === "navigate" && (await cache.match("./")));
    if (file) return file;
    throw error;
  }
}

// Pages and their workers as a host with the headers would send them: isolated from other sites, so that
// the engine has threads. A host that cannot send them has such pages from the second visit on.
function isolated(request, response) {
  const { destination } = request;
  if (!response.ok || !["document", "iframe", "worker"].includes(destination)) return response;
  if (response.headers.has("cross-origin-embedder-policy")) return response;
  const headers = unpacked(response);
  headers.set("cross-origin-opener-policy", "same-origin");
  headers.set("cross-origin-embedder-policy", "require-corp");
  return new Response(response.body, { status: response.status, headers });
}

// The bytes of a file from `start` to `end`, out of the pieces of it that are kept; null where one is
// missing.
async function pieced(cache, url, start, end) {
  const kept = (await cache.keys(url, { ignoreSearch: true })).map((request) => {
    const [from, to] = new URL(request.url).search.slice(1).split("-").map(Number);
    return { request, from, to };
  });
  const blobs = [];
  for (let at = start; at < end; ) {
    const piece = kept.find(({ from, to }) => from <= at && at < to);
    const blob = piece && (await (await cache.match(piece.request))?.blob());
    if (!blob) return null;
    const to = Math.min(end, piece.to);
    blobs.push(blob.slice(at - piece.from, to - piece.from));
    at = to;
  }
  return new Blob(blobs);
}

// A part of a gallery in shards: what was fetched once is there without a network, too.
async function part(request) {
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.get("range")) ?? [];
  if (last === undefined) return fetch(request);
  const cache = await caches.open(CACHE);
  const [start, end] = [Number(first), Number(last) + 1];
  const kept = await pieced(cache, request.url, start, end);
  if (kept) return new Response(kept, { status: 206 });
  const response = await fetch(request);
  if (response.status === 206) {
    // A full disk keeps nothing, and the answer comes all the same.
    const copy = new Response(await response.clone().blob());
    await cache.put(`${request.url}?${start}-${end}`, copy).catch(() => {});
  }
  return response;
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (origin !== self.location.origin || request.method !== "GET") return;
  if (!request.headers.has("range")) {
    event.respondWith(answer(request).then((response) => isolated(request, response)));
  } else if (pathname.endsWith(".shard")) event.respondWith(part(request));
});
