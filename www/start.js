// Starts the engine and the page beside each other, or says that this browser cannot run them.
import { findAdapter, moduleName, startWorker } from "./engine.js";
import { decodeUpright, readPixels } from "./pixels.js";

const parameters = new URLSearchParams(location.search);
// As many as the device has, unless the address says how many.
const threads = Math.min(64, Number(parameters.get("threads"))) || undefined;
const manifest = new URL(parameters.get("bundle") ?? "bundle/manifest.json", location.href).href;

/** An engine with what it said, and why it failed, before somebody listened. */
function start(backend) {
  const worker = startWorker(new URL("./", import.meta.url), backend, manifest, threads);
  const early = [];
  worker.onmessage = ({ data }) => early.push(data);
  worker.onerror = (event) => {
    event.preventDefault();
    const message = event.message || "the engine's worker could not be started";
    early.push({ Failed: { error: { kind: "Device", message } } });
  };
  return { backend, worker, early };
}

const wanted = ["cpu", "webgpu"].find((name) => name === parameters.get("backend"));

try {
  let ahead = wanted ? start(wanted) : null;
  const adapter = await findAdapter();
  // A software adapter is slower than the processor itself.
  const backend = wanted ?? (adapter && !adapter.software ? "webgpu" : "cpu");
  ahead ??= start(backend);
  window.magpie = {
    adapter,
    backend,
    manifest,
    moduleName,
    readPixels,
    decodeUpright,
    // The engine that is under way already, the first time that it is asked for.
    start(backend) {
      const engine = ahead?.backend === backend ? ahead : null;
      if (!engine) ahead?.worker.terminate();
      ahead = null;
      return engine ?? start(backend);
    },
  };
  const { default: init } = await import("./web.js");
  await init();
} catch (error) {
  document.querySelector("#status").hidden = true;
  document.querySelector("#unable").hidden = false;
  throw error;
}
