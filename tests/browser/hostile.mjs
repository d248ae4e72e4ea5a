// The page on hosts that lie and in browsers that lack or refuse parts; prints what a visitor saw.
//
// node hostile.mjs BROWSER SITE SHARDS NEXT PICTURE [SCENARIO]
//   BROWSER  chromium or firefox
//   SITE     folder of the site; NEXT takes its place in one scenario
//   SHARDS   folder of the site with its gallery in shards
import { pathToFileURL } from "node:url";

import { open as openBrowser } from "./browsers.mjs";
import { teachDrawing } from "./drawn.mjs";
import { ISOLATED, start } from "./host.mjs";
import { LIES } from "./lies.mjs";
import { PATIENCE } from "./patience.mjs";
import { playAll } from "./scenarios.mjs";

const [which, site, shards, next, picture, only] = process.argv.slice(2);
const sleep = (ms) => new Promise((then) => setTimeout(then, ms));

const look = (page) =>
  page.evaluate(() => {
    const text = (selector) => document.querySelector(selector)?.textContent ?? null;
    return {
      status: text("#status"),
      state: document.querySelector("#status")?.className ?? "",
      unable: document.querySelector("#unable")?.hidden === false ? text("#unable") : null,
      labels: [...document.querySelectorAll("#answers h3 .label")].map((label) => label.textContent),
      // For those who look into the details.
      words: text("#own-words"),
      offline: text("#offline"),
      kept: text("#kept"),
    };
  });

async function until(page, test, patience = PATIENCE) {
  const end = Date.now() + patience;
  for (;;) {
    // Between two documents there is nothing to look at.
    const seen = await look(page).catch(() => null);
    if (seen && test(seen)) return seen;
    if (Date.now() > end) return { ...seen, late: true };
    await sleep(100);
  }
}

const settled = ({ state, unable }) => /done|failed/.test(state) || unable !== null;
const ready = (page, patience) => until(page, settled, patience);
const address = (host, more = "") => `${host.address}?backend=cpu&lang=en${more}`;
const open = (page, where) => page.goto(where, { waitUntil: "domcontentloaded" });
const mark = (page) =>
  page.evaluate(() => {
    const status = document.querySelector("#status");
    status.className = "asked";
    status.textContent = "(asked)";
  });

async function give({ page, upload }, patience) {
  await mark(page);
  await upload(picture);
  return until(page, ({ state }) => /done|failed/.test(state), patience);
}

async function teach({ page }, name) {
  await mark(page);
  await page.evaluate(() => {
    document.querySelector("#gallery-panel").open = true;
    document.querySelector(".correction button").focus();
  });
  await page.keyboard.press("Enter");
  await page.keyboard.type(name);
  await page.keyboard.press("Enter");
  return until(page, ({ status }) => status !== "(asked)");
}

// Labels of the gallery's classes.
async function classes({ page }, filter) {
  await page.evaluate((filter) => {
    document.querySelector("#gallery-panel").open = true;
    const search = document.querySelector("#class-search");
    search.value = filter;
    // Gone once the list is another.
    document.querySelector("#classes").append(Object.assign(document.createElement("li"), { id: "listed-before" }));
    search.dispatchEvent(new Event("input", { bubbles: true }));
  }, filter);
  const isListed = () => page.evaluate(() => !document.querySelector("#listed-before"));
  for (let tries = 0; tries < 200 && !(await isListed()); tries += 1) await sleep(50);
  return page.evaluate(() =>
    [...document.querySelectorAll("#classes .name")].map((name) => name.textContent),
  );
}

// Changes by the package, one after the other: what each of them said, and the visitor's classes then.
async function edits({ page }, host, changes) {
  await open(page, `${host.address}precache.json`);
  await teachDrawing(page);
  return page.evaluate(
    async ([base, changes]) => {
      const { Magpie } = await import(`${base}magpie.js`);
      const magpie = await Magpie.load(`${base}bundle/`, { backend: "cpu", threads: 1 });
      const said = [];
      for (const [what, label, more] of changes) {
        const wanted = what === "add" ? window.drawn(more) : more;
        said.push(
          await magpie.gallery[what](label, wanted).then(
            ({ kept }) => (kept ? "kept" : "not kept"),
            ({ message }) => message,
          ),
        );
      }
      const { shown } = await magpie.gallery.list("zz");
      magpie.dispose();
      // Other names hold these letters too.
      const own = shown.filter(({ label }) => label.startsWith("zz "));
      return { said, classes: own.map(({ label, entries }) => `${label}: ${entries}`) };
    },
    [host.address, changes],
  );
}

