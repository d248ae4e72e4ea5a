// Recognizes the things of a gallery in pictures, in this page: no picture leaves it.
//
//   import { Magpie } from "./magpie.js";
//   const magpie = await Magpie.load("./bundle/");
//   const { objects } = await magpie.recognize(file);
//
// The engine runs in a worker of its own, from the files beside this one.
import { chosen } from "./choice.js";
import { missing, moduleName } from "./engine.js";
import { aborted, bytesOf, Engine, MagpieError, refused, unlessAborted, integer } from "./engine-client.js";

export { MagpieError };

async function chosenBackend(backend, manifest, threads) {
  if (backend === "cpu" || backend === "webgpu") return backend;
  if (backend !== undefined && backend !== "auto") {
    throw new MagpieError("argument", `there is no backend ${backend}; there is auto, cpu, webgpu`);
  }
  return chosen(manifest, threads);
}

/** A threshold. */
function bound(name, value, least) {
  if (typeof value === "number" && value >= least && value <= 1) return value;
  throw refused(name, value, `a number from ${least} to 1`);
}

function text(name, value) {
  if (typeof value === "string") return value;
  throw refused(name, value, "text");
}

// An option of the module's own: the plain engine of the processor.
const PLAIN = Symbol("plain");

const isObject = (value) => typeof value === "object" && value !== null;

/** The options of a call, of which every call takes a signal. */
function optionsOf(options = {}) {
  if (!isObject(options)) throw refused("options", options, "an object");
  const { signal = null } = options;
  if (signal !== null && !(typeof signal.aborted === "boolean" && typeof signal.addEventListener === "function")) {
    throw refused("signal", signal, "an AbortSignal");
  }
  return options;
}

// Answers of one object, and runs of one measurement, at most.
const MOST_ANSWERS = 10_000;
const MOST_RUNS = 10_000;
const MOST_THREADS = 64;
// Numbers of an embedding, at most.
const MOST_NUMBERS = 65_536;

// Parts of the pipeline by the engine's names, and how many crops or entries at most.
const STAGES = {
  "detector-network": "DetectorNetwork",
  "extractor-network": "ExtractorNetwork",
  detect: "Detect",
  search: "Search",
  recognize: "Recognize",
};
const COUNTED_STAGES = { Embed: 64, SearchIn: 200_000 };

/** The engine's name of a stage: of `{ stage, batch, entries }`, of a name alone, or of the engine's own. */
function stageOf(part) {
  const { stage, batch, entries } = isObject(part) && "stage" in part ? part : { stage: part };
  if (stage === "embed") return { Embed: integer("stage embed: batch", batch ?? 1, COUNTED_STAGES.Embed) };
  if (stage === "search" && entries !== undefined) {
    return { SearchIn: integer("stage search: entries", entries, COUNTED_STAGES.SearchIn) };
  }
  if (typeof stage === "string") {
    if (Object.hasOwn(STAGES, stage)) return STAGES[stage];
    if (Object.values(STAGES).includes(stage)) return stage;
  }
  const [[name, count] = ["", 0], ...more] = isObject(stage) ? Object.entries(stage) : [];
  if (Object.hasOwn(COUNTED_STAGES, name) && more.length === 0) {
    return { [name]: integer(`stage ${name}`, count, COUNTED_STAGES[name]) };
  }
  throw refused("stage", stage, `one of ${Object.keys(STAGES).join(", ")}, embed`);
}

/** An embedding as a list of numbers. */
function numbers(name, value) {
  const list = isObject(value) && value.length <= MOST_NUMBERS ? Array.from(value) : null;
  if (list?.every(Number.isFinite)) return list;
  throw refused(name, value, "a list of numbers");
}

/** The bytes of a gallery file: a promise of them where it has to be read. */
function fileOf(value) {
  if (value instanceof Blob) return bytesOf(value);
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength).slice();
  // Of another window, too.
  const isBuffer = /^\[object (Shared)?ArrayBuffer\]$/.test(Object.prototype.toString.call(value));
  if (isBuffer) return new Uint8Array(value).slice();
  throw refused("file", value, "a Blob, an ArrayBuffer or a Uint8Array");
}

const answer = ({ label, similarity, probability, metadata, thumbnail }) => ({
  label,
  similarity,
  probability: probability ?? null,
  metadata: Object.fromEntries(metadata),
  thumbnail: thumbnail.length ? new Blob([thumbnail]) : null,
});

const box = ([left, top, right, bottom], [x, y]) => ({
  x: left * x,
  y: top * y,
  width: (right - left) * x,
  height: (bottom - top) * y,
});

const view = ({ classes, entries, unlisted, matching, shown, edited, can_undo, kept }) => ({
  classes,
  entries,
  unlisted,
  matching,
  shown: shown.map(({ label, entries, thumbnail }) => ({
    label,
    entries,
    thumbnail: thumbnail.length ? new Blob([thumbnail]) : null,
  })),
  edited,
  canUndo: can_undo,
  kept,
});

