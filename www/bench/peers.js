// Measures networks in runtimes of other people, each in a frame of its own.
import { figures } from "./results.js";

const FOLDER = new URL("peers/", import.meta.url).href;
// Runs before the first that counts, as for Magpie's own.
const WARM_UP = 3;

// A runtime that has not answered by then, in milliseconds, will not.
const PATIENCE = 120_000;

// What a promise comes to, unless somebody stops before or it takes too long.
function answered(promise, signal) {
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error("no answer")), PATIENCE);
    const stop = () => reject(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    promise.then(resolve, reject).finally(() => {
      clearTimeout(late);
      signal.removeEventListener("abort", stop);
    });
  });
}

const floats = async (name) => {
  const response = await fetch(`${FOLDER}${name}`);
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  return new Float32Array(await response.arrayBuffer());
};

async function frame() {
  const element = document.createElement("iframe");
  element.hidden = true;
  element.src = "peer.html";
  document.body.append(element);
  // A module has run once the document has loaded.
  await new Promise((resolve) => element.addEventListener("load", resolve, { once: true }));
  return element;
}

/** How far an answer is from the expected one, of the largest value in that. */
export function distance(answer, expected) {
  if (answer.length !== expected.length) return Infinity;
  let [apart, scale] = [0, Number.MIN_VALUE];
  for (let index = 0; index < expected.length; index += 1) {
    const difference = Math.abs(answer[index] - expected[index]);
    // What is no number is far from every number.
    apart = difference <= apart ? apart : Number.isNaN(difference) ? Infinity : difference;
    scale = Math.max(scale, Math.abs(expected[index]));
  }
  return Math.min(apart / scale, Number.MAX_VALUE);
}

/**
 * The lines of a report for a runtime: every network of the site that it was given, `runs` times.
 * `running` is told the name of each before.
 */
export async function measurePeer(runtime, networks, { backend, threads, runs, signal, running }) {
  const results = [];
  for (const [network, { shape }] of Object.entries(networks)) {
    const what = `${network} network`;
    running(what);
    const [input, expected] = await Promise.all([
      floats(`${network}.input.f32`),
      floats(`${network}.answer.f32`),
    ]);
    const element = await frame();
    try {
      const opened = element.contentWindow.peer.open(runtime, {
        npm: `${FOLDER}npm/`,
        network: `${FOLDER}${network}`,
        input,
        shape,
        backend,
        threads,
      });
      const run = await answered(opened, signal);
      const apart = distance(await answered(run(), signal), expected);
      const times = [];
      for (let time = 1; time < WARM_UP + runs; time += 1) {
        const start = performance.now();
        await answered(run(), signal);
        if (time >= WARM_UP) times.push(performance.now() - start);
      }
      results.push({ ...figures(what, times), apart });
    } finally {
      element.remove();
    }
  }
  return results;
}
