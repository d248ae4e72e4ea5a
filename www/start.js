// Starts the engine and the page beside each other, or says that this browser cannot run them.
import { choose, chosen, forget, kept, leaveWebGpu } from "./choice.js";
import { findAdapter, moduleName, startWorker } from "./engine.js";

const parameters = new URLSearchParams(location.search);
// As many as the device has, unless the address says how many.
const threads = Math.min(64, Number(parameters.get("threads"))) || undefined;
const manifest = new URL(parameters.get("bundle") ?? "bundle/manifest.json", location.href).href;
const assets = new URL("./", import.meta.url);

/** An engine with what it said, and why it failed, before somebody listened. */
function start(backend) {
  const worker = startWorker(assets, backend, manifest, threads);
  const early = [];
  worker.onmessage = ({ data }) => early.push(data);
  worker.onerror = (event) => {
    event.preventDefault();
    const message = event.message || "the engine's worker could not be started";
    early.push({ Failed: { error: { kind: "Device", message } } });
  };
  return { backend, worker, early };
}

// Safari on phones ends a page after some five hundred answers of WebGPU.
const MOST_ANSWERS = 300;
const isApplePhone = () =>
  /iPhone|iPad/.test(navigator.userAgent) || (/Macintosh/.test(navigator.userAgent) && navigator.maxTouchPoints > 1);

const wanted = ["cpu", "webgpu"].find((name) => name === parameters.get("backend"));

try {
  // WebGPU only where the visitor asks for it, or a visit before has found it to be faster.
  const known = kept(manifest);
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
    choose: (signal) => choose({ assets, manifest, threads, signal }),
    /** What a visit before has measured. */
    kept: () => kept(manifest),
    forget: () => forget(manifest),
    leave: (why) => leaveWebGpu(manifest, why),
    mostAnswers: isApplePhone() ? MOST_ANSWERS : undefined,
    // The engine that is under way already, the first time that it is asked for.
    start(backend) {
      const engine = ahead?.backend === backend ? ahead : null;
      if (!engine) ahead?.worker.terminate();
      ahead = null;
      return engine ?? start(backend);
    },
  };
  await init();
} catch (error) {
  document.querySelector("#status").hidden = true;
  document.querySelector("#unable").hidden = false;
  throw error;
}