/** The classes that pictures are compared with; changes stay in this browser. */
class Gallery {
  #engine;

  constructor(engine) {
    this.#engine = engine;
  }

  async #changed(request, options) {
    return view((await this.#engine.ask(request, optionsOf(options))).gallery);
  }

  /** Adds a whole picture, of one thing, to a class, which is made where it is not there. */
  async add(label, source, options) {
    const { signal } = optionsOf(options);
    text("label", label);
    const add = (picture) => ({ Edit: { Add: { label, picture } } });
    return view((await this.#engine.askAbout(source, add, signal)).answered.gallery);
  }

  /** Takes a class out. */
  async remove(label, options) {
    return this.#changed({ Edit: { Remove: { label: text("label", label) } } }, options);
  }

  /** Gives a class another name; where that is taken, the two become one. */
  async rename(from, to, options) {
    const Rename = { from: text("from", from), to: text("to", to) };
    return this.#changed({ Edit: { Rename } }, options);
  }

  /** Takes the last change back. */
  undo(options) {
    return this.#changed("Undo", options);
  }

  /** Goes back to the published gallery. */
  reset(options) {
    return this.#changed("Reset", options);
  }

  /** The first 60 classes by label; `filter` finds others: those whose labels hold it. */
  async list(filter = "", options) {
    return view(await this.#engine.ask({ List: { filter: text("filter", filter) } }, optionsOf(options)));
  }

  /** Classes that may be mistaken for each other, the most similar pair first. */
  async alike(options) {
    return (await this.#engine.ask("Alike", optionsOf(options))).pairs;
  }

  /** The classes that are most similar to an embedding. */
  async search(embedding, options) {
    const { topK = 5, signal } = optionsOf(options);
    const top_k = integer("topK", topK, MOST_ANSWERS);
    const request = { Search: { embedding: numbers("embedding", embedding), top_k } };
    return (await this.#engine.ask(request, { signal })).answers.map(answer);
  }

  /** The gallery as a file, for `magpie gallery` or another page. */
  async export(options) {
    return new Blob([(await this.#engine.ask("Export", optionsOf(options))).bytes]);
  }

  /** Adds the classes and entries of a gallery file. */
  async import(file, options) {
    const { signal } = optionsOf(options);
    const reading = Promise.resolve(fileOf(file));
    const bytes = await this.#engine.unlessOver(reading, signal);
    return this.#changed({ Edit: { Import: { bytes } } }, options);
  }
}

/** An address as it is, or as the page means it. */
function addressOf(name, value) {
  const base = typeof document === "undefined" ? import.meta.url : document.baseURI;
  try {
    // A URL may be another window's, or what a bundler puts in its place.
    if (typeof value === "string" || typeof value?.href === "string") return new URL(String(value), base);
  } catch {
    // It is none.
  }
  throw refused(name, value, "an address");
}

/** A loaded bundle. */
export class Magpie {
  #engine;
  #thresholds;
  #next = 1;

  constructor(engine, info) {
    this.#engine = engine;
    /** Title of the bundle, and its notes on license and source. */
    this.title = info.title;
    this.notes = info.notes;
    /** Whether it finds objects; without a detector every picture is one. */
    this.detects = info.detects;
    /** What products are computed in: "f32" or "i8". */
    this.arithmetic = info.arithmetic;
    this.#thresholds = info.thresholds;
    this.gallery = new Gallery(engine);
  }

  /** Who computes: the processor takes the place of a graphics device that is lost twice. */
  get backend() {
    return this.#engine.backend;
  }

  /**
   * Starts an engine and loads a bundle into it.
   *
   * `bundle` is the address of a bundle's folder or of its manifest; `assets` the address of a
   * folder with the engine's files, by default those beside this file, which bundlers find. Without
   * `thumbnails` it is ready before the classes' pictures have come: answers have none until then.
   * `threads` is how many compute on the CPU in a page that is isolated from other sites; as many as
   * the device has cores, at most four, unless given. `arithmetic` is what networks compute in on the
   * CPU, "f32" or "i8", whatever their files say.
   */
  static async load(bundle, options) {
    const { signal, onProgress, backend, assets, threads, arithmetic, thumbnails = true } = optionsOf(options);
    if (signal?.aborted) throw aborted(signal);
    if (onProgress != null && typeof onProgress !== "function") throw refused("onProgress", onProgress, "a function");
    const address = addressOf("bundle", bundle);
    if (!address.pathname.endsWith(".json")) {
      if (!address.pathname.endsWith("/")) address.pathname += "/";
      address.pathname += "manifest.json";
    }
    if (threads !== undefined) integer("threads", threads, MOST_THREADS);
    if (arithmetic !== undefined && arithmetic !== "f32" && arithmetic !== "i8") {
      throw new MagpieError("argument", `there is no arithmetic ${arithmetic}; there is f32, i8`);
    }
    const lacking = missing();
    if (lacking) throw new MagpieError("device", lacking);
    const folder = assets === undefined ? undefined : addressOf("assets", assets);
    const chosen = await unlessAborted(chosenBackend(backend, address.href, threads), signal);
    const engine = new Engine(folder, chosen, address.href, threads, options?.[PLAIN]);
    try {
      engine.onProgress = onProgress ?? null;
      const open = { Open: { manifest: address.href, arithmetic } };
      const info = await engine.ask(open, { signal });
      engine.revival = [open];
      if (thumbnails) await unlessAborted(engine.pictured, signal);
      const magpie = new Magpie(engine, info);
      if (backend === undefined || backend === "auto") {
        // What an arithmetic of somebody's own takes says nothing of the bundle's.
        const now = () => (arithmetic === undefined ? { ...info, thresholds: magpie.#thresholds } : null);
        engine.measureOnce({ assets: folder, manifest: address.href, threads, info: now });
      }
      return magpie;
    } catch (error) {
      engine.end(error);
      // The best device of this browser may still refuse, and the engine stop that asks most of the processor.
      if (error.code === "device" && chosen === "webgpu" && backend !== "webgpu") {
        return Magpie.load(bundle, { ...options, backend: "cpu" });
      }
      if (error.code === "device" && chosen === "cpu" && !options?.[PLAIN] && moduleName("cpu") !== "cpu") {
        return Magpie.load(bundle, { ...options, [PLAIN]: true });
      }
      throw error;
    }
  }

  #ask(kind, source, signal, more = {}) {
    const request = (picture) => ({ [kind]: { id: this.#next++, picture, ...more } });
    return this.#engine.askAbout(source, request, signal);
  }

  /**
   * Says what is in a picture, the surest answer first. With `follow` it is the next frame of a
   * camera: what has hardly changed since the last one is not looked at again.
   */
  async recognize(source, options) {
    const { topK = 5, signal, follow = false } = optionsOf(options);
    integer("topK", topK, MOST_ANSWERS);
    if (typeof follow !== "boolean") throw refused("follow", follow, "true or false");
    const { answered, size, stretch } = await this.#ask("Recognize", source, signal, { follow });
    const { result } = answered;
    const objects = [];
    for (const { bbox, detection_score, known, answers, embedding } of result.objects) {
      const best =
        topK > answers.length
          ? await this.gallery.search(embedding, { topK, signal })
          : answers.slice(0, topK).map(answer);
      objects.push({
        box: box(bbox, stretch),
        detectionScore: detection_score,
        known,
        label: known ? (best[0]?.label ?? null) : null,
        answers: best,
        embedding: Float32Array.from(embedding),
      });
    }
    const { timings, threads } = result;
    const [width, height] = size ?? [result.width, result.height];
    return { width, height, objects, timings, threads };
  }

  /** Where things are, without naming them. */
  async detect(source, options) {
    const { signal } = optionsOf(options);
    const { answered, size, stretch } = await this.#ask("Locate", source, signal);
    const { objects } = answered;
    const [width, height] = size ?? [answered.width, answered.height];
    return {
      width,
      height,
      objects: objects.map(({ bbox, detection_score }) => ({
        box: box(bbox, stretch),
        detectionScore: detection_score,
      })),
    };
  }

  /** The unit embedding of a picture of one thing. */
  async embed(source, options) {
    const { signal } = optionsOf(options);
    return Float32Array.from((await this.#ask("Embed", source, signal)).answered.embedding);
  }

  /** Least similarity of an answer and least detection score of an object. */
  get thresholds() {
    const { min_similarity, min_score } = this.#thresholds;
    return { minSimilarity: min_similarity, minScore: min_score };
  }

  /** Recognizes by other thresholds from now on; what is left out stays as it is. */
  async tune(thresholds = {}, options) {
    if (!isObject(thresholds)) throw refused("thresholds", thresholds, "an object");
    const { minSimilarity, minScore } = thresholds;
    const now = this.thresholds;
    const Tune = {
      min_similarity: bound("minSimilarity", minSimilarity ?? now.minSimilarity, -1),
      min_score: bound("minScore", minScore ?? now.minScore, 0),
    };
    this.#thresholds = (await this.#engine.ask({ Tune }, optionsOf(options))).thresholds;
    this.#engine.revival = [this.#engine.revival[0], { Tune }];
    return this.thresholds;
  }

  /**
   * Milliseconds of several runs of a part of the pipeline, on a drawn picture: "detector-network",
   * "extractor-network", "detect", { stage: "embed", batch: 4 }, "search", { stage: "search", entries: 1000 } or
   * "recognize".
   */
  async measure(part, options) {
    const { runs = 20, signal } = optionsOf(options);
    const Measure = { stage: stageOf(part), runs: integer("runs", runs, MOST_RUNS) };
    const answer = await this.#engine.ask({ Measure }, { signal });
    return Array.from(answer.milliseconds);
  }

  /** Whether its engine has ended: by `dispose`, or since it stopped for good. Calls fail then. */
  get ended() {
    return this.#engine.ended;
  }

  /** Ends the engine; whoever still waits is told so. */
  dispose() {
    this.#engine.end(new MagpieError("disposed", "the engine was ended"));
  }
}
