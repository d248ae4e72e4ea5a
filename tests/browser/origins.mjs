// Engine and bundle from other origins, policies of pages, files that are not what they should be, and elements
// that share an engine; prints what was seen as JSON.
//
// node origins.mjs BROWSER SITE NEXT PICTURE [SCENARIO,…]
//   BROWSER  chromium or firefox
//   SITE     folder of the site; NEXT takes its place in one scenario
import { readFileSync } from "node:fs";

import { open as openBrowser } from "./browsers.mjs";
import { ISOLATED, start } from "./host.mjs";
import { playAll } from "./scenarios.mjs";

const [which, site, next, picture, only] = process.argv.slice(2);
const sleep = (ms) => new Promise((then) => setTimeout(then, ms));
const bytes = [...readFileSync(picture)];

// What a host sends to pages of other origins.
const OPEN = {
  "Access-Control-Allow-Origin": "*",
  "Access-Control-Allow-Headers": "range, if-range",
  "Access-Control-Expose-Headers": "accept-ranges, content-encoding, content-length, content-range, etag",
  "Cross-Origin-Resource-Policy": "cross-origin",
};
const TYPED = "require-trusted-types-for 'script'; trusted-types magpie";
const empty = "<!doctype html><title>empty</title>";
const goto = (page, where) => page.goto(where, { waitUntil: "domcontentloaded" });

// Runs in a page: loads a bundle with the module of an address and recognizes the picture.
const recognized = async ([module, bundle, options, bytes]) => {
  const limit = new Promise((resolve) => setTimeout(resolve, 240_000, { late: true }));
  const work = async () => {
    const { Magpie } = await import(module);
    const { moduleName } = await import(new URL("engine.js", module));
    const threaded = crossOriginIsolated && moduleName("cpu") === "relaxed";
    const magpie = await Magpie.load(bundle, { backend: "cpu", threads: 2, ...options });
    const file = new Blob([new Uint8Array(bytes)], { type: "image/jpeg" });
    let result = await magpie.recognize(file);
    // Helpers come a little later.
    for (let i = 0; i < 100 && threaded && result.threads < 2; i += 1) {
      await new Promise((then) => setTimeout(then, 50));
      result = await magpie.recognize(file);
    }
    magpie.dispose();
    const labels = result.objects.map(({ answers }) => answers[0].label);
    return { labels, threads: result.threads, isolated: crossOriginIsolated };
  };
  const failed = ({ code, name, message }) => ({ code: code ?? name, message });
  return Promise.race([work().catch(failed), limit]);
};

const look = (page) =>
  page.evaluate(() => {
    const unable = document.querySelector("#unable");
    const status = document.querySelector("#status");
    return {
      unable: unable.hidden ? null : unable.textContent,
      status: status.hidden ? null : status.textContent,
      state: status.className,
      words: document.querySelector("#own-words").textContent,
    };
  });

async function settled(page, patience = 30_000) {
  const end = Date.now() + patience;
  for (;;) {
    const seen = await look(page).catch(() => null);
    if (seen && (seen.unable || /done|failed/.test(seen.state))) return seen;
    if (Date.now() > end) return { ...seen, late: true };
    await sleep(100);
  }
}

// Firefox's driver knows no workers: those are counted that were started and not ended.
const COUNTED = `{
  const Original = Worker;
  window.running = new Set();
  window.Worker = class extends Original {
    constructor(...all) { super(...all); running.add(this); }
    terminate() { running.delete(this); super.terminate(); }
  };
}`;
const engines = async (page) =>
  which === "firefox"
    ? page.evaluate(() => running.size)
    : page.workers().filter((worker) => /worker\.js/.test(worker.url())).length;

/** Milliseconds until no engine is left. */
async function ended(page) {
  const begun = Date.now();
  while ((await engines(page)) > 0 && Date.now() - begun < 10_000) await sleep(50);
  return (await engines(page)) > 0 ? null : Date.now() - begun;
}

