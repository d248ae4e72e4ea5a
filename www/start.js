// Starts the engine and the page beside each other, or says that this browser cannot run them.
import { choose, chosen, forget, kept, leaveWebGpu, sharedEngine } from "./choice.js";
import { cannotFetch, findAdapter, moduleName, startWorker, trustedScript, whyNot } from "./engine.js";
import { decodeUpright, readPixels } from "./pixels.js";

const parameters = new URLSearchParams(location.search);
// As many as the device has, unless the address says how many.
const threads = Math.min(64, Number(parameters.get("threads"))) || undefined;

/** The bundle that the address asks for; null where it is none of this site. */
function ownManifest() {
  try {
    const { origin, href } = new URL(parameters.get("bundle") ?? "bundle/manifest.json", location.href);
    return origin === location.origin ? href : null;
  } catch {
    return null;
  }
}
const manifest = ownManifest();

// The engine that was started last, as a trial may ask it.
let shared = null;

/** An engine with what it said, and why it failed, before somebody listened. */
function start(backend, isPlain = false) {
  const worker = startWorker(undefined, backend, manifest, threads, isPlain);
  shared?.end("another engine took its place");
  shared = sharedEngine(backend, worker);
  const early = [];
  // Of a script that cannot be loaded the browser says nothing: whoever listens hears the reason as well.
  worker.addEventListener("error", async (event) => {
    if (event.message) return;
    event.stopImmediatePropagation();
    event.preventDefault();
    const message = await whyNot();
    worker.dispatchEvent(new ErrorEvent("error", { message, cancelable: true }));
  });
  worker.onmessage = ({ data }) => early.push(data);
  worker.onerror = (event) => {
    event.preventDefault();
    early.push({ Failed: { error: { kind: "Device", message: event.message } } });
  };
  return { backend, worker, early };
}

// Safari on phones ends a page after some five hundred answers of WebGPU.
const MOST_ANSWERS = 300;
const isApplePhone = () =>
  /iPhone|iPad/.test(navigator.userAgent) || (/Macintosh/.test(navigator.userAgent) && navigator.maxTouchPoints > 1);

/** Says why the page's own code does not run. */
async function fail(error) {
  const files = ["web.js", "web_bg.wasm"].map((name) => cannotFetch(new URL(name, import.meta.url)));
  const reason = (await Promise.all(files)).find(Boolean);
  if (reason) window.unable?.say("unable.module", reason);
  else window.unable?.say("unable.other", error.message);
  document.querySelector("#status").hidden = true;
  document.querySelector("#unable").hidden = false;
}

async function begin() {
  const wanted = ["cpu", "webgpu"].find((name) => name === parameters.get("backend"));
  // WebGPU only where the visitor asks for it, or a visit before has found it to be faster.
  const known = kept(manifest, threads);
  const backend = wanted ?? (known?.backend === "webgpu" ? await chosen(manifest, threads) : "cpu");
  let ahead = start(backend);
  const [adapter, { default: init }] = await Promise.all([findAdapter(), import("./web.js")]);
  window.magpie = {
    adapter,
    backend,
    wanted,
    manifest,
    moduleName,
    /** The engine that suits this device, measured where no visit before has. */
    choose: (signal) => choose({ manifest, threads, engine: shared, signal }),
    /** What a visit before has measured. */
    kept: () => kept(manifest, threads),
    forget: () => forget(manifest),
    leave: (why) => leaveWebGpu(manifest, threads, why),
    mostAnswers: isApplePhone() ? MOST_ANSWERS : undefined,
    readPixels,
    decodeUpright,
    // The engine that is under way already, the first time that it is asked for.
    start(backend, isPlain) {
      const engine = ahead?.backend === backend && !isPlain ? ahead : null;
      if (!engine) ahead?.worker.terminate();
      ahead = null;
      return engine ?? start(backend, isPlain);
    },
    // Has the browser keep the site.
    keepSite: () => navigator.serviceWorker.register(trustedScript("sw.js")),
  };
  await init();
}

if (!manifest) window.unable?.say("unable.bundle");
// What the browser lacks is said already.
if (manifest && !window.unable?.said) {
  try {
    await begin();
  } catch (error) {
    await fail(error);
    throw error;
  }
}
