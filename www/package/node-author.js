// The engine that makes galleries and sites, in threads of Node's: all of them look at photographs beside each other,
// and the first puts together what all have seen.
import { setFlagsFromString } from "node:v8";

import { moduleName } from "./engine.js";
import { ThreadWorker } from "./node-thread.js";

// Records that are sent in one message.
const AT_ONCE = 64;
const ENDED = { kind: "Ended", message: "the engine was ended" };

/** What the engine refuses: `kind` says what of it. */
export class AuthorError extends Error {
  constructor({ kind, message }) {
    super(message);
    this.kind = kind;
  }
}

/** A thread that answers one request at a time, in order. */
class Author {
  #waiting = [];
  #started;
  // Why it answers nothing any more.
  /** @type {AuthorError | null} */
  #ended = null;

  constructor() {
    this.worker = new ThreadWorker(new URL("./worker.js?engine=author", import.meta.url));
    let start = () => {};
    // What is sent before the engine listens is lost.
    this.#started = new Promise((resolve) => {
      start = () => resolve(undefined);
    });
    this.worker.onmessage = ({ data }) => {
      if (data === "Started") start();
      else this.#hear(data);
    };
    this.worker.onerror = ({ message }) => this.end({ kind: "Device", message: `the engine stopped: ${message}` });
  }

  /**
   * @param {object} request
   * @param {(progress: { done: number, of: number, what: string }) => void} [progress]
   */
  ask(request, progress) {
    if (this.#ended) throw this.#ended;
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject, progress });
      this.#started.then(() => this.worker.postMessage(request));
    });
  }

  #hear(data) {
    if (data.Progress) return this.#waiting[0]?.progress?.(data.Progress);
    const { resolve, reject } = this.#waiting.shift() ?? {};
    if (data.Failed) reject?.(new AuthorError(data.Failed.error));
    else resolve?.(Object.values(data)[0]);
  }

  end(error) {
    this.#ended ??= new AuthorError(error);
    this.worker.terminate();
    for (const { reject } of this.#waiting.splice(0)) reject(this.#ended);
  }
}

/** Does a work on each of these, as many beside each other as there are hands. */
async function shared(items, hands, work) {
  let next = 0;
  const each = async (hand) => {
    while (next < items.length) {
      const at = next;
      next += 1;
      await work(items[at], hand);
    }
  };
  await Promise.all(hands.map(each));
}

/** Engines that have these networks. */
export class Authors {
  #authors;

  constructor(authors, { key, detects, exact }) {
    this.#authors = authors;
    /** What makes the embeddings: records of another key are refused. */
    this.key = key;
    this.detects = detects;
    /** Whether sites are those of the command, byte for byte. */
    this.exact = exact;
  }

  /** Opens as many engines: bytes of the model files. */
  static async open(extractor, detector, count) {
    // Node 20 has relaxed SIMD behind a flag.
    if (moduleName("cpu") !== "relaxed") setFlagsFromString("--experimental-wasm-relaxed-simd");
    const authors = Array.from({ length: count }, () => new Author());
    try {
      const opened = await Promise.all(authors.map((author) => author.ask({ Open: { extractor, detector } })));
      return new Authors(authors, opened[0]);
    } catch (error) {
      for (const author of authors) author.end(ENDED);
      throw error;
    }
  }

  /** Hands each of these items to a work with a way to look at a photograph; all engines are busy at once. */
  async lookAtAll(items, work) {
    await shared(items, this.#authors, (item, author) =>
      work(item, (name, file) => author.ask({ Look: { id: 0, name, file, pixels: null } })),
    );
  }

  /** Takes in records; content ids of those that are refused, as being damaged or of another key. */
  async know(records) {
    const [first] = this.#authors;
    const refused = [];
    for (let at = 0; at < records.length; at += AT_ONCE) {
      const some = records.slice(at, at + AT_ONCE);
      try {
        await first.ask({ Know: { records: some.map(({ record }) => record) } });
      } catch (error) {
        if (error.kind !== "Corrupted") throw error;
        for (const { content, record } of some) {
          await first.ask({ Know: { records: [record] } }).catch(() => refused.push(content));
        }
      }
    }
    return refused;
  }

  /** Gallery, report, figures and site of a project, packed on this many threads. Engines end as soon as they can: their
   * memory is needed. */
  async make(project, page, threads, progress) {
    for (const author of this.#authors.splice(1)) author.end(ENDED);
    const made = await this.#authors[0].ask({ Make: { project, page, packed: false } }, progress);
    this.end();
    return { ...made, site: await this.#withCopies(made.site, threads, progress) };
  }

  // Files of a site with their packed copies, which engines without networks make beside each other.
  async #withCopies(site, threads, progress) {
    // The largest first, so that none is left alone at the end.
    const files = [...site].sort((one, other) => other.bytes.length - one.bytes.length);
    this.#authors = Array.from({ length: Math.min(threads, files.length) }, () => new Author());
    const all = [...site];
    let done = 0;
    await shared(files, this.#authors, async (file, author) => {
      const { copies } = await author.ask({ Pack: { file } });
      all.push(...copies);
      done += 1;
      progress?.({ done, of: files.length, what: "packing" });
    });
    return all;
  }

  end() {
    for (const author of this.#authors) author.end(ENDED);
  }
}
