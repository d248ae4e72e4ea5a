// Which engine of this device answers a bundle's pictures sooner: both run once, and the outcome is kept for
// the next visit. Nothing of it leaves the browser.
import { defaultThreads, findAdapter, startWorker } from "./engine.js";

// Milliseconds that an engine has to come in and to answer all of a trial.
const LIMIT = 60_000;
// Timed runs of each stage; the engine warms up before each request.
const RUNS = 5;
// WebGPU is chosen below this part of the CPU's time: its first picture comes later.
const GAIN = 0.8;
// Least cosine of two engines' embeddings of one picture. Int8 and 16-bit floats cost less than this; an
// engine that computes something else is far below.
const LEAST_COSINE = 0.95;
// An object that one engine is surer of than this, and by a margin surer than has to be, the other has to find as well.
const SURE = 0.7;
const MARGIN = 0.2;
// Least overlap (IoU) of the two.
const LEAST_OVERLAP = 0.5;

const VERSION = 2;
const PREFIX = "magpie-engine-";

/** What a kept choice holds for, as far as a page knows it at once: others ask for another trial. */
const placeOf = (threads) => ({
  agent: navigator.userAgent,
  threads: globalThis.crossOriginIsolated ? (threads ?? defaultThreads()) : 1,
});

const isTime = (time) => Number.isFinite(time) && time >= 0;
const isCost = (cost) => isTime(cost?.detect) && isTime(cost.embed) && isTime(cost.detect + cost.embed);

// What each reason chooses.
const CHOSEN = { faster: "webgpu", slower: "cpu", differs: "cpu", failed: "cpu", slowed: "cpu" };

/**
 * The choice that a visit before has kept in this browser for as many threads; null where there is none that can be
 * read. Its `adapter` is what `chosen` and `choose` compare.
 */
export function kept(manifest, threads) {
  try {
    const choice = JSON.parse(localStorage.getItem(PREFIX + manifest) ?? "null");
    const place = placeOf(threads);
    const valid =
      choice?.version === VERSION &&
      choice.agent === place.agent &&
      choice.threads === place.threads &&
      Object.hasOwn(CHOSEN, choice.why) &&
      CHOSEN[choice.why] === choice.backend &&
      isCost(choice.cpu) &&
      // An engine that failed has no time.
      (isCost(choice.webgpu) || (choice.webgpu === null && choice.why === "failed"));
    return valid ? choice : null;
  } catch {
    return null;
  }
}

function keep(manifest, choice) {
  try {
    localStorage.setItem(PREFIX + manifest, JSON.stringify(choice));
  } catch {
    // A browser that keeps nothing measures at each visit.
  }
}

/** Forgets the choice, so that the next one is measured. */
export function forget(manifest) {
  try {
    localStorage.removeItem(PREFIX + manifest);
  } catch {
    // There is none then.
  }
}

/** The CPU engine from now on, where WebGPU has turned out to be `why`: "slowed". */
export function leaveWebGpu(manifest, threads, why) {
  const choice = kept(manifest, threads);
  if (choice) keep(manifest, { ...choice, backend: "cpu", why });
}

/** The engine to begin with: WebGPU only where a trial on this very device has chosen it. */
export async function chosen(manifest, threads) {
  const choice = kept(manifest, threads);
  if (choice?.backend !== "webgpu") return "cpu";
  const adapter = await findAdapter();
  return adapter && !adapter.software && choice.adapter === adapter.name ? "webgpu" : "cpu";
}

/** A picture with smooth and sharp parts, the same in every browser. */
function probe() {
  const side = 240;
  const rgba = new Uint8Array(4 * side * side);
  for (let y = 0; y < side; y += 1) {
    for (let x = 0; x < side; x += 1) {
      const disc = (x - 150) ** 2 + (y - 100) ** 2 < 60 ** 2;
      const bar = x > 30 && x < 80 && y > 60 && y < 210;
      const color = disc ? [220, 60 + (y >> 1), 40] : bar ? [30, 90, 200 - (y >> 1)] : [x, y, 255 - x];
      rgba.set([...color, 255], 4 * (y * side + x));
    }
  }
  return { Pixels: { width: side, height: side, rgba } };
}

