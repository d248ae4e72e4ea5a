// Which engine a browser can run, and its worker.

// A module whose only function splats and counts by SIMD.
const SIMD_PROBE = new Uint8Array([
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, // header
  0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7b, // type: nothing to v128
  0x03, 0x02, 0x01, 0x00, // one function of it
  0x0a, 0x0a, 0x01, 0x08, 0x00, // its code, without locals
  0x41, 0x00, 0xfd, 0x0f, 0xfd, 0x62, 0x0b, // i8x16.splat, i8x16.popcnt
]);
// A module whose only function multiplies and adds by relaxed SIMD.
const RELAXED_PROBE = new Uint8Array([
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, // header
  0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7b, // type: nothing to v128
  0x03, 0x02, 0x01, 0x00, // one function of it
  0x0a, 0x13, 0x01, 0x11, 0x00, // its code, without locals
  0x41, 0x00, 0xfd, 0x0f, 0x41, 0x00, 0xfd, 0x0f, 0x41, 0x00, 0xfd, 0x0f, // three zeros
  0xfd, 0x85, 0x02, 0x0b, // f32x4.relaxed_madd
]);

// Milliseconds that a browser has to name its adapter; some never do.
const ADAPTER_LIMIT = 2000;
// Milliseconds that a host has to say why a script cannot be had.
const REASON_LIMIT = 5000;

// The engine's files. Bundlers find each address as it is written here, copy the file as it is, and put the
// copy's address in its place; they would put a small file into the code, were it not for `no-inline`.
const FILES = {
  "worker.js": () => new URL("./worker.js", import.meta.url),
  "worker-helper.js": () => new URL("./worker-helper.js?no-inline", import.meta.url),
  "worker-cpu.js": () => new URL("./worker-cpu.js", import.meta.url),
  "worker-cpu_bg.wasm": () => new URL("./worker-cpu_bg.wasm", import.meta.url),
  "worker-relaxed.js": () => new URL("./worker-relaxed.js", import.meta.url),
  "worker-relaxed_bg.wasm": () => new URL("./worker-relaxed_bg.wasm", import.meta.url),
  "worker-webgpu.js": () => new URL("./worker-webgpu.js", import.meta.url),
  "worker-webgpu_bg.wasm": () => new URL("./worker-webgpu_bg.wasm", import.meta.url),
};

/** Address of a file of the engine, in a folder or else where this module's own are. */
export function fileAddress(name, folder) {
  if (folder !== undefined) return new URL(name, folder);
  // Some bundlers put an object in the place of the address that is only printed like one, relative to the page.
  const address = new URL(String(FILES[name]()), globalThis.location?.href);
  address.search = "";
  return address;
}

/** What this browser lacks to run any engine, in words; null where it lacks nothing. */
export function missing() {
  if (typeof WebAssembly === "undefined") return "WebAssembly is missing or switched off in this browser";
  if (!WebAssembly.validate(SIMD_PROBE)) {
    return "this browser's WebAssembly has no SIMD: Chrome 91, Edge 91, Firefox 89, Safari 16.4 and newer have it";
  }
  return null;
}

/** The WebGPU adapter and its name: null where there is none; a software one computes on the processor. */
export async function findAdapter() {
  try {
    const limit = new Promise((resolve) => setTimeout(resolve, ADAPTER_LIMIT, null));
    const adapter = await Promise.race([globalThis.navigator?.gpu?.requestAdapter(), limit]);
    if (!adapter) return null;
    const { vendor, architecture, device, description, isFallbackAdapter } = adapter.info ?? {};
    return {
      software: isFallbackAdapter ?? adapter.isFallbackAdapter ?? false,
      name: [vendor, architecture, device, description].filter(Boolean).join(" "),
    };
  } catch {
    return null;
  }
}

/**
 * What the files of a backend's engine are named after: the CPU engine comes once for every browser, which is the
 * plain one, once for those that know relaxed SIMD.
 */
export function moduleName(backend, isPlain = false) {
  if (backend === "webgpu") return "webgpu";
  return !isPlain && WebAssembly.validate(RELAXED_PROBE) ? "relaxed" : "cpu";
}

/**
 * Threads of an engine where nobody says otherwise: more than four gain little on a network of a few
 * milliseconds, and keep a phone's slow cores waited for.
 */
