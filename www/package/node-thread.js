// As much of a web worker as an engine needs, in a thread of Node's.
import { Worker } from "node:worker_threads";

export class ThreadWorker {
  #thread;
  /** @type {((event: { data: any }) => void) | null} */
  onmessage = null;
  /** @type {((event: { message: string }) => void) | null} */
  onerror = null;

  constructor(script, { name = "" } = {}) {
    const workerData = { script: String(script), name };
    this.#thread = new Worker(new URL("./node-worker.js", import.meta.url), { workerData });
    this.#thread.on("message", (data) => this.onmessage?.({ data }));
    this.#thread.on("error", (error) => this.onerror?.({ message: error.message }));
  }

  postMessage(message, transfer) {
    this.#thread.postMessage(message, transfer);
  }

  terminate() {
    this.#thread.terminate();
  }
}
