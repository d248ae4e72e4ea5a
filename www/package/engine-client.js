// The engine's worker as the package speaks to it: requests in their order, pictures as the engine takes them, another
// worker in the place of one that stops.
import { choose } from "./choice.js";
import { startWorker, whyNot } from "./engine.js";
import { decodeUpright, engineFormat, readPixels, sizeOf } from "./pixels.js";

/** What went wrong: `code` says it to a program, `message` to a person; `kind` is the code in one word. */
export class MagpieError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "MagpieError";
    this.code = code;
  }

  get kind() {
    return this.code.replace("-", "");
  }
}

// Failures of the engine about files that the browser may decode.
const undecoded = new WeakSet();

// Milliseconds without a request after which a device is measured.
const QUIET = 3000;
// Milliseconds that a picture that is not ready holds up those after it.
const PATIENCE = 3000;
// Longest side of pixels that are given as such.
const MOST_SIDE = 1_000_000;

/** Why a signal was aborted. */
export const aborted = (signal) =>
  signal.reason ?? new DOMException("The operation was aborted.", "AbortError");

/** What a promise comes to, unless the signal is first. */
export function unlessAborted(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const stop = () => reject(aborted(signal));
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}

/** A value that a call does not take. */
export function refused(name, value, needed) {
  const isText = typeof value === "string";
  const given = isText ? JSON.stringify(value) : typeof value === "object" && value ? "of another type" : String(value);
  return new MagpieError("argument", `${name} ${given}: ${needed} is needed`);
}

/** An integer from one. */
export function integer(name, value, most) {
  if (Number.isInteger(value) && value >= 1 && value <= most) return value;
  throw refused(name, value, `an integer from 1 to ${most}`);
}

/**
 * A request that waits for its turn or its answer; `isTrial` where nobody but a trial asks.
 *
 * @typedef {{
 *   request: object | string,
 *   transfer: Transferable[],
 *   isTrial: boolean,
 *   resolve(answer: any): void,
 *   reject(error: unknown): void,
 *   settled(): void,
 * }} Entry
 */

/**
 * How a request is asked.
 *
 * @typedef {{ signal?: AbortSignal | null, transfer?: Transferable[], isTrial?: boolean }} Asking
 */

/** A worker that answers one request after the other, and another one in its place where it stops. */
export class Engine {
  #assets;
  #begin;
  /** @type {any} */
  #worker = null;
  /** @type {Entry[]} */
  #waiting = [];
  /** @type {Entry | null} */
  #current = null;
  /** @type {Promise<void> | null} */
  #started = null;
  /** @type {unknown} */
  #failure = null;
  // Whether the worker takes requests.
  #isStarted = false;
  // Whether a new worker is being brought to where the one before was.
  #reviving = false;
  // Times that it stopped since it last answered.
  #stops = 0;
  // Whether the processor computes without threads and relaxed SIMD.
  #isPlain;
  /** @type {() => void} */
  #pictured = () => {};
  // What measures the engines, its timer, and what takes it back.
  /** @type {(() => Promise<void>) | null} */
  #measure = null;
  #quiet;
  /** @type {AbortController | null} */
  #trial = null;
  // The pictures that were given so far are ready to be asked about, or have had their time.
  /** @type {Promise<unknown>} */
  #preparing = Promise.resolve();
  // Ends with the engine.
  #over = new AbortController();
  /** @type {((progress: { loaded: number, total: number }) => void) | null} */
  onProgress = null;
  /**
   * What a new worker is asked first; without it none takes the place of one that stops.
   *
   * @type {object[] | null}
   */
  revival = null;
  /**
   * Once the classes' pictures are there, or cannot be had.
   *
   * @type {Promise<void>}
   */
  pictured = new Promise((resolve) => {
    this.#pictured = resolve;
  });

  /** Of the engine's files in a folder, or beside this module where there is none. */
  constructor(assets, backend, manifest, threads, isPlain = false) {
    this.#assets = assets;
    this.backend = backend;
    this.#isPlain = isPlain;
    this.#begin = () => {
      try {
        return startWorker(assets, this.backend, manifest, threads, this.#isPlain);
      } catch (error) {
        const refused = /Trusted/.test(error.message);
        const advice = refused ? "; a page that requires trusted types has to allow the policy magpie" : "";
        const reason = `the engine's worker cannot be started: ${error.message}${advice}`;
        throw new MagpieError("device", reason);
      }
    };
    this.#launch();
  }

