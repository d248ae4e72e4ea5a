// What comes late, stops, or is wanted at another moment than a page expects, and sites that share an origin; prints
// what a visitor saw as JSON.
//
// node order.mjs BROWSER SITE NEXT PICTURE OTHER [SCENARIO,…]
//   BROWSER  chromium or firefox
//   SITE     folder of the site; NEXT lies beside it in one scenario
//   PICTURE  with several things on it; OTHER has other ones
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { open as openBrowser } from "./browsers.mjs";
import { start } from "./host.mjs";
import { PATIENCE } from "./patience.mjs";
import { playAll } from "./scenarios.mjs";

const [which, site, next, picture, other, only] = process.argv.slice(2);
const sleep = (ms) => new Promise((then) => setTimeout(then, ms));

// Engines are counted, can be stopped, and can be slow to hear of a picture; files named `slow` are read slowly.
const STUB = `{
  const Original = Worker;
  window.engines = [];
  window.answered = 0;
  window.slow = 0;
  window.Worker = class extends Original {
    constructor(...all) {
      super(...all);
      engines.push(this);
      this.addEventListener("message", ({ data }) => { if (data?.Recognized) window.answered += 1; });
    }
    postMessage(message, ...more) {
      if (!message?.Recognize || !window.slow) return super.postMessage(message, ...more);
      setTimeout(() => super.postMessage(message, ...more), window.slow);
    }
  };
  window.stop = () => engines.at(-1).dispatchEvent(new ErrorEvent("error", { message: "it broke", cancelable: true }));
  const { createObjectURL, revokeObjectURL } = URL;
  window.urls = new Set();
  URL.createObjectURL = (blob) => { const url = createObjectURL(blob); urls.add(url); return url; };
  URL.revokeObjectURL = (url) => { urls.delete(url); revokeObjectURL(url); };
  const { arrayBuffer } = Blob.prototype;
  Blob.prototype.arrayBuffer = function () {
    const read = arrayBuffer.call(this);
    return this.name?.startsWith("slow") ? new Promise((then) => setTimeout(then, 1200, read)) : read;
  };
}`;

const look = (page) =>
  page.evaluate(() => {
    const text = (selector) => document.querySelector(selector)?.textContent ?? null;
    return {
      status: text("#status"),
      unable: document.querySelector("#unable").hidden ? null : text("#unable"),
      state: document.querySelector("#status").className,
      words: text("#own-words"),
      labels: [...document.querySelectorAll("#answers h3 .label")].map((label) => label.textContent),
      least: document.querySelector("#min-similarity").value,
      lang: document.documentElement.lang,
    };
  });

async function until(page, test, patience = 30_000) {
  const end = Date.now() + patience;
  for (;;) {
    const seen = await look(page).catch(() => null);
    if (seen && test(seen)) return seen;
    if (Date.now() > end) return { ...seen, late: true };
    await sleep(50);
  }
}

// Firefox's driver has another way of waiting, which the page's policy forbids.
async function holds(page, test, patience = PATIENCE) {
  const end = Date.now() + patience;
  while (!(await page.evaluate(test).catch(() => false)) && Date.now() < end) await sleep(50);
}

const settled = ({ state, unable }) => /done|failed/.test(state) || unable !== null;
const saying = (page, words) => until(page, ({ status }) => status.includes(words));

async function open(browser, host, more = "") {
  const visit = await browser.page(STUB);
  await visit.page.goto(`${host.address}?backend=cpu&lang=en${more}`, { waitUntil: "domcontentloaded" });
  await until(visit.page, settled);
  return visit;
}

async function give({ page, upload }, file) {
  const before = await page.evaluate(() => window.answered);
  await upload(file);
  await holds(page, `window.answered > ${before} || document.querySelector("#status").className === "failed"`);
  await sleep(150);
  return look(page);
}

const press = (page, selector) => page.evaluate((selector) => document.querySelector(selector).click(), selector);