const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

// Numbers of a trial's requests: pages count theirs from one.
const FIRST_ID = 2 ** 31;
let lastId = FIRST_ID;
const newId = () => {
  lastId += 1;
  return lastId;
};

const kindOf = (data) => (typeof data === "string" ? [data] : Object.entries(data)[0]);

/** What a promise comes to, unless the signal or the limit is first. */
function bounded(promise, signal) {
  let timer;
  let stop;
  const limit = new Promise((_, reject) => {
    stop = () => reject(signal.reason);
    timer = setTimeout(() => reject(new Error(`no answer in ${LIMIT / 1000} s`)), LIMIT);
    signal?.addEventListener("abort", stop, { once: true });
    if (signal?.aborted) stop();
  });
  return Promise.race([promise, limit]).finally(() => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  });
}

/**
 * A trial of an engine that has the bundle: milliseconds of each stage, and its answers about a probe picture. `info`
 * is what it says of the bundle. Each stage is measured by that number of `requests`: whoever else asks the same engine
 * waits for one of them.
 */
async function examine(ask, { detects, thresholds }, requests) {
  const measure = async (stage) => {
    const times = [];
    for (let count = 0; count < requests; count += 1) {
      const { milliseconds } = await ask({ Measure: { id: newId(), stage, runs: RUNS / requests } });
      times.push(...milliseconds);
    }
    return median(times);
  };
  const { embedding } = await ask({ Embed: { id: newId(), picture: probe() } });
  const { objects } = detects ? await ask({ Locate: { id: newId(), picture: probe() } }) : { objects: [] };
  const detect = detects ? await measure("Detect") : 0;
  const cost = { detect, embed: await measure({ Embed: 1 }) };
  return { cost, embedding, objects, minScore: thresholds.min_score };
}

/** A trial in a worker of its own. */
function trial(assets, backend, manifest, threads, signal) {
  const worker = startWorker(assets, backend, manifest, threads);
  const run = new Promise((resolve, reject) => {
    worker.onerror = (event) => {
      event.preventDefault?.();
      reject(new Error(event.message || "the worker stopped"));
    };
    /** @type {(value: any) => void} */
    let answer = () => {};
    worker.onmessage = ({ data }) => {
      const [kind, value] = kindOf(data);
      if (kind === "Failed") reject(new Error(value.error.message));
      else if (!["Progress", "Pictured", "Adapted"].includes(kind)) answer(value);
    };
    const ask = (request) =>
      new Promise((resolve) => {
        answer = resolve;
        if (request) worker.postMessage(request);
      });
    const all = async () => {
      // That it has started.
      await ask(null);
      return examine(ask, await ask({ Open: { manifest } }), 1);
    };
    all().then(resolve, reject);
  });
  return bounded(run, signal).finally(() => worker.terminate());
}

/**
 * An engine that answers others as well, for `choose`: what it says to a trial comes to nobody else. `worker` is its
 * worker, to which nobody has listened before.
 */
export function sharedEngine(backend, worker) {
  const waiting = new Map();
  const engine = {
    backend,
    /**
     * What it has said of the bundle; null until then.
     *
     * @type {any}
     */
    info: null,
    ask: (request) =>
      new Promise((resolve, reject) => {
        waiting.set(Object.values(request)[0].id, { resolve, reject });
        worker.postMessage(request);
      }),
    /** Ends what a trial still waits for. */
    end(message) {
      for (const { reject } of waiting.values()) reject(new Error(message));
      waiting.clear();
    },
  };
  worker.addEventListener("message", (event) => {
    const [kind, value] = kindOf(event.data);
    if (kind === "Ready") engine.info = { ...value };
    // The visitor may have other thresholds than the bundle.
    if (["Adapted", "Tuned"].includes(kind) && engine.info) engine.info.thresholds = value.thresholds;
    if (kind === "Published" && engine.info) engine.info.thresholds = value.tuned;
    if (!(value?.id >= FIRST_ID)) return;
    event.stopImmediatePropagation();
    const asked = waiting.get(value.id);
    waiting.delete(value.id);
    if (kind === "Failed") asked?.reject(new Error(value.error.message));
    else asked?.resolve(value);
  });
  worker.addEventListener("error", () => engine.end("the engine stopped"));
  return engine;
}