  #launch() {
    const worker = this.#begin();
    this.#worker = worker;
    this.#isStarted = false;
    this.#started = new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => {
        if (data !== "Started") return this.#answered(data);
        this.#isStarted = true;
        resolve();
        this.#next();
      };
      worker.onerror = async (event) => {
        event.preventDefault?.();
        const reason = event.message || (await whyNot(this.#assets));
        const error = new MagpieError("device", `the engine's worker failed: ${reason}`);
        reject(error);
        if (worker === this.#worker) this.#stopped(error);
      };
    });
    // A failure is told to whoever waits, not to the console.
    this.#started?.catch(() => {});
  }

  // What was being answered is lost; what waits goes to the next worker.
  #stopped(error) {
    const entry = this.#current;
    if (this.#failure || !this.revival) return this.#fail(error);
    this.#current = null;
    entry?.settled();
    if (this.#reviving) return entry?.reject(error);
    entry?.reject(new MagpieError("stopped", `${error.message}; it is started again`));
    this.#revive(error);
  }

  // Starts again, the second time in a row on the processor where it was a graphics device, there as plainly as can be.
  async #revive(error) {
    this.#reviving = true;
    for (;;) {
      this.#worker.terminate();
      this.#stops += 1;
      if (this.#stops > 1) {
        if (this.backend === "webgpu") this.backend = "cpu";
        else if (!this.#isPlain) this.#isPlain = true;
        else break;
        this.#stops = 1;
      }
      try {
        this.#launch();
        await this.#started;
        for (const request of this.revival ?? []) await this.#send(request);
        this.#reviving = false;
        return this.#next();
      } catch (again) {
        if (this.#failure) break;
        error = again;
      }
    }
    this.#reviving = false;
    if (!this.#failure) this.#fail(error);
  }

  // Asks before anybody else.
  #send(request) {
    return new Promise((resolve, reject) => {
      this.#current = { request, transfer: [], isTrial: false, resolve, reject, settled() {} };
      this.#worker.postMessage(request);
    });
  }

  /**
   * Waits for the worker and for its turn; `signal` takes it back.
   *
   * @param {object | string} request
   * @param {Asking} [options]
   */
  async ask(request, options) {
    if (options?.signal?.aborted) throw aborted(options.signal);
    if (this.#failure) throw this.#failure;
    return this.#queue(request, options);
  }

  /**
   * A trial is not disturbed by what it asks itself.
   *
   * @param {object | string} request
   * @param {Asking} [options]
   */
  #queue(request, { signal, transfer = [], isTrial = false } = {}) {
    return new Promise((resolve, reject) => {
      /** @type {Entry} */
      const entry = { request, transfer, isTrial, resolve, reject, settled() {} };
      const stop = () => {
        // An answer that is already being worked out is dropped when it comes.
        const at = this.#waiting.indexOf(entry);
        if (at >= 0) this.#waiting.splice(at, 1);
        reject(aborted(signal));
      };
      signal?.addEventListener("abort", stop, { once: true });
      entry.settled = () => signal?.removeEventListener("abort", stop);
      this.#waiting.push(entry);
      if (!isTrial) this.#wait();
      this.#next();
    });
  }

  /**
   * Measures the engines of this device for the next load, once nothing is asked for a while; this one by what it is,
   * where it says what `info` its bundle has.
   *
   * @param {{ info(): object | null, assets?: URL, manifest: string, threads?: number }} how
   */
  measureOnce({ info, ...how }) {
    // Not where the visitor saves data, nor where there is nothing to choose from.
    /** @type {any} */
    const navigator = globalThis.navigator;
    if (navigator?.connection?.saveData || !navigator?.gpu) return;
    this.#measure = async () => {
      const trial = new AbortController();
      this.#trial = trial;
      const ask = (request, signal) => this.#queue(request, { signal, isTrial: true });
      const engine = { backend: this.backend, info: info(), ask };
      try {
        await choose({ ...how, engine, signal: trial.signal });
        this.#measure = null;
      } catch {
        // Disturbed: at the next quiet moment. A host that does not answer is not asked again.
        if (!trial.signal.aborted) this.#measure = null;
      }
      if (this.#trial === trial) this.#trial = null;
    };
    this.#wait();
  }

  #wait() {
    clearTimeout(this.#quiet);
    this.#trial?.abort();
    this.#trial = null;
    if (!this.#measure || this.#failure) return;
    this.#quiet = setTimeout(() => {
      if (!this.#current && !this.#waiting.length) this.#measure?.();
    }, QUIET);
  }

  /**
   * Asks about a picture, which `request` puts into its place: what the engine answers, and by how much boxes are to
   * be stretched. Files that the engine does not read are decoded by the browser.
   */
  async askAbout(source, request, signal) {
    if (signal?.aborted) throw aborted(signal);
    if (this.#failure) throw this.#failure;
    let { message, transfer, size } = await this.#inTurn(picture(source), signal);
    let answered;
    try {
      answered = await this.ask(request(message), { signal, transfer });
    } catch (error) {
      if (!undecoded.has(error) || !(source instanceof Blob)) throw error;
      const decoding = bytesOf(source).then((bytes) => decoded(source, bytes));
      const again = await this.unlessOver(decoding, signal);
      if (!again) throw error;
      ({ message, transfer, size } = again);
      answered = await this.ask(request(message), { signal, transfer });
    }
    const { width, height } = message.Pixels ?? {};
    return { answered, size, stretch: size ? [size[0] / width, size[1] / height] : [1, 1] };
  }

  // Pictures keep their order while each is ready within some seconds; one that is not goes later.
  async #inTurn(preparing, signal) {
    preparing.catch(() => {});
    const before = this.#preparing;
    let go = () => {};
    /** @type {Promise<void>} */
    const ready = new Promise((resolve) => {
      go = resolve;
    });
    this.#preparing = Promise.all([before, ready]);
    const patience = setTimeout(go, PATIENCE);
    try {
      return await this.unlessOver(before.then(() => preparing), signal);
    } finally {
      clearTimeout(patience);
      go();
    }
  }

  /** What a promise comes to, unless the signal or the engine's end is first. */
  unlessOver(promise, signal) {
    return unlessAborted(unlessAborted(promise, signal), this.#over.signal);
  }

  end(error) {
    this.#measure = null;
    this.#wait();
    this.#worker.terminate();
    this.#fail(error);
  }

  /** Whether it answers nothing any more. */
  get ended() {
    return this.#failure !== null;
  }

  #next() {
    if (!this.#isStarted || this.#current || this.#failure || this.#reviving) return;
    this.#current = this.#waiting.shift() ?? null;
    if (!this.#current) return;
    const { request, transfer } = this.#current;
    try {
      this.#worker.postMessage(request, transfer);
    } catch (error) {
      this.#settle((entry) => entry.reject(new MagpieError("argument", error.message)));
    }
  }

  #answered(data) {
    const [kind, value] = typeof data === "string" ? [data] : Object.entries(data)[0];
    if (kind === "Progress") this.onProgress?.(value);
    else if (kind === "Pictured") this.#pictured();
    // Nobody asked: answers are those of what the gallery has learned anew.
    else if (kind === "Adapted") return;
    else if (kind === "Failed") {
      const { kind, message } = value.error;
      const code = { Format: "picture", TooNew: "too-new" }[kind] ?? kind.toLowerCase();
      const error = new MagpieError(code, message);
      if (kind === "Format") undecoded.add(error);
      this.#settle((entry) => entry.reject(error));
    } else {
      if (!this.#reviving) this.#stops = 0;
      this.#settle((entry) => entry.resolve(value));
    }
  }

  #settle(how) {
    const entry = this.#current;
    this.#current = null;
    if (entry) {
      entry.settled();
      how(entry);
    }
    if (!entry?.isTrial) this.#wait();
    this.#next();
  }

  #fail(error) {
    // Whoever waits hears the first reason.
    this.#failure ??= error;
    this.#over.abort(this.#failure);
    this.#pictured();
    const entries = [this.#current, ...this.#waiting].filter((entry) => entry !== null);
    this.#current = null;
    this.#waiting = [];
    for (const entry of entries) {
      entry.settled();
      entry.reject(error);
    }
  }
}

const NO_PICTURE = "picture: neither a file nor anything that can be drawn";

const encoded = (bytes) => ({ message: { Encoded: bytes }, transfer: [bytes.buffer] });

const pixels = ({ width, height, rgba }, size) => ({
  message: { Pixels: { width, height, rgba } },
  transfer: [rgba.buffer],
  size,
});

async function read(source) {
  // Whoever gave it may close or resize it as soon as its pixels are drawn.
  const size = sizeOf(source);
  try {
    return pixels(await readPixels(source), size);
  } catch (error) {
    if (error instanceof TypeError) throw new MagpieError("argument", NO_PICTURE);
    throw new MagpieError("picture", error.message);
  }
}

/** A file as the browser decodes it; null where it cannot. */
async function decoded(file, bytes) {
  const bitmap = await decodeUpright(file, bytes).catch(() => null);
  if (!bitmap) return null;
  try {
    return await read(bitmap);
  } finally {
    bitmap.close();
  }
}

/** A file's bytes. */
export const bytesOf = async (file) => new Uint8Array(await file.arrayBuffer());

/**
 * Anything with pixels as the engine takes it: bytes of a file, or red, green, blue, alpha; with the `size` that the
 * source has where pixels may have been shrunk.
 */
async function picture(source) {
  if (source instanceof Blob) {
    const bytes = await bytesOf(source);
    // Of what neither decodes the engine says what it is.
    return (!engineFormat(bytes) && (await decoded(source, bytes))) || encoded(bytes);
  }
  // ImageData, or what is like it where there is none.
  if (source?.data instanceof Uint8ClampedArray) {
    const { data } = source;
    const width = integer("picture.width", source.width, MOST_SIDE);
    const height = integer("picture.height", source.height, MOST_SIDE);
    const length = 4 * width * height;
    if (data.length !== length) throw refused("picture.data.length", data.length, `4 × ${width} × ${height}`);
    return pixels({ width, height, rgba: new Uint8Array(data) });
  }
  const [width, height] = sizeOf(source);
  if (!(width >= 0 && height >= 0 && typeof width === "number" && typeof height === "number")) {
    throw new MagpieError("argument", NO_PICTURE);
  }
  if (width === 0 || height === 0) {
    throw new MagpieError("picture", "the picture is not loaded yet, closed or empty");
  }
  return read(source);
}
