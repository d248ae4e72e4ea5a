// What a web worker's scripts find around them, in a thread of Node's; then the script itself.
import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import * as threads from "node:worker_threads";

import { ThreadWorker } from "./node-thread.js";

const { script, name } = threads.workerData;
/** @type {any} */
const port = threads.parentPort;
/** @type {any} */
const scope = globalThis;
const types = { wasm: "application/wasm", json: "application/json" };

// Files beside addresses: Node's own `fetch` knows none.
const fetchAddress = globalThis.fetch;
async function fetchFile(address, options) {
  let bytes;
  try {
    bytes = await readFile(fileURLToPath(address));
  } catch {
    return new Response(null, { status: 404 });
  }
  const type = types[/\.(\w+)$/.exec(address.pathname)?.[1]] ?? "application/octet-stream";
  const range = /^bytes=(\d+)-(\d*)$/.exec(new Headers(options?.headers).get("range") ?? "");
  if (range) bytes = bytes.subarray(Number(range[1]), range[2] ? Number(range[2]) + 1 : undefined);
  return new Response(bytes, { status: range ? 206 : 200, headers: { "content-type": type } });
}

const around = {
  self: globalThis,
  name,
  location: new URL(script),
  // Threads of Node's share memory.
  crossOriginIsolated: true,
  Worker: ThreadWorker,
  // Nothing is kept between programs.
  navigator: {
    hardwareConcurrency: availableParallelism(),
    storage: { getDirectory: () => Promise.reject(new Error("Node keeps nothing")) },
  },
  fetch(address, options) {
    const url = new URL(address instanceof Request ? address.url : address);
    return url.protocol === "file:" ? fetchFile(url, options) : fetchAddress(address, options);
  },
  postMessage: (message, transfer) => port.postMessage(message, transfer),
  // The one event that the script listens to.
  addEventListener(type, listener) {
    if (type !== "unhandledrejection") return;
    process.on("unhandledRejection", (reason) => listener({ reason, preventDefault() {} }));
  },
};
for (const [key, value] of Object.entries(around)) {
  Object.defineProperty(globalThis, key, { value, configurable: true, writable: true });
}
// What comes before the script listens is kept for it.
/** @type {any[]} */
const early = [];
port.on("message", (data) => {
  if (scope.onmessage) scope.onmessage({ data });
  else early.push(data);
});
await import(script);
for (const data of early.splice(0)) scope.onmessage?.({ data });
