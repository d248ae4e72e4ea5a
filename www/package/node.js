// Magpie in Node: the same engine and the same interface, in a thread of Node's instead of a web worker.
//
//   import { Magpie } from "magpie-recognizer/node";
import { availableParallelism } from "node:os";

import { ThreadWorker } from "./node-thread.js";

/** @type {any} */
const around = globalThis;
around.Worker ??= ThreadWorker;
around.navigator ??= { hardwareConcurrency: availableParallelism() };

export { Magpie, MagpieError } from "./magpie.js";