async function write({ page }, name) {
  await holds(page, () => Boolean(document.querySelector(".correction button:not([hidden])")));
  await press(page, ".correction button:not([hidden])");
  await page.evaluate(() => document.querySelector(".teach input").focus());
  await page.keyboard.type(name);
}

async function teach(visit, name) {
  await write(visit, name);
  await visit.page.keyboard.press("Enter");
  return saying(visit.page, name);
}

async function mark(page) {
  await press(page, "#mark");
  await press(page, "#look");
  return saying(page, "What you marked");
}

const tune = (page, value) =>
  page.evaluate((value) => {
    const slider = document.querySelector("#min-similarity");
    slider.value = value;
    for (const name of ["input", "change"]) slider.dispatchEvent(new Event(name, { bubbles: true }));
  }, value);

const speak = (page, code) =>
  page.evaluate((code) => {
    const select = document.querySelector("#language");
    select.value = code;
    select.dispatchEvent(new Event("change", { bubbles: true }));
  }, code);

const form = (page) =>
  page.evaluate(() => {
    const input = document.querySelector(".teach input");
    return input && { written: input.value, here: document.activeElement === input, forms: document.querySelectorAll(".teach").length };
  });

const scenarios = {
  // Pictures that come later than newer ones.
  async late(browser) {
    const host = await start(site, /samples\/1\.jpg$/);
    const folder = mkdtempSync(join(tmpdir(), "magpie-order-"));
    const slow = join(folder, "slow.jpg");
    copyFileSync(picture, slow);
    const seen = {};
    const visit = await open(browser, host);
    const right = await give(visit, other);
    // A sample on a slow line.
    await holds(visit.page, () => document.querySelectorAll("#samples img").length > 0);
    await sleep(500);
    const asked = host.asked.length;
    host.bytesPerSecond = 20_000;
    await press(visit.page, "#samples button");
    for (let tries = 0; host.asked.length === asked && tries < 100; tries += 1) await sleep(50);
    seen.asked = host.asked.length - asked;
    await give(visit, other);
    await sleep((1000 * host.asked.at(-1).bytes) / 20_000 + 1000);
    seen.sample = await look(visit.page);
    // A file that is read slowly.
    await visit.upload(slow);
    await give(visit, other);
    await sleep(1800);
    seen.file = await look(visit.page);
    await visit.close();
    // The picture of the page's address.
    const addressed = await open(browser, host, "&image=samples/1.jpg");
    await give(addressed, other);
    await sleep((1000 * host.asked.at(-1).bytes) / 20_000 + 1000);
    seen.address = await look(addressed.page);
    await addressed.close();
    host.close();
    rmSync(folder, { recursive: true });
    return { right, ...seen };
  },

  // An engine that stops while a picture is shown.
  async stopped(browser) {
    const host = await start(site, /^$/);
    const visit = await open(browser, host);
    const { page } = visit;
    const before = await give(visit, picture);
    await write(visit, "half a na");
    await page.evaluate(() => window.stop());
    const again = await until(page, ({ status, labels }) => status.includes("started again") && labels.length > 0);
    await sleep(1500);
    const after = await look(page);
    const half = await form(page);
    const marked = await mark(page);
    await page.evaluate(() => document.querySelector(".teach input")?.form.querySelector(".cancel").click());
    const taught = await teach(visit, "my own thing");
    // A new picture is answered: the next stop is the first again.
    await give(visit, picture);
    await tune(page, 1);
    const strict = await until(page, ({ status }) => status.includes(" 0 recognized"));
    await page.evaluate(() => window.stop());
    await saying(page, "started again");
    await sleep(1500);
    const held = await look(page);
    const next = await give(visit, picture);
    await visit.close();
    host.close();
    return { before, again, after, half, marked, taught, strict, held, next };
  },

  // Another language while a name is written, and two choices of which the first comes last.
  async language(browser) {
    const host = await start(site, /text\/zh\.json$/);
    const visit = await open(browser, host);
    const { page } = visit;
    await give(visit, picture);
    await write(visit, "half a na");
    const before = await look(page);
    await speak(page, "zh");
    const chinese = await until(page, ({ lang }) => lang === "zh");
    await sleep(500);
    const half = await form(page);
    const told = await look(page);
    await speak(page, "en");
    await until(page, ({ lang }) => lang === "en");
    await sleep(300);
    const back = await look(page);
    // What was sent is not kept in its form.
    await page.evaluate(() => document.querySelector(".teach input").focus());
    await page.keyboard.press("Enter");
    const taught = await saying(page, "half a na");
    await sleep(300);
    const forms = await form(page);
    host.bytesPerSecond = 20_000;
    await speak(page, "zh");
    await speak(page, "en");
    await sleep((1000 * host.asked.at(-1).bytes) / 20_000 + 1000);
    const last = await look(page);
    await visit.close();
    host.close();
    return { before, chinese, half, told, back, taught, forms, last };
  },

  // Things that are wanted while something else is under way.
  async busy(browser) {
    const host = await start(site, /^$/);
    const visit = await open(browser, host);
    const { page } = visit;
    await page.evaluate(() => {
      window.slow = 1200;
    });
    await visit.upload(picture);
    await holds(page, () => !document.querySelector("#stage").hidden);
    await press(page, "#mark");
    await press(page, "#look");
    const meanwhile = await look(page);
    const marked = await saying(page, "What you marked");
    await page.evaluate(() => {
      window.slow = 0;
    });
    await teach(visit, "my own thing");
    await page.evaluate(() => {
      document.querySelector("#gallery-panel").open = true;
      const undo = document.querySelector("#undo");
      undo.click();
      undo.click();
    });
    await saying(page, "taken back");
    await sleep(700);
    const undone = await look(page);
    await visit.close();
    host.close();
    return { meanwhile, marked, undone };
  },

  // What a gallery says about a class: text in the owner's order, and addresses as links; and a thumbnail that is none.
  async facts(browser) {
    const host = await start(site, /^$/);
    const visit = await open(browser, host);
    await visit.page.evaluate(() => {
      const facts = [["shelf", "2"], ["<b>price</b>", "<i>1</i>"], ["about", "https://a.example/"]];
      const change = (event) => {
        for (const { answers } of event.data?.Recognized?.result.objects ?? []) {
          Object.assign(answers[0], { metadata: facts, thumbnail: new Uint8Array([1, 2, 3]) });
        }
      };
      for (const engine of window.engines) {
        const { onmessage } = engine;
        engine.onmessage = (event) => {
          change(event);
          onmessage.call(engine, event);
        };
      }
      // An engine that takes over answers, too: it is heard here before the page hears it.
      window.engines.push = (engine) => {
        engine.addEventListener("message", change);
        return Array.prototype.push.call(window.engines, engine);
      };
    });
    await give(visit, picture);
    await holds(visit.page, () => document.querySelector("#answers .facts a") && window.urls.size === 0, 3000);
    const seen = await visit.page.evaluate(() => {
      const [list] = document.querySelectorAll("#answers .facts");
      const link = list.querySelector("a");
      return {
        texts: [...list.children].map((entry) => entry.textContent),
        link: [link.href, link.rel],
        markup: list.querySelectorAll("b, i").length,
        thumbnails: document.querySelectorAll("#answers .thumbnail").length,
        urls: window.urls.size,
      };
    });
    await visit.close();
    host.close();
    return seen;
  },

  // A panic in the engine while it reads a message, and while it waits for something.
  async panics(browser) {
    // Bytes whose length no memory has room for.
    const long = "(bytes) => Object.defineProperty(bytes, 'length', { value: 2 ** 31 })";
    const before = {
      message: `self.addEventListener("message", ({ data }) => {
        const bytes = data?.Recognize?.picture.Encoded;
        if (bytes) (${long})(bytes);
      });\n`,
      task: `{
        const { subarray } = Uint8Array.prototype;
        const { read } = ReadableStreamDefaultReader.prototype;
        ReadableStreamDefaultReader.prototype.read = async function () {
          const part = await read.call(this);
          if (part.value) part.value.subarray = (...all) => (${long})(subarray.apply(part.value, all));
          return part;
        };
      }\n`,
    };
    const seen = {};
    for (const [name, code] of Object.entries(before)) {
      const host = await start(site, /^$/);
      host.before["/worker.js"] = code;
      const visit = await open(browser, host);
      if (name === "message") await visit.upload(picture);
      seen[name] = await until(visit.page, ({ state }) => state === "failed");
      await visit.close();
      host.close();
    }
    // In the page itself.
    const host = await start(site, /^$/);
    const visit = await open(browser, host);
    await visit.page.evaluate(() => document.querySelector("#timings").remove());
    await visit.upload(picture);
    await holds(visit.page, () => !document.querySelector("#unable").hidden);
    seen.page = await visit.page.evaluate(() => document.querySelector("#unable").textContent);
    await visit.close();
    host.close();
    return seen;
  },

  // Two sites of one origin: nothing of what one keeps is the other's.
  async sites(browser) {
    const host = await start(site, /^$/);
    host.sites = { "/one/": site, "/two/": next };
    const visit = await browser.page(STUB);
    const { page } = visit;
    const open = async (place, more = "?backend=cpu") => {
      await page.goto(`${host.address}${place}/${more}`, { waitUntil: "domcontentloaded" });
      await until(page, settled);
    };
    const kept = () =>
      page.evaluate(async () => {
        const folder = await navigator.storage.getDirectory();
        const files = [];
        for await (const [name, handle] of folder.entries()) {
          if (handle.kind === "file") files.push([name, (await handle.getFile()).size]);
        }
        const caches_ = {};
        for (const name of await caches.keys()) {
          const keys = await (await caches.open(name)).keys();
          caches_[name] = [...new Set(keys.map(({ url }) => new URL(url).pathname.split("/")[1]))];
        }
        const scopes = (await navigator.serviceWorker.getRegistrations()).map(({ scope }) => new URL(scope).pathname);
        return { files: Object.fromEntries(files), caches: caches_, entries: { ...localStorage }, scopes };
      });
    const offline = () => holds(page, () => document.querySelector("#offline").textContent !== "");
    const labels = async () => (await give(visit, picture)).labels;
    const seen = {};
    await open("one");
    seen.first = await page.evaluate(() => document.documentElement.lang);
    await speak(page, "zh");
    await until(page, ({ lang }) => lang === "zh");
    // The page says everything anew.
    await sleep(300);
    await give(visit, picture);
    await teach(visit, "of the first");
    await offline();
    seen.one = await kept();
    await open("two");
    seen.lang = (await look(page)).lang;
    seen.fresh = await labels();
    await teach(visit, "of the second");
    await offline();
    seen.both = await kept();
    // Whoever starts over in one changes nothing in the other.
    await page.evaluate(() => {
      document.querySelector("#gallery-panel").open = true;
      document.querySelector("#reset").click();
      document.querySelector("dialog[open] .primary").click();
    });
    await saying(page, "what was published");
    seen.reset = await kept();
    host.gone = true;
    await open("two");
    seen.second = await labels();
    await open("one");
    seen.back = { lang: (await look(page)).lang, labels: await labels() };
    host.gone = false;
    // A choice that was kept without a site counts until there is one.
    await page.evaluate(() => {
      localStorage.clear();
      localStorage.setItem("magpie-language", "zh");
    });
    await open("two");
    seen.old = (await look(page)).lang;
    await page.evaluate(() => localStorage.setItem("magpie-language", "en"));
    await open("two");
    seen.own = (await look(page)).lang;
    await visit.close();
    host.close();
    return seen;
  },
};

const browser = await openBrowser(which);
await playAll(scenarios, only, (scenario) => scenario(browser), () => browser.close());
