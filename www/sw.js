// Keeps the published site for visits without a network.
//
// `magpie publish` (publishing/precache.rs) writes the list of files, precache.json, and puts a digest of it
// here, so that the browser sees another worker whenever something else was published. Files that are named
// after their content come from the cache; everything else from the network while there is one.
const VERSION = "unpublished";
const FAMILY = "magpie-";
// Sites of one origin keep apart.
const SITE = new URL(self.registration.scope).pathname;
const CACHE = `${FAMILY}${VERSION} ${SITE}`;
const NAMED_AFTER_CONTENT = /-([0-9a-f]{16})\.[a-z]+$/;
// Milliseconds after which a silent host is answered for.
const PATIENCE = 5000;

// The engine of the studio.
const AUTHOR = "author";

const files = async () => (await fetch("precache.json", { cache: "no-cache" })).json();

// What is kept beside the page: the files of an engine, and the networks. The studio makes sites of all that there is.
function beside({ engines, bundle, studio }, engine) {
  if (engine !== AUTHOR) return [...(engines[engine] ?? []), ...bundle];
  return [...Object.values(engines).flat(), ...bundle, ...studio];
}

const digest = async (bytes) =>
  [...new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");

// Whether a file that is named after its content has that content.
async function isWhole(name, bytes) {
  const [, wanted] = NAMED_AFTER_CONTENT.exec(name) ?? [];
  return !wanted || (await digest(bytes)).startsWith(wanted);
}

// Headers of a file whose packed copy the browser has unpacked.
function unpacked({ headers }) {
  const kept = new Headers(headers);
  for (const name of ["content-encoding", "content-length"]) kept.delete(name);
  return kept;
}

// Keeps a file as the host has it now, if that is what was published.
async function keepFile(cache, name) {
  // What the browser keeps by itself may be an older file of the name.
  const cacheMode = NAMED_AFTER_CONTENT.test(name) ? "default" : "no-cache";
  const response = await fetch(name, { cache: cacheMode });
  if (!response.ok || response.redirected) throw new Error(`${name}: ${response.status}`);
  const bytes = await response.arrayBuffer();
  if (!(await isWhole(name, bytes))) throw new Error(`${name}: not what was published`);
  await cache.put(name, new Response(bytes, { headers: unpacked(response) }));
}

// Adds what is not there yet. What is named after its content may lie in an older copy of this site.
async function keep(names) {
  const cache = await caches.open(CACHE);
  const older = await Promise.all((await olderCaches()).map((name) => caches.open(name)));
  for (const name of names) {
    if (await cache.match(name)) continue;
    let file;
    if (NAMED_AFTER_CONTENT.test(name)) {
      for (const before of older) file ??= await before.match(name);
    }
    if (file) await cache.put(name, file);
    else await keepFile(cache, name);
  }
}

// Older copies of this site: those under its name, and those of a time when names did not tell sites apart.
async function olderCaches() {
  const older = [];
  for (const name of await caches.keys()) {
    if (!name.startsWith(FAMILY) || name === CACHE) continue;
    const [, site] = /^magpie-\S+ (.*)$/.exec(name) ?? [];
    if (site === undefined) {
      const [first] = await (await caches.open(name)).keys();
      if (!first || first.url.startsWith(self.registration.scope)) older.push(name);
    } else if (site === SITE) older.push(name);
  }
  return older;
}

// This worker takes over once it has all that the one before had: until then that one goes on, also without a
// network, and where the disk is full.
async function install() {
  const list = await files();
  const had = new Set();
  for (const name of await olderCaches()) {
    for (const { url } of await (await caches.open(name)).keys()) had.add(url);
  }
  const isKept = (name) => had.has(new URL(name, self.registration.scope).href);
  const engines = Object.keys(list.engines).filter((engine) => list.engines[engine].some(isKept));
  await keep([...list.page, ...engines.flatMap((engine) => beside(list, engine))]);
}

self.addEventListener("install", (event) => {
  event.waitUntil(install());
  self.skipWaiting();
});

self.addEventListener("activate", (event) => {
  const tidy = async () => {
    for (const name of await olderCaches()) await caches.delete(name);
    await self.clients.claim();
    // Pages ask anew for what they need to be kept.
    for (const client of await self.clients.matchAll({ includeUncontrolled: true })) {
      client.postMessage({ activated: VERSION });
    }
  };
  event.waitUntil(tidy());
});

// The page says which engine this device uses; the other one is not downloaded.
self.addEventListener("message", (event) => {
  const engine = event.data?.keep;
  const all = async () => {
    const list = await files();
    await keep([...list.page, ...beside(list, engine)]);
    event.source?.postMessage({ kept: engine });
  };
  // Without a network everything that can be kept is there already.
  event.waitUntil(all().catch(() => {}));
});

// What a page is told of a host that stays silent, so that it can say so.
const givenUp = () =>
  new Promise((resolve) => setTimeout(resolve, 3 * PATIENCE, new Response(null, { status: 504 })));

// Clients whose document came out of the cache: so do all files of their pages and workers. A page of one
// publication and a module of another do not fit together.
const ofKept = new Set();

// Whether the host has published something else since; no, where it does not say.
async function publishedAnew() {
  const silent = new Promise((resolve) => setTimeout(resolve, PATIENCE, null));
  const asked = fetch("sw.js", { cache: "no-cache" }).then((response) => (response.ok ? response.text() : null));
  const text = await Promise.race([asked, silent]).catch(() => null);
  return text !== null && !text.includes(`"${VERSION}"`);
}

// Milliseconds that a host has to begin an answer, and to send a part of a gallery. One that stays silent would hold up
// a connection that others need.
const SILENT = 20_000;

// Asks the host; `end` is called once what is needed of the answer is there.
function ask(request) {
  const silence = new AbortController();
  const stop = () => silence.abort();
  const timer = setTimeout(stop, SILENT);
  request.signal?.addEventListener("abort", stop, { once: true });
  return { asked: fetch(request, { signal: silence.signal }), end: () => clearTimeout(timer) };
}

// The host's answer, begun in time.
async function fetchInTime(request) {
  // What opens a page is asked for as the browser does.
  if (request.mode === "navigate") return fetch(request);
  const { asked, end } = ask(request);
  return asked.finally(end);
}

async function answer({ request, clientId, resultingClientId }) {
  const cache = await caches.open(CACHE);
  // Without its own address the answer has that of the request, whose query a worker reads.
  const { origin, pathname } = new URL(request.url);
  const kept = async () => {
    const file =
      (await cache.match(origin + pathname)) ??
      (pathname.endsWith("/") && (await cache.match(`${origin}${pathname}index.html`)));
    if (!file) return null;
    return new Response(file.body, { headers: unpacked(file) });
  };
  if (NAMED_AFTER_CONTENT.test(pathname)) {
    const file = await kept();
    if (file) return file;
  }
  const isDocument = request.mode === "navigate";
  // Other pages and sites may lie below this one.
  const isOwnPage = isDocument && [SITE, `${SITE}index.html`].includes(pathname);
  // A bundle's files fit any page of their format.
  const isCode = !isDocument && !pathname.startsWith(`${SITE}bundle/`);
  if (isCode && ofKept.has(clientId)) {
    const file = await kept();
    if (file) {
      if (resultingClientId) ofKept.add(resultingClientId);
      return file;
    }
  }
  // In place of a host that is silent or broken.
  const instead = async () => {
    if (isCode && (await publishedAnew())) return null;
    const file = (await kept()) ?? (isOwnPage && (await cache.match("./")));
    if (file && isDocument) ofKept.add(resultingClientId);
    return file || null;
  };
  const asked = fetchInTime(request);
  // Who waits for it below hears of a failure.
  asked.catch(() => {});
  const isKept = Boolean(await kept());
  try {
    const silent = new Promise((resolve) => setTimeout(resolve, PATIENCE, null));
    const response = isKept ? await Promise.race([asked, silent]) : await asked;
    // A host that is silent or broken is answered for.
    if (!response || response.status >= 500) {
      return (await instead()) ?? response ?? (await Promise.race([asked, givenUp()]));
    }
    return response;
  } catch (error) {
    const file = await instead();
    if (file) return file;
    throw error;
  }
}

// What a worker of the engine may do, as `magpie serve` says it: files come from the site and from the origin of
// the bundle that it was started for.
function workerPolicy(address) {
  let elsewhere = "";
  try {
    const { origin, protocol } = new URL(address.searchParams.get("bundle"));
    if (/^https?:$/.test(protocol) && origin !== self.location.origin) elsewhere = ` ${origin}`;
  } catch {
    // It names none.
  }
  return (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; " +
    `connect-src 'self'${elsewhere}; require-trusted-types-for 'script'; trusted-types magpie`
  );
}

// Pages and their workers as a host with the headers would send them: isolated from other sites, so that
// the engine has threads, and workers with a policy of their own. A host that cannot send them has such pages
// from the second visit on.
function isolated(request, response) {
  const { destination } = request;
  if (!response.ok || !["document", "iframe", "worker"].includes(destination)) return response;
  const headers = unpacked(response);
  const has = (name) => response.headers.has(name);
  if (!has("cross-origin-embedder-policy")) {
    headers.set("cross-origin-opener-policy", "same-origin");
    headers.set("cross-origin-embedder-policy", "require-corp");
  }
  const address = new URL(request.url);
  if (/\/worker(-helper)?\.js$/.test(address.pathname) && !has("content-security-policy")) {
    headers.set("content-security-policy", workerPolicy(address));
  }
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

// Whether an answer is the bytes from `start` on, as the host counts them in the plain file.
function isPart({ status, headers }, start) {
  if (status !== 206 || headers.has("content-encoding")) return false;
  const range = headers.get("content-range");
  return range === null || range.startsWith(`bytes ${start}-`);
}

// A part of a gallery in shards: what was fetched once is there without a network, too.
async function part(request) {
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.get("range")) ?? [];
  if (last === undefined) return fetch(request);
  const cache = await caches.open(CACHE);
  const [start, end] = [Number(first), Number(last) + 1];
  if (request.cache === "reload") {
    // The engine found what is kept to be damaged.
    for (const piece of await cache.keys(request.url, { ignoreSearch: true })) await cache.delete(piece);
  } else {
    const kept = await pieced(cache, request.url, start, end);
    if (kept) return new Response(kept, { status: 206 });
  }
  const coming = ask(request);
  try {
    const response = await coming.asked;
    if (isPart(response, start)) {
      const bytes = await response.clone().arrayBuffer().catch(() => null);
      if (bytes?.byteLength === end - start) {
        // A full disk keeps nothing, and the answer comes all the same.
        await cache.put(`${request.url}?${start}-${end}`, new Response(bytes)).catch(() => {});
      }
    }
    return response;
  } finally {
    coming.end();
  }
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (origin !== self.location.origin || request.method !== "GET") return;
  if (!request.headers.has("range")) {
    event.respondWith(answer(event).then((response) => isolated(request, response)));
  } else if (pathname.endsWith(".shard")) event.respondWith(part(request));
});