const lookAgain = (page) =>
  page.evaluate(() => {
    document.dispatchEvent(new Event("visibilitychange"));
  });

const scenarios = {
  // Parts of a gallery from a host that lies, that is honest again, and after a reload.
  async lies(browser) {
    const seen = {};
    for (const lie of [null, ...Object.keys(LIES)]) {
      const host = await start(shards, /\.shard$/);
      const visit = await browser.page();
      await open(visit.page, address(host));
      await ready(visit.page);
      // The service worker takes over.
      await sleep(700);
      host.lie = lie;
      const lied = await give(visit);
      host.lie = null;
      const healed = await give(visit);
      await visit.page.reload({ waitUntil: "domcontentloaded" });
      await ready(visit.page);
      const reloaded = await give(visit);
      seen[lie ?? "honest"] = { lied, healed, reloaded };
      await visit.close();
      host.close();
    }
    return seen;
  },

  // Weights whose download broke and goes on at the next visit, on such a host.
  async resumed(browser) {
    const seen = {};
    for (const lie of ["packed", "no such part", "another start", "busy once", "half of it"]) {
      const host = await start(site, /extractor.*\.safetensors$/);
      host.ignored = /\/sw\.js$/;
      host.bytesPerSecond = 250_000;
      const visit = await browser.page();
      await open(visit.page, address(host));
      // Enough has come to be kept.
      await until(visit.page, ({ status }) => Number(/ ([\d.]+) of/.exec(status)?.[1]) > 1, 30_000);
      await sleep(1200);
      Object.assign(host, { bytesPerSecond: null, lie });
      await visit.page.reload({ waitUntil: "domcontentloaded" });
      const opened = await ready(visit.page);
      seen[lie] = { opened, answer: await give(visit), asked: host.asked.map(({ range }) => range) };
      await visit.close();
      host.close();
    }
    return seen;
  },

  // Storage that is missing, throws, or never answers.
  async storage(browser) {
    const insecure = 'throw new DOMException("The operation is insecure.", "SecurityError")';
    const never = "new Promise(() => {})";
    const stubs = {
      "no getDirectory": "delete StorageManager.prototype.getDirectory;",
      "getDirectory throws": `StorageManager.prototype.getDirectory = function () { ${insecure} };`,
      "getDirectory is silent": `StorageManager.prototype.getDirectory = () => ${never};`,
      "no createWritable": "delete FileSystemFileHandle.prototype.createWritable;",
      "createWritable is silent": `FileSystemFileHandle.prototype.createWritable = () => ${never};`,
      "no way to write":
        "delete FileSystemFileHandle.prototype.createWritable;" +
        "delete FileSystemFileHandle.prototype.createSyncAccessHandle;",
      "getFileHandle throws": `FileSystemDirectoryHandle.prototype.getFileHandle = function () { ${insecure} };`,
      "a size of nonsense":
        "FileSystemSyncAccessHandle.prototype.getSize = () => 18446744073709552000;",
    };
    const seen = {};
    for (const [name, stub] of Object.entries(stubs)) {
      const host = await start(site, /^$/);
      host.before["/worker.js"] = `${stub}\n`;
      const visit = await browser.page();
      await open(visit.page, address(host));
      const opened = await ready(visit.page);
      const answer = await give(visit);
      const taught = await teach(visit, "my thing");
      const { kept } = await until(visit.page, ({ kept }) => Boolean(kept));
      const again = await give(visit);
      await visit.page.reload({ waitUntil: "domcontentloaded" });
      await ready(visit.page);
      const reloaded = await give(visit);
      seen[name] = { opened, answer, taught, kept, again, reloaded };
      await visit.close();
      host.close();
    }
    return seen;
  },

  // A kept log that cannot be read at one visit, and at the next one can.
  async unread(browser) {
    const fails = (name) => `() => Promise.reject(new DOMException("busy", "${name}"))`;
    const stubs = {
      getFile: `FileSystemFileHandle.prototype.getFile = ${fails("NotReadableError")};`,
      getFileHandle:
        "{ const { getFileHandle } = FileSystemDirectoryHandle.prototype;" +
        "FileSystemDirectoryHandle.prototype.getFileHandle = function (name, options) {" +
        `return options?.create ? getFileHandle.call(this, name, options) : (${fails("NoModificationAllowedError")})(); }; }`,
      arrayBuffer: `Blob.prototype.arrayBuffer = ${fails("NotFoundError")};`,
      // The log and its copy, twice each, are not read at the start; the next change finds them.
      "getFile at first":
        "{ const { getFile } = FileSystemFileHandle.prototype; let times = 0;" +
        "FileSystemFileHandle.prototype.getFile = function () {" +
        `times += 1; return times > 2 ? getFile.call(this) : (${fails("NotReadableError")})(); }; }`,
    };
    const seen = {};
    for (const [name, stub] of Object.entries(stubs)) {
      const host = await start(site, /^$/);
      const visit = await browser.page();
      const before = await edits(visit, host, [["add", "zz mine", 1]]);
      host.before["/worker.js"] = `${stub}\n`;
      const unread = await edits(visit, host, [["add", "zz other", 2]]);
      host.before = {};
      const after = await edits(visit, host, []);
      seen[name] = { before, unread, after };
      await visit.close();
      host.close();
    }
    return seen;
  },

  // Labels that are spelled in several ways, that nobody can see, that are long.
  async labels(browser) {
    const host = await start(site, /^$/);
    const visit = await browser.page();
    const told = await edits(visit, host, [
      ["add", "zz Ka\u0308se", 1],
      ["add", "zz K\u00e4se", 2],
      ["add", "\ufeffzz K\u00e4se\u00a0", 3],
      ["rename", "zz Ka\u0308se ", "zz Kase"],
      ["add", "\u200b", 4],
      ["add", "\ufeff\u0001", 4],
      ["rename", "zz Kase", "\u200b"],
      ["add", "zz a\u0000b", 4],
      ["add", `zz ${"x".repeat(300)}`, 4],
    ]);
    await visit.close();
    host.close();
    return told;
  },

  // Something throws inside the engine's tasks.
  async trap(browser) {
    const host = await start(site, /^$/);
    host.before["/worker.js"] = `
      const { postMessage } = self;
      self.postMessage = function (message, ...more) {
        if (message?.Edited && !new URL(location.href).searchParams.has("again")) {
          Promise.reject(new WebAssembly.RuntimeError("unreachable"));
          return;
        }
        return postMessage.call(self, message, ...more);
      };\n`;
    const visit = await browser.page();
    await open(visit.page, address(host));
    await ready(visit.page);
    const answer = await give(visit);
    const taught = await teach(visit, "my thing");
    host.before = {};
    const then = await until(visit.page, ({ state }) => /done|failed/.test(state));
    const again = await give(visit);
    await visit.close();
    host.close();
    return { answer, taught, then, again };
  },

  // An engine that stops at every picture, unless it is the plain one; then one that stops however plain it is.
  async plain(browser) {
    const host = await start(site, /^$/);
    const stops = (which) => `
      if (${which}.test(new URL(import.meta.url).searchParams.get("engine"))) {
        const { postMessage } = self;
        self.postMessage = function (message, ...more) {
          if (message?.Recognized || message?.Embedded) {
            Promise.reject(new WebAssembly.RuntimeError("unreachable"));
            return;
          }
          return postMessage.call(self, message, ...more);
        };
      }\n`;
    host.missing = /\/sw\.js$/;
    host.before["/worker.js"] = stops("/relaxed/");
    const visit = await browser.page();
    const engines = [];
    visit.page.on("worker", (worker) => engines.push(new URL(worker.url()).searchParams.get("engine")));
    await open(visit.page, address(host));
    await ready(visit.page);
    const over = ({ labels, state }) => labels.length > 0 || state === "failed";
    await visit.upload(picture);
    const answer = await until(visit.page, over);
    const told = await visit.page.evaluate(async (base) => {
      const { Magpie } = await import(`${base}magpie.js`);
      const magpie = await Magpie.load(`${base}bundle/`, { backend: "cpu", threads: 1 });
      const data = new Uint8ClampedArray(4 * 64 * 64).map((_, at) => at % 251);
      const seen = [];
      for (let time = 0; time < 4; time += 1) {
        seen.push(await magpie.embed({ width: 64, height: 64, data }).then(() => "answered", ({ code }) => code));
      }
      magpie.dispose();
      return seen;
    }, host.address);
    host.before["/worker.js"] = stops("/./");
    await open(visit.page, address(host));
    await ready(visit.page);
    await visit.upload(picture);
    const refused = await until(visit.page, over);
    await visit.close();
    host.close();
    return { answer, engines: engines.filter(Boolean).slice(0, 3), told, refused };
  },

  // An answer that cannot be posted: the page starts another engine, the package is told.
  async unposted(browser) {
    const host = await start(site, /^$/);
    host.before["/worker.js"] = `
      const post = self.postMessage.bind(self);
      self.postMessage = (message, ...more) => {
        if (message?.Recognized || message?.Embedded) throw new DOMException("it could not be cloned", "DataCloneError");
        return post(message, ...more);
      };\n`;
    const visit = await browser.page();
    await open(visit.page, `${host.address}precache.json`);
    const told = await visit.page.evaluate(async (base) => {
      const { Magpie } = await import(`${base}magpie.js`);
      const magpie = await Magpie.load(`${base}bundle/`, { backend: "cpu", threads: 1 });
      const picture = new OffscreenCanvas(64, 64);
      picture.getContext("2d").fillRect(8, 8, 30, 30);
      const said = ({ code, message }) => ({ code, message });
      const embed = await magpie.embed(picture).then(() => "answered", said);
      const recognize = await magpie.recognize(picture).then(() => "answered", said);
      // It answers what it can.
      const { classes } = await magpie.gallery.list();
      magpie.dispose();
      return { embed, recognize, classes };
    }, host.address);
    await open(visit.page, address(host));
    await ready(visit.page);
    await give(visit);
    // Between the two engines the page may be at rest for a moment.
    const refused = await until(visit.page, ({ state }) => state === "failed");
    host.before = {};
    await visit.page.reload({ waitUntil: "domcontentloaded" });
    await ready(visit.page);
    const healed = await give(visit);
    await visit.close();
    host.close();
    return { told, refused, healed };
  },

  // Helpers that never answer, and parts of a gallery that never come: nothing waits for ever. The worker's time
  // passes faster.
  async limits(browser) {
    const hurry =
      "{ const { setTimeout } = self; self.setTimeout = (act, wait, ...more) => setTimeout(act, wait / 20, ...more); }\n";
    const host = await start(site, /^$/);
    host.headers = ISOLATED;
    Object.assign(host.before, {
      "/worker.js": hurry,
      "/worker-helper.js": 'if (self.name === "magpie-helper") await new Promise(() => {});\n',
    });
    const visit = await browser.page();
    await open(visit.page, `${host.address}precache.json`);
    const helpers = await visit.page.evaluate(async (base) => {
      const { Magpie } = await import(`${base}magpie.js`);
      const magpie = await Magpie.load(`${base}bundle/`, { backend: "cpu", threads: 2 });
      const begun = performance.now();
      const { length } = await magpie.measure("embed", { runs: 2 });
      const milliseconds = performance.now() - begun;
      const { threads } = await magpie.recognize(new OffscreenCanvas(64, 64));
      magpie.dispose();
      return { isolated: crossOriginIsolated, length, milliseconds, threads };
    }, host.address);
    await visit.close();
    host.close();
    const parts = await start(shards, /^$/);
    Object.assign(parts.before, { "/worker.js": hurry, "/sw.js": hurry });
    const other = await browser.page();
    await open(other.page, address(parts));
    await ready(other.page);
    parts.silent = /\.shard$/;
    const silent = await give(other, 40_000);
    parts.silent = null;
    const healed = await give(other);
    await other.close();
    parts.close();
    return { helpers, silent, healed };
  },

  // What fails, throws or never settles before the page is there.
  async early(browser) {
    const never = "new Promise(() => {})";
    const cases = {
      "no worker": { missing: /\/worker\.js$/, late: true },
      "no engine": { missing: /worker-(relaxed|cpu)_bg\.wasm$/, late: true },
      "no module of the page": { missing: /\/engine\.js$/ },
      "no start": { missing: /\/start\.js$/ },
      "no code of the page": { missing: /\/web\.js$/ },
      "silent adapter": {
        query: "&backend=",
        stub: `if (navigator.gpu) GPU.prototype.requestAdapter = () => ${never};`,
      },
      "service worker throws":
        {
          stub:
            'Object.defineProperty(Navigator.prototype, "serviceWorker", ' +
            '{ get() { throw new DOMException("no", "SecurityError"); }, configurable: true });',
        },
      "silent start": {
        before:
          "{ const { instantiate } = WebAssembly; let first = true;" +
          "WebAssembly.instantiate = (...all) => {" +
          `if (first) { first = false; return ${never}; } return instantiate(...all); }; }`,
      },
      "no headers of a language": { silent: /\/text\/zh\.json$/, query: "&lang=zh" },
    };
    const seen = {};
    for (const [name, { missing, late, stub, before, silent, query = "" }] of Object.entries(cases)) {
      const host = await start(site, /web_bg\.wasm$/);
      Object.assign(host, { missing: missing ?? null, silent: silent ?? null, headers: ISOLATED });
      if (before) host.before["/worker.js"] = `${before}\n`;
      // The page's own code comes after the failure.
      if (late) host.bytesPerSecond = 60_000;
      const visit = await browser.page(stub);
      const where = new URL(address(host));
      for (const [key, value] of new URLSearchParams(query)) where.searchParams.set(key, value);
      await open(visit.page, where.href);
      seen[name] = await ready(visit.page, 40_000);
      await visit.close();
      host.close();
    }
    const visit = await browser.page();
    // Opened from the disk.
    await open(visit.page, pathToFileURL(`${site}/index.html`).href);
    seen.file = await ready(visit.page, 10_000);
    await visit.close();
    return seen;
  },

  // A kept site: after an update, beside another site of the origin, on a host that is silent or broken.
  async kept(browser) {
    const works = ({ offline }) => Boolean(offline);
    const seen = {};
    {
      const host = await start(site, /^$/);
      const visit = await browser.page();
      await open(visit.page, address(host));
      await until(visit.page, works);
      host.site = next;
      await open(visit.page, address(host));
      await ready(visit.page);
      // The new service worker takes over when it has what the new site needs.
      const [before] = await visit.page.evaluate(() => caches.keys());
      for (let tries = 0; tries < 300; tries += 1) {
        seen.names = await visit.page.evaluate(() => caches.keys());
        if (seen.names.length === 1 && seen.names[0] !== before) break;
        await sleep(100);
      }
      host.gone = true;
      await visit.page.reload({ waitUntil: "domcontentloaded" });
      seen.updated = { opened: await ready(visit.page), answer: await give(visit) };
      host.gone = false;
      host.status = 503;
      await visit.page.reload({ waitUntil: "domcontentloaded" });
      seen.broken = { opened: await ready(visit.page), answer: await give(visit) };
      Object.assign(host, { status: null, silent: /./ });
      await visit.page.reload({ waitUntil: "domcontentloaded", timeout: PATIENCE });
      seen.silent = { opened: await ready(visit.page), answer: await give(visit) };
      await visit.close();
      host.close();
    }
    return seen;
  },

  // A site that was published anew: where the disk is full, and where the browser's own cache still has the old files.
  async renewed(browser) {
    const size = ({ page }) => page.evaluate(() => document.querySelector("#gallery").textContent);
    const seen = {};
    const full = 'Cache.prototype.put = async () => { throw new DOMException("full", "QuotaExceededError"); };\n';
    for (const [name, code, header] of [["full", full, "no-store"], ["cached", "", "max-age=3600"]]) {
      const host = await start(site, /^$/);
      host.headers = { "Cache-Control": header };
      const visit = await browser.page();
      const sizes = async () => {
        const opened = await ready(visit.page);
        return { state: opened.state, size: await size(visit) };
      };
      await open(visit.page, address(host));
      await ready(visit.page);
      await until(visit.page, ({ offline }) => Boolean(offline));
      const names = () => visit.page.evaluate(() => caches.keys());
      const [before] = await names();
      seen[name] = { old: await sizes() };
      host.site = next;
      if (code) host.before["/sw.js"] = code;
      await open(visit.page, address(host));
      seen[name].first = await sizes();
      for (let tries = 0; tries < (code ? 30 : 300); tries += 1) {
        const now = await names();
        if (now.length === 1 && now[0] !== before) break;
        await sleep(100);
      }
      seen[name].taken = !(await names()).includes(before);
      await visit.page.reload({ waitUntil: "domcontentloaded" });
      seen[name].second = await sizes();
      host.gone = true;
      await visit.page.reload({ waitUntil: "domcontentloaded" });
      seen[name].away = await sizes();
      seen[name].answer = await give(visit);
      await visit.close();
      host.close();
    }
    return seen;
  },

  // The host accepts a look for a newer gallery and never answers: pictures are answered.
  async refresh(browser) {
    const host = await start(site, /^$/);
    const visit = await browser.page();
    await open(visit.page, address(host));
    await ready(visit.page);
    host.silent = /manifest\.json$/;
    await lookAgain(visit.page);
    await sleep(300);
    const answer = await give(visit, 10_000);
    await visit.close();
    host.close();
    return { answer };
  },

  // What a visitor teaches: a correction, a rename that outlives a publication, two pages at once.
  async lessons(browser) {
    const host = await start(site, /^$/);
    const visit = await browser.page();
    await open(visit.page, address(host));
    await ready(visit.page);
    const before = await give(visit);
    await teach(visit, "zz slip");
    const taught = await teach(visit, "zz right");
    const again = await give(visit);
    const names = await classes(visit, "zz");
    await visit.page.reload({ waitUntil: "domcontentloaded" });
    await ready(visit.page);
    const reloaded = await give(visit);

    const first = await visit.another();
    const second = await visit.another();
    for (const other of [first, second]) {
      await open(other.page, address(host));
      await ready(other.page);
      await give(other);
    }
    for (let round = 0; round < 4; round += 1) {
      // At the same time, of the same picture's second object and of its first.
      await Promise.all(
        [first, second].map(({ page }, index) =>
          page.evaluate(
            async ([label, base]) => {
              window.own ??= (await import(`${base}magpie.js`)).Magpie.load(`${base}bundle/`, {
                backend: "cpu",
                threads: 1,
              });
              const { gallery } = await window.own;
              const canvas = new OffscreenCanvas(64, 64);
              const context = canvas.getContext("2d");
              for (let i = 0; i < 40; i += 1) {
                context.fillStyle = `hsl(${Math.random() * 360} 80% ${20 + Math.random() * 60}%)`;
                context.fillRect(Math.random() * 64, Math.random() * 64, 30, 30);
              }
              await gallery.add(label, context.getImageData(0, 0, 64, 64));
            },
            [`zz tab ${index} lesson ${round}`, host.address],
          ),
        ),
      );
    }
    const third = await visit.another();
    await open(third.page, address(host));
    await ready(third.page);
    const both = await classes(third, "zz tab");

    // A published class gets another name here; then the site is published anew.
    await classes(third, before.labels[0]);
    await third.page.locator("#edit").click();
    await third.page.locator("#classes button").first().click();
    await third.page.locator("dialog input").fill("renamed");
    await third.page.locator("dialog .primary").click();
    await until(third.page, ({ status }) => /renamed/.test(status));
    host.site = next;
    await lookAgain(third.page);
    await until(third.page, ({ status }) => /newer gallery/.test(status));
    const renamed = await classes(third, "renamed");
    const old = await classes(third, before.labels[0]);
    await visit.close();
    host.close();
    return { before, taught, again, names, reloaded, both, renamed, old };
  },

  // Tabs that change the same gallery: what one removes is not brought back by another, which still has it.
  async tabs(browser) {
    const host = await start(site, /^$/);
    const visit = await browser.page();
    const [first, second, third] = [visit, await visit.another(), await visit.another()];
    const load = async ({ page }) => {
      await open(page, `${host.address}precache.json`);
      await teachDrawing(page);
      await page.evaluate(async (base) => {
        const { Magpie } = await import(`${base}magpie.js`);
        window.magpie = await Magpie.load(`${base}bundle/`, { backend: "cpu", threads: 1 });
      }, host.address);
    };
    const add = ({ page }, name, number) =>
      page.evaluate(
        async ([name, number]) => (await window.magpie.gallery.add(name, window.drawn(number))).kept,
        [name, number],
      );
    const remove = ({ page }, name) =>
      page.evaluate(async (name) => (await window.magpie.gallery.remove(name)).kept, name);
    const list = ({ page }, filter) =>
      page.evaluate(async (filter) => {
        const { shown } = await window.magpie.gallery.list(filter);
        return shown.filter(({ label }) => label.startsWith(filter)).map(({ label }) => label);
      }, filter);
    await load(first);
    const kept = [await add(first, "zz gone", 1), await add(first, "zz stays", 2)];
    const [published] = await list(first, "");
    await load(second);
    const before = await list(second, "zz ");
    // At the same moment, and once more by a tab that has what is gone.
    kept.push(...(await Promise.all([add(first, "zz more", 3), remove(second, "zz gone")])));
    kept.push(await remove(second, published), await add(first, "zz later", 4));
    await load(third);
    const seen = { kept, before, after: await list(third, "zz "), published, left: await list(third, published) };
    await visit.close();
    host.close();
    return seen;
  },

  // Lessons over publications: one with more classes, one in shards; then back to what was published.
  async publications(browser) {
    const host = await start(next, /^$/);
    const visit = await browser.page();
    const { page } = visit;
    const things = () => page.evaluate(() => Number(/\d+/.exec(document.querySelector("#gallery").textContent)[0]));
    await open(page, address(host));
    await ready(page);
    const before = await give(visit);
    const seen = { before, fewer: await things() };
    await teach(visit, "zz mine");
    // A class that is not in the picture.
    await classes(visit, "skate");
    const gone = await page.evaluate(() => document.querySelector("#classes .name").textContent);
    await page.evaluate(() => {
      document.querySelectorAll("#classes .class:first-child button")[1].click();
      document.querySelector("dialog[open] .primary").click();
    });
    await until(page, ({ status }) => status.includes(gone));
    host.site = site;
    await lookAgain(page);
    await until(page, ({ status }) => /newer gallery/.test(status));
    seen.more = await things();
    const names = async () => ({ mine: await classes(visit, "zz mine"), gone: (await classes(visit, gone)).includes(gone) });
    seen.republished = await names();
    const tab = await visit.another();
    await open(tab.page, address(host));
    await ready(tab.page);
    seen.tab = { mine: await classes(tab, "zz mine"), gone: (await classes(tab, gone)).includes(gone) };
    await tab.page.close();
    await page.evaluate(() => document.querySelector("#undo").click());
    await until(page, ({ status }) => /taken back/.test(status));
    seen.undone = { ...(await names()), things: await things() };
    host.site = shards;
    await page.reload({ waitUntil: "domcontentloaded" });
    await ready(page);
    seen.answer = await give(visit);
    seen.shards = await classes(visit, "zz mine");
    await page.evaluate(() => {
      document.querySelector("#reset").click();
      document.querySelector("dialog[open] .primary").click();
    });
    await until(page, ({ status }) => /what was published/.test(status));
    seen.over = await classes(visit, "zz mine");
    await page.reload({ waitUntil: "domcontentloaded" });
    await ready(page);
    seen.end = await give(visit);
    await visit.close();
    host.close();
    return seen;
  },

  // Loads of the package that are aborted, and many at once.
  async loads(browser) {
    const host = await start(site, /extractor.*\.safetensors$/);
    host.headers = ISOLATED;
    host.bytesPerSecond = 200_000;
    const visit = await browser.page();
    await open(visit.page, `${host.address}precache.json`);
    const aborted = await visit.page.evaluate(async (base) => {
      const { Magpie } = await import(`${base}magpie.js`);
      const times = [];
      for (const wait of [0, 30, 400]) {
        const abort = new AbortController();
        const loading = Magpie.load(`${base}bundle/`, { backend: "cpu", signal: abort.signal });
        await new Promise((then) => setTimeout(then, wait));
        const start = performance.now();
        abort.abort();
        const name = await loading.then(
          () => "loaded",
          (error) => error.name,
        );
        times.push({ name, milliseconds: performance.now() - start });
      }
      return times;
    }, host.address);
    host.bytesPerSecond = null;
    const many = await visit.page.evaluate(async (base) => {
      const { Magpie } = await import(`${base}magpie.js`);
      let loaded = 0;
      for (let round = 0; round < 5; round += 1) {
        const all = [1, 2, 3].map(() => Magpie.load(`${base}bundle/`, { backend: "cpu", threads: 1 }));
        for (const magpie of await Promise.all(all)) {
          loaded += 1;
          magpie.dispose();
        }
      }
      return loaded;
    }, host.address);
    await visit.close();
    host.close();
    return { aborted, many };
  },
};

const browser = await openBrowser(which);
await playAll(scenarios, only, (scenario) => scenario(browser), () => browser.close());