const scenarios = {
  // A page whose module, worker, engine, helpers and bundle come from another origin.
  async elsewhere(browser) {
    const [own, other] = [await start(site, /^$/), await start(site, /^$/)];
    own.headers = ISOLATED;
    other.headers = { ...OPEN, ...ISOLATED };
    const from = other.address.slice(0, -1);
    const policy =
      `default-src 'none'; script-src 'self' ${from} 'wasm-unsafe-eval'; worker-src blob: ${from}; ` +
      `connect-src ${from}; ${TYPED}`;
    const credentialless = { ...ISOLATED, "Cross-Origin-Embedder-Policy": "credentialless" };
    Object.assign(own.pages, {
      "/plain.html": [empty, {}],
      "/isolated.html": [empty, ISOLATED],
      "/credentialless.html": [empty, credentialless],
      "/policy.html": [empty, { ...ISOLATED, "Content-Security-Policy": policy }],
      "/narrow.html": [empty, { "Content-Security-Policy": `script-src 'self' ${from}; connect-src ${from}` }],
    });
    const seen = {};
    const ask = async (name, path, module, bundle, options = {}) => {
      const visit = await browser.page();
      await goto(visit.page, own.address + path);
      seen[name] = await visit.page.evaluate(recognized, [module, bundle, options, bytes]);
      await visit.close();
    };
    const everything = [`${other.address}magpie.js`, `${other.address}bundle/`];
    await ask("own", "isolated.html", `${own.address}magpie.js`, `${own.address}bundle/`);
    for (const name of ["plain", "isolated", "credentialless", "policy", "narrow"]) {
      await ask(name, `${name}.html`, ...everything);
    }
    await ask("bundle alone", "isolated.html", `${own.address}magpie.js`, `${other.address}bundle/`);
    const folder = { assets: other.address };
    await ask("engine alone", "isolated.html", `${own.address}magpie.js`, `${own.address}bundle/`, folder);
    other.headers = ISOLATED;
    await ask("closed bundle", "plain.html", `${own.address}magpie.js`, `${other.address}bundle/`);
    await ask("closed engine", "plain.html", `${own.address}magpie.js`, `${own.address}bundle/`, folder);
    own.close();
    other.close();
    return seen;
  },

  // Pages that require trusted types: the package's and the site's own.
  async typed(browser) {
    const host = await start(site, /^$/);
    host.headers = ISOLATED;
    const policy = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' blob:;";
    Object.assign(host.pages, {
      "/typed.html": [empty, { ...ISOLATED, "Content-Security-Policy": `${policy} ${TYPED}` }],
      "/other.html": [empty, { "Content-Security-Policy": `${policy} ${TYPED.replace("magpie", "other")}` }],
    });
    const seen = {};
    for (const name of ["typed", "other"]) {
      const visit = await browser.page();
      await goto(visit.page, `${host.address}${name}.html`);
      const given = [`${host.address}magpie.js`, `${host.address}bundle/`, {}, bytes];
      seen[name] = await visit.page.evaluate(recognized, given);
      await visit.close();
    }
    host.headers = { "Content-Security-Policy": TYPED };
    const visit = await browser.page();
    const problems = [];
    visit.page.on("console", (message) => {
      const type = typeof message.type === "function" ? message.type() : "";
      if (type === "error") problems.push(message.text());
    });
    await goto(visit.page, `${host.address}?backend=cpu&lang=en`);
    const opened = await settled(visit.page);
    await visit.upload(picture);
    await visit.page.waitForFunction(() => document.querySelector("#answers li"));
    const keeps = await visit.page.evaluate(async () => Boolean((await navigator.serviceWorker?.ready)?.active));
    seen.page = { opened, problems, keeps };
    await visit.close();
    host.close();
    return seen;
  },

  // On a host that sends no headers the service worker gives the engine's worker its policy.
  async policy(browser) {
    const [host, other] = [await start(site, /^$/), await start(site, /^$/)];
    other.headers = OPEN;
    const visit = await browser.page();
    const tries = [];
    for (let time = 0; time < 2; time += 1) {
      await goto(visit.page, `${host.address}?backend=cpu&lang=en`);
      await settled(visit.page);
      const worker = visit.page.workers().find((worker) => /worker\.js/.test(worker.url()));
      const fetched = ([own, other]) =>
        Promise.all([own, other].map((address) => fetch(address).then(() => "fetched", () => "refused")));
      const addresses = [host.address, other.address].map((address) => `${address}samples.json`);
      tries.push(await worker.evaluate(fetched, addresses));
      await visit.page.evaluate(async () => {
        await navigator.serviceWorker.ready;
        while (!navigator.serviceWorker.controller) await new Promise((then) => setTimeout(then, 50));
      });
    }
    await visit.upload(picture);
    await visit.page.waitForFunction(() => document.querySelector("#answers li"));
    await visit.close();
    host.close();
    other.close();
    return tries;
  },

  // An address that asks for a bundle of another site, and one of the page's own.
  async asked(browser) {
    const [host, other] = [await start(site, /^$/), await start(site, /./)];
    other.headers = { ...OPEN, ...ISOLATED };
    const seen = {};
    for (const lang of ["en", "zh"]) {
      const visit = await browser.page();
      const bundle = encodeURIComponent(`${other.address}bundle/manifest.json`);
      await goto(visit.page, `${host.address}?backend=cpu&lang=${lang}&bundle=${bundle}`);
      await settled(visit.page);
      await sleep(500);
      seen[lang] = { ...(await look(visit.page)), asked: other.asked.length };
      await visit.close();
    }
    const visit = await browser.page();
    await goto(visit.page, `${host.address}?backend=cpu&lang=en&bundle=bundle/manifest.json`);
    seen.own = await settled(visit.page);
    await visit.close();
    host.close();
    other.close();
    return seen;
  },

  // Browsers without what the engine needs, and hosts that answer for files that they have not.
  async lacking(browser) {
    const refuse =
      'for (const name of ["compile", "compileStreaming", "instantiate", "instantiateStreaming"]) ' +
      'WebAssembly[name] = async () => { throw new WebAssembly.CompileError("refused here"); };\n';
    const cases = {
      "no SIMD": { stub: "WebAssembly.validate = () => false;" },
      "no WebAssembly": { stub: "delete globalThis.WebAssembly;" },
      "refused in the worker": { before: refuse },
      "page for web_bg.wasm": { spa: /\/web_bg\.wasm$/ },
      "page for web.js": { spa: /\/web\.js$/ },
      "page for worker.js": { spa: /\/worker\.js$/ },
      "page for the engine": { spa: /\/worker-(cpu|relaxed)(_bg\.wasm|\.js)$/ },
      "page for its wasm": { spa: /\/worker-(cpu|relaxed)_bg\.wasm$/ },
    };
    const seen = {};
    for (const [name, { stub, before, spa }] of Object.entries(cases)) {
      const host = await start(site, /worker|bundle/);
      host.spa = spa ?? null;
      if (before) host.before["/worker.js"] = before;
      const visit = await browser.page(stub);
      await goto(visit.page, `${host.address}?backend=cpu&lang=en`);
      seen[name] = await settled(visit.page);
      await sleep(300);
      seen[name].asked = host.asked.length;
      await visit.close();
      host.close();
    }
    return seen;
  },

  // Elements share an engine, which outlives a move and ends after the last of them.
  async elements(browser) {
    const host = await start(site, /\.safetensors$/);
    host.pages["/two.html"] = [
      `<!doctype html><script type="module" src="element.js"></script>
       <magpie-recognizer bundle="bundle/" backend="cpu"></magpie-recognizer>
       <magpie-recognizer bundle="bundle/" backend="cpu" top-k="3"></magpie-recognizer><div></div>`,
      ISOLATED,
    ];
    host.headers = ISOLATED;
    const visit = await browser.page(COUNTED);
    const { page } = visit;
    await goto(page, `${host.address}two.html`);
    const seen = {};
    seen.ready = await page.evaluate(async () => {
      window.all = [...document.querySelectorAll("magpie-recognizer")];
      window.told = [];
      for (const what of ["ready", "recognized", "error"]) {
        document.addEventListener(`magpie-${what}`, ({ detail }) => told.push([what, detail.error?.message]));
      }
      await customElements.whenDefined("magpie-recognizer");
      while (!all.every((element) => element.magpie)) await new Promise((then) => setTimeout(then, 50));
      return { same: all[0].magpie === all[1].magpie };
    });
    seen.engines = await engines(page);
    seen.weights = host.asked.map(({ path, range }) => `${path} ${range}`);
    // Moved while it recognizes: neither the engine nor the answer is lost.
    const given = bytes;
    seen.moved = await page.evaluate(async (bytes) => {
      const before = all[0].magpie;
      const file = new Blob([new Uint8Array(bytes)], { type: "image/jpeg" });
      const answer = all[0].recognize(file);
      document.querySelector("div").append(all[0]);
      const { objects } = await answer;
      return { same: all[0].magpie === before, objects: objects.length };
    }, given);
    seen.after = await engines(page);
    // Runners-up, pictures of the classes, and a label that stays clear of the box for dropping.
    seen.shown = await page.evaluate(async (bytes) => {
      const file = new Blob([new Uint8Array(bytes)], { type: "image/jpeg" });
      const { objects } = await all[1].recognize(file);
      const { answers, drop, figure } = all[1].parts;
      const bottom = drop.getBoundingClientRect().bottom;
      const labels = [...figure.querySelectorAll(".label")].map((label) => label.getBoundingClientRect().top);
      return {
        objects: objects.map(({ known, answers }) => ({ known, labels: answers.map(({ label }) => label) })),
        lines: [...answers.children].map((line) => ({
          text: line.querySelector("span").textContent,
          others: [...line.querySelectorAll(".others")].map((other) => other.textContent),
          pictures: line.querySelectorAll(":scope > img").length,
        })),
        clear: labels.every((top) => top > bottom),
      };
    }, given);
    // What a gallery says about a class is text.
    seen.facts = await page.evaluate(async (bytes) => {
      const { magpie, parts } = all[1];
      const file = new Blob([new Uint8Array(bytes)], { type: "image/jpeg" });
      magpie.recognize = async (...given) => {
        const result = await Object.getPrototypeOf(magpie).recognize.apply(magpie, given);
        for (const { answers } of result.objects) answers[0].metadata = { price: "<b>1</b>", shelf: "2" };
        return result;
      };
      await all[1].recognize(file);
      delete magpie.recognize;
      const lists = [...parts.answers.querySelectorAll("dl")];
      return lists.map((list) => [...list.children].map((entry) => entry.textContent));
    }, given);
    // Two pictures in a row, an address that is overtaken, and one that holds no picture.
    seen.race = await page.evaluate(async (bytes) => {
      const element = all[0];
      const file = () => new Blob([new Uint8Array(bytes)], { type: "image/jpeg" });
      const first = element.recognize(file()).catch((error) => error.name);
      const second = await element.recognize(file());
      const twice = { first: await first, hidden: element.parts.figure.hidden };
      twice.boxes = element.parts.figure.querySelectorAll(".box").length === second.objects.length;
      told.length = 0;
      element.setAttribute("src", "samples/1.jpg?late");
      element.setAttribute("src", "samples/2.jpg");
      while (!told.length) await new Promise((then) => setTimeout(then, 50));
      await new Promise((then) => setTimeout(then, 500));
      const source = { told: told.map(([what]) => what) };
      told.length = 0;
      element.setAttribute("src", "manifest-of-nothing.jpg");
      while (!told.length) await new Promise((then) => setTimeout(then, 50));
      await new Promise((then) => setTimeout(then, 500));
      return { twice, source, failing: told.slice() };
    }, given);
    // In and out; the last of them leaves.
    seen.rounds = await page.evaluate(async () => {
      const element = document.createElement("magpie-recognizer");
      element.setAttribute("bundle", "bundle/");
      element.setAttribute("backend", "cpu");
      for (let round = 0; round < 20; round += 1) {
        document.body.append(element);
        await new Promise((then) => setTimeout(then, round * 5));
        element.remove();
      }
      return true;
    });
    seen.busy = await engines(page);
    await page.evaluate(() => {
      for (const element of all) element.remove();
    });
    seen.left = await ended(page);
    // What waited when its element left is told so.
    seen.open = await page.evaluate(async (bytes) => {
      const element = document.createElement("magpie-recognizer");
      element.setAttribute("bundle", "bundle/");
      document.body.append(element);
      const file = new Blob([new Uint8Array(bytes)], { type: "image/jpeg" });
      const answer = element.recognize(file).then(() => "answered", (error) => error.name);
      element.remove();
      return Promise.race([answer, new Promise((then) => setTimeout(then, 3000, "open"))]);
    }, given);
    seen.none = await ended(page);
    await visit.close();

    // The element's own module is there, the engine's is not.
    host.missing = /\/magpie\.js$/;
    const broken = await browser.page();
    await goto(broken.page, `${host.address}precache.json`);
    seen.broken = await broken.page.evaluate(async (base) => {
      await import(`${base}element.js`);
      const element = document.createElement("magpie-recognizer");
      element.setAttribute("bundle", `${base}bundle/`);
      const told = new Promise((then) => element.addEventListener("magpie-error", then, { once: true }));
      document.body.append(element);
      const event = await Promise.race([told, new Promise((then) => setTimeout(then, 5000, null))]);
      return event?.detail.error.message ?? "nothing was told";
    }, host.address);
    await broken.close();
    host.close();
    return seen;
  },

  // Values that calls do not take, and loads that are given up.
  async calls(browser) {
    const host = await start(site, /thumbnails-.*\.bin$/);
    host.headers = ISOLATED;
    const visit = await browser.page();
    await goto(visit.page, `${host.address}precache.json`);
    const refused = await visit.page.evaluate(
      async ([base, bytes]) => {
        const { Magpie, MagpieError } = await import(`${base}magpie.js`);
        const magpie = await Magpie.load(`${base}bundle/`, { backend: "cpu", threads: 1 });
        const file = new Blob([new Uint8Array(bytes)], { type: "image/jpeg" });
        const told = async (promise) => promise.then(() => "taken", ({ code, message }) => `${code}: ${message}`);
        const seen = {};
        for (const topK of [-1, 0, NaN, "3", 1.5, null, Infinity]) {
          seen[`topK ${topK}`] = await told(magpie.recognize(file, { topK }));
          seen[`search ${topK}`] = await told(magpie.gallery.search([1], { topK }));
        }
        seen.runs = await told(magpie.measure("Search", { runs: 0.5 }));
        seen.threshold = await told(magpie.tune({ minSimilarity: NaN }));
        seen.score = await told(magpie.tune({ minScore: "0.5" }));
        const gallery = magpie.gallery;
        const pixels = (width, height, length) => ({ width, height, data: new Uint8ClampedArray(length) });
        const stages = ["Nope", undefined, { Embed: -1 }, { SearchIn: 1e9 }, { toString: 1 }];
        stages.push({ stage: "toString" }, { stage: "embed", batch: "4" }, { stage: "search", entries: NaN });
        const parts = [{ stage: "embed", batch: 2 }, { Embed: 2 }, "embed", { stage: "search", entries: 9 }, "search", "Search"];
        const runs = [];
        for (const part of parts) runs.push((await magpie.measure(part, { runs: 1 })).length);
        const tooNew = new MagpieError("too-new", "");
        const codes = [tooNew.code, tooNew.kind];
        const sides = [[-1, 1], [1.5, 2], [NaN, 1], ["8", 8], [2 ** 32, 1]];
        const wrong = {
          label: [gallery.add(42, file), gallery.remove(null)],
          to: [gallery.rename("one")],
          filter: [gallery.list(null), gallery.list({})],
          stage: stages.map((stage) => magpie.measure(stage)),
          "picture.width": sides.map((sides) => magpie.recognize(pixels(...sides, 12))),
          "picture.data.length": [magpie.embed(pixels(10, 10, 4))],
          picture: [magpie.detect({ width: 8, height: 8 }), magpie.detect({ width: -8, height: 8 }), magpie.embed(null)],
          follow: [magpie.recognize(file, { follow: "yes" })],
          signal: [magpie.recognize(file, { signal: 5 }), gallery.list("", { signal: "now" })],
          options: [magpie.recognize(file, null), gallery.undo(null), Magpie.load(`${base}bundle/`, null)],
          embedding: [gallery.search(), gallery.search("abc"), gallery.search([NaN])],
          thresholds: [magpie.tune(null)],
          file: [gallery.import(5e9), gallery.import("x"), gallery.import()],
          bundle: [Magpie.load("http://[", { backend: "cpu" }), Magpie.load(42)],
        };
        const named = {};
        for (const [name, calls] of Object.entries(wrong)) named[name] = await Promise.all(calls.map(told));
        const views = [await gallery.list(), await gallery.add("mine", file)];
        const listed = views.every(({ shown, classes }) => shown.length === Math.min(60, classes));
        await gallery.reset();
        const { objects } = await magpie.recognize(file, { topK: 2 });
        const before = magpie.ended;
        magpie.dispose();
        return { seen, named, runs, codes, listed, answers: objects[0].answers.length, ended: [before, magpie.ended] };
      },
      [host.address, bytes],
    );
    host.silent = /thumbnails-.*\.bin$/;
    const aborted = await visit.page.evaluate(async (base) => {
      const { Magpie } = await import(`${base}magpie.js`);
      const end = new AbortController();
      // Everything but the pictures has come.
      const whole = new Promise((then) => {
        window.heard = ({ loaded, total }) => loaded === total && then();
      });
      const loading = Magpie.load(`${base}bundle/`, {
        backend: "cpu",
        threads: 1,
        signal: end.signal,
        onProgress: window.heard,
      });
      await whole;
      await new Promise((then) => setTimeout(then, 1500));
      const begun = performance.now();
      end.abort();
      const name = await loading.then(() => "loaded", (error) => error.name);
      return { name, milliseconds: performance.now() - begun };
    }, host.address);
    const left = await ended(visit.page);
    await visit.close();
    host.close();
    return { refused, aborted, left };
  },

  // Sources that their owners take back at once, and one that never comes.
  async sources(browser) {
    const host = await start(site, /^$/);
    host.headers = ISOLATED;
    const visit = await browser.page();
    await goto(visit.page, `${host.address}precache.json`);
    const seen = await visit.page.evaluate(
      async ([base, bytes]) => {
        const { Magpie } = await import(`${base}magpie.js`);
        const magpie = await Magpie.load(`${base}bundle/`, { backend: "cpu", threads: 1 });
        const file = new Blob([new Uint8Array(bytes)], { type: "image/jpeg" });
        const bitmap = await createImageBitmap(file);
        const boxes = async (found) => {
          const { width, height, objects } = await found;
          return { width, height, boxes: objects.map(({ box }) => box) };
        };
        const frame = new VideoFrame(bitmap, { timestamp: 0 });
        const canvas = document.createElement("canvas");
        Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
        canvas.getContext("2d").drawImage(bitmap, 0, 0);
        const whole = await boxes(magpie.detect(bitmap));
        const taken = { frame: boxes(magpie.detect(frame)) };
        frame.close();
        taken.canvas = boxes(magpie.detect(canvas));
        canvas.width = 50;
        taken.bitmap = boxes(magpie.detect(bitmap));
        bitmap.close();
        for (const name of Object.keys(taken)) taken[name] = await taken[name];

        const time = async (promise) => {
          const begun = performance.now();
          const told = await promise.then(() => "answered", ({ name, code }) => (name === "AbortError" ? name : code));
          return { told, milliseconds: performance.now() - begun };
        };
        const never = () => Object.assign(new Blob(["x"]), { arrayBuffer: () => new Promise(() => {}) });
        const end = new AbortController();
        const aborted = time(magpie.recognize(never(), { signal: end.signal }));
        const next = time(magpie.recognize(file));
        end.abort();
        const stuck = { aborted: await aborted, next: await next };
        const left = time(magpie.recognize(never()));
        const imported = time(magpie.gallery.import(never()));
        // Later ones keep their order among each other.
        const order = [];
        const later = [1, 2, 3].map((index) => magpie.embed(file).then(() => order.push(index)));
        stuck.later = await time(Promise.all(later));
        const open = magpie.recognize(never());
        magpie.dispose();
        const limit = new Promise((then) => setTimeout(then, 1000, "nothing"));
        const all = Promise.all([left, imported, time(open)]);
        stuck.disposed = await Promise.race([all.then((calls) => calls.map(({ told }) => told)), limit]);
        return { whole, taken, stuck, order };
      },
      [host.address, bytes],
    );
    await visit.close();
    host.close();
    return seen;
  },

  // An element whose bundle changes, goes and comes back, and one whose engine somebody has ended.
  async changing(browser) {
    const [host, other] = [await start(site, /^$/), await start(next, /^$/)];
    other.headers = OPEN;
    host.pages["/one.html"] = [
      `<!doctype html><script type="module" src="element.js"></script>
       <magpie-recognizer bundle="bundle/" backend="cpu" src="samples/2.jpg"></magpie-recognizer>`,
      {},
    ];
    const visit = await browser.page();
    await goto(visit.page, `${host.address}one.html`);
    const seen = await visit.page.evaluate(async (other) => {
      await customElements.whenDefined("magpie-recognizer");
      const element = document.querySelector("magpie-recognizer");
      const { figure, image, status, answers } = element.parts;
      const look = () => ({
        picture: !figure.hidden && image.hasAttribute("src"),
        boxes: figure.querySelectorAll(".box").length,
        answers: answers.children.length,
        status: status.textContent,
      });
      const told = (of, what) =>
        new Promise((then) => of.addEventListener(`magpie-${what}`, ({ detail }) => then(detail), { once: true }));
      if (!answers.children.length) await told(element, "recognized");
      const first = look();
      const again = told(element, "recognized");
      element.setAttribute("bundle", `${other}bundle/`);
      const changed = look();
      await again;
      const after = { ...look(), title: element.magpie.title };
      element.removeAttribute("bundle");
      const gone = look();
      const failed = told(element, "error");
      element.setAttribute("bundle", "nowhere/");
      const { error } = await failed;
      await new Promise((then) => setTimeout(then, 500));
      const nowhere = { code: error.code, said: look().status === error.message };
      const back = told(element, "recognized");
      element.setAttribute("bundle", "bundle/");
      await back;

      const twin = document.createElement("magpie-recognizer");
      for (const name of ["bundle", "backend"]) twin.setAttribute(name, element.getAttribute(name));
      document.body.append(twin);
      await told(twin, "ready");
      const shared = element.magpie;
      const same = twin.magpie === shared;
      shared.dispose();
      const file = await (await fetch("samples/2.jpg")).blob();
      const count = (one) => one.recognize(file).then(({ objects }) => objects.length, (error) => error.message);
      const ended = [await count(twin), await count(element)];
      const renewed = element.magpie === twin.magpie && twin.magpie !== shared;
      return { first, changed, after, gone, nowhere, back: look(), twins: { same, ended, renewed } };
    }, other.address);
    await visit.close();
    host.close();
    other.close();
    return seen;
  },

  // A newer publication has the same gallery, another title, other notes and another threshold.
  async republished(browser) {
    const host = await start(site, /^$/);
    const visit = await browser.page();
    await goto(visit.page, `${host.address}?backend=cpu&lang=en`);
    await settled(visit.page);
    const shown = () =>
      visit.page.evaluate(() => ({
        title: document.title,
        heading: document.querySelector("#title").textContent,
        notes: document.querySelector("#notes").textContent,
        least: document.querySelector("#min-similarity").value,
      }));
    const before = await shown();
    host.site = next;
    await visit.page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
    await visit.page.waitForFunction(() => document.querySelector("#status").textContent.includes("newer"));
    const after = await shown();
    await visit.close();
    host.close();
    return { before, after };
  },
};

const browser = await openBrowser(which);
await playAll(scenarios, only, (scenario) => scenario(browser), () => browser.close());