/** A trial of an engine that answers others as well. */
async function trialOf({ info, ask }, signal) {
  let isOver = false;
  const next = async (request) => {
    if (isOver) throw new Error("the trial is over");
    return ask(request, signal);
  };
  try {
    return await bounded(examine(next, info, RUNS), signal);
  } finally {
    isOver = true;
  }
}

function overlap(first, second) {
  const [left, top, right, bottom] = first.map((edge, at) => (at < 2 ? Math.max : Math.min)(edge, second[at]));
  const area = ([left, top, right, bottom]) => Math.max(0, right - left) * Math.max(0, bottom - top);
  const both = area([left, top, Math.max(left, right), Math.max(top, bottom)]);
  return both / (area(first) + area(second) - both);
}

/** Whether two engines say the same of the probe picture. */
export function sameAnswers(one, other) {
  const cosine = one.embedding.reduce((sum, value, at) => sum + value * other.embedding[at], 0);
  // What is no number is no answer.
  if (!(cosine >= LEAST_COSINE)) return false;
  const found = (objects, bbox) => objects.some((object) => overlap(object.bbox, bbox) >= LEAST_OVERLAP);
  const sure = Math.max(SURE, ...[one, other].map(({ minScore = 0 }) => minScore + MARGIN));
  const all = (objects, others) =>
    objects.every(({ bbox, detection_score }) => !(detection_score > sure) || found(others, bbox));
  return all(one.objects, other.objects) && all(other.objects, one.objects);
}

const total = ({ detect, embed }) => detect + embed;

/** The engine for what two trials have shown; `webgpu` is null where it failed. */
export function decide(cpu, webgpu) {
  const costs = { cpu: cpu.cost, webgpu: webgpu?.cost ?? null };
  if (!webgpu) return { backend: "cpu", why: "failed", ...costs };
  if (!sameAnswers(cpu, webgpu)) return { backend: "cpu", why: "differs", ...costs };
  const faster = total(webgpu.cost) < GAIN * total(cpu.cost);
  return { backend: faster ? "webgpu" : "cpu", why: faster ? "faster" : "slower", ...costs };
}

/** The networks of a bundle: a trial tells nothing of others. */
async function networksOf(manifest, signal) {
  const response = await fetch(manifest, { signal });
  if (!response.ok) throw new Error(`${manifest}: the host answered ${response.status}`);
  const { detector, extractor } = await response.json();
  return [detector?.file ?? "", extractor?.file ?? ""].join(" ");
}

/**
 * Measures both engines unless a visit before has, and keeps what comes out: `{ backend, why, cpu, webgpu }`,
 * costs in milliseconds of finding the objects of a picture and of embedding one. `null` where there is nothing
 * to choose from.
 *
 * `engine` is one that is there (`sharedEngine`): it is measured itself, so that a phone's memory holds no second one
 * of its kind. `signal` takes it back; then nothing is kept.
 *
 * @param {{ assets?: URL, manifest: string, threads?: number, engine?: any, signal?: AbortSignal }} how
 */
export async function choose({ assets, manifest, threads, engine, signal }) {
  const adapter = await findAdapter();
  if (!adapter || adapter.software) return null;
  const networks = await networksOf(manifest, signal);
  const before = kept(manifest, threads);
  if (before?.adapter === adapter.name && before.networks === networks) return before;
  const run = (backend) =>
    engine?.info && engine.backend === backend
      ? trialOf(engine, signal)
      : trial(assets, backend, manifest, threads, signal);
  const cpu = await run("cpu");
  const webgpu = await run("webgpu").catch((error) => {
    if (signal?.aborted) throw error;
    return null;
  });
  const choice = { version: VERSION, ...placeOf(threads), adapter: adapter.name, networks, ...decide(cpu, webgpu) };
  keep(manifest, choice);
  return choice;
}