export const defaultThreads = () => Math.min(navigator.hardwareConcurrency || 1, 4);

let policy;

/**
 * A script's address as pages take it that require trusted types: by a policy of the name "magpie". Where the
 * page allows none, the browser says so when the address is used.
 */
export function trustedScript(address) {
  /** @type {any} */
  const { trustedTypes } = globalThis;
  if (!trustedTypes) return String(address);
  try {
    policy ??= trustedTypes.createPolicy("magpie", { createScriptURL: (address) => address });
  } catch {
    return String(address);
  }
  return policy.createScriptURL(String(address));
}

// Whether browsers start a worker from there.
const isOwn = ({ origin }) => !globalThis.location || origin === globalThis.location.origin;

/**
 * A worker of a module. Browsers start workers from the page's own origin alone: another one's module is
 * imported by a worker that is made here.
 */
function moduleWorker(script) {
  if (isOwn(script)) return new Worker(trustedScript(script), { type: "module" });
  const code = new Blob([`import ${JSON.stringify(script.href)};`], { type: "text/javascript" });
  const made = URL.createObjectURL(code);
  const worker = new Worker(trustedScript(made), { type: "module" });
  for (const told of ["message", "error"]) {
    worker.addEventListener(told, () => URL.revokeObjectURL(made), { once: true });
  }
  return worker;
}

/**
 * Starts the worker of a backend, of the engine's files in a folder or else of this module's own. It asks for the
 * files of the bundle with this manifest while its module still comes in. More than one thread takes a page
 * that is isolated from other sites. The plain CPU engine is for where the other one stops.
 */
export function startWorker(folder, backend, manifest, threads = defaultThreads(), isPlain = false) {
  const script = fileAddress("worker.js", folder);
  const engine = moduleName(backend, isPlain);
  const parameters = [["engine", engine], ["bundle", manifest]];
  // Those that do not lie beside the worker by their own names.
  const engines = engine === "relaxed" ? ["relaxed", "cpu"] : [engine];
  const files = engines.flatMap((name) => [`worker-${name}.js`, `worker-${name}_bg.wasm`]);
  for (const name of ["worker-helper.js", ...files]) {
    const { href } = fileAddress(name, folder);
    if (href !== new URL(name, script).href) parameters.push([name, href]);
  }
  // Servers for development go by how an address ends, which is not to be a file's name.
  parameters.push(["threads", threads]);
  for (const [name, value] of parameters) script.searchParams.set(name, value);
  return moduleWorker(script);
}

/** Why a file cannot be fetched, in words; null where it can. */
export async function cannotFetch(address) {
  const { href } = address;
  const end = new AbortController();
  const timer = setTimeout(() => end.abort(), REASON_LIMIT);
  try {
    const { ok, status, headers } = await fetch(href, { signal: end.signal });
    // Its content is not looked at.
    end.abort();
    if (!ok) return `${href}: the host answered ${status}`;
    if (!/^text\/html/.test(headers.get("content-type") ?? "")) return null;
    return `${href}: the host sent a page in place of the file; upload all files, and let it answer 404 for others`;
  } catch {
    if (isOwn(address)) return `${href} could not be loaded`;
    return (
      `${href} could not be loaded: its host has to send Access-Control-Allow-Origin to this page (CORS), ` +
      "and the page's content security policy to allow it"
    );
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Why the worker of a folder, or else of this module's own files, does not run, in words: browsers do not tell.
 */
export async function whyNot(folder) {
  const address = fileAddress("worker.js", folder);
  // A folder that somebody names may not be there at all.
  if (folder !== undefined && isOwn(address)) {
    return `${address.href} could not be loaded: the folder has to hold the engine's files, sent as text/javascript`;
  }
  const reason = await cannotFetch(address);
  if (reason) return reason;
  const needed = isOwn(address)
    ? "worker-src and script-src"
    : "worker-src blob: and its host, script-src and connect-src its host";
  const isolated = globalThis.crossOriginIsolated
    ? ", its host does not send it with Cross-Origin-Embedder-Policy, which this isolated page needs"
    : "";
  return (
    `${address.href} could not be run: a content security policy may forbid it (it needs ${needed})` +
    `${isolated}, or its host does not send it as text/javascript`
  );
}
