// How the page chooses its engine; prints what each scenario saw.
//
// node choice.mjs BROWSER SITE PICTURE [SCENARIO,…]
//   BROWSER  chromium or firefox; most scenarios need an adapter, which a headless Firefox has not
import { launchNamed } from "./browsers.mjs";
import { keepAnswers, settle, watch } from "./chromium.mjs";
import { ISOLATED, start } from "./host.mjs";
import { PATIENCE } from "./patience.mjs";
import { playAll } from "./scenarios.mjs";

const [which, site, picture, only] = process.argv.slice(2);
const browser = await launchNamed(which);
const host = await start(site, /never/);
host.headers = ISOLATED;

// The software adapter passes for a real one, and workers are counted.
const stub = () => {
  const request = globalThis.GPU?.prototype.requestAdapter;
  if (request) {
    GPU.prototype.requestAdapter = async function (...options) {
      const adapter = await request.apply(this, options);
      if (adapter) {
        const info = { vendor: "tested", architecture: "adapter", isFallbackAdapter: false };
        Object.defineProperty(adapter, "info", { value: info });
      }
      return adapter;
    };
  }
  window.workers = [];
  window.measures = 0;
  const Original = window.Worker;
  window.Worker = class extends Original {
    constructor(address, ...more) {
      super(address, ...more);
      this.kind = new URL(address, location.href).searchParams.get("engine");
      window.workers.push(this);
    }
    postMessage(data, ...more) {
      if (data?.Measure) window.measures += 1;
      super.postMessage(data, ...more);
    }
    terminate() {
      this.ended = true;
      super.terminate();
    }
  };
};

/** Code in front of an engine's worker, which changes what it says. */
const changing = (engine, code) => `if (new URL(self.location.href).searchParams.get("engine") === "${engine}") {
  const post = self.postMessage.bind(self);
  self.postMessage = (data, ...more) => { ${code}; return post(data, ...more); };
}\n`;
const FAST = changing("webgpu", "if (data?.Measured) data.Measured.milliseconds = data.Measured.milliseconds.map((t) => t / 1000)");

async function open(query = "?lang=en", context = null) {
  context ??= await browser.newContext({ viewport: { width: 1100, height: 900 } });
  const page = await context.newPage();
  const { problems } = watch(page);
  await page.addInitScript(stub);
  await keepAnswers(page);
  await page.goto(`${host.address}${query}`);
  await settle(page);
  return { page, context, problems };
}

const look = (page) =>
  page.evaluate(() => ({
    choice: document.querySelector("#choice").textContent,
    status: document.querySelector("#status").textContent,
    select: document.querySelector("#backend").value,
    started: window.workers.map(({ kind }) => kind),
    running: window.workers.filter(({ ended }) => !ended).map(({ kind }) => kind),
    kept: JSON.parse(Object.entries(localStorage).find(([key]) => key.startsWith("magpie-engine-"))?.[1] ?? "null"),
    threads: window.answers.at(-1)?.result.threads ?? null,
    labels: [...document.querySelectorAll("#answers h3 .label")].map((label) => label.textContent),
  }));

const measured = (page) =>
  page.waitForFunction(() => document.querySelector("#choice").textContent !== "", null, { timeout: PATIENCE });
const running = (page, kind) =>
  page.waitForFunction(
    (kind) => {
      const now = window.workers.filter(({ ended }) => !ended).map(({ kind }) => kind);
      return now.length === 1 && now[0] === kind && document.querySelector("#status").className === "done";
    },
    kind,
    { timeout: PATIENCE },
  );
async function give(page) {
  const before = await page.evaluate(() => window.answers.length);
  await page.locator("#file").setInputFiles(picture);
  await page.waitForFunction((before) => window.answers.length > before, before, { timeout: PATIENCE });
}

// A visit whose trial is over, and a picture of it.
async function afterTrial() {
  const { page, context } = await open();
  await measured(page);
  await give(page);
  const seen = await look(page);
  await context.close();
  return seen;
}

const scenarios = {
  // The software adapter is slower: the CPU stays, and the next visit knows.
  async slower() {
    const { page, context, problems } = await open();
    await measured(page);
    const first = await look(page);
    await page.reload();
    await settle(page);
    await page.waitForTimeout(4000);
    const second = await look(page);
    await page.evaluate(() => {
      document.querySelector("#inside").open = true;
    });
    await page.locator("#backend").selectOption("auto");
    await measured(page);
    const asked = await look(page);
    await context.close();
    return { first, second, asked, problems };
  },
  // Another browser, by its name, measures again.
  async other() {
    const context = await browser.newContext();
    await context.addInitScript(() => {
      const cost = { detect: 1, embed: 1 };
      const place = { agent: "another", threads: Math.min(navigator.hardwareConcurrency, 4), adapter: "tested adapter" };
      const choice = { version: 2, ...place, networks: "", backend: "webgpu", why: "faster", cpu: cost, webgpu: cost };
      const key = `magpie-engine-${location.origin}/bundle/manifest.json`;
      localStorage.setItem(key, localStorage.getItem(key) ?? JSON.stringify(choice));
    });
    const { page } = await open("?lang=en", context);
    const begun = await look(page);
    await page.waitForFunction(() => document.querySelector("#choice").textContent.includes("CPU is used"), null, {
      timeout: PATIENCE,
    });
    const seen = await look(page);
    await context.close();
    return { begun, seen };
  },
  // Networks that were published since are measured again, WebGPU on the engine that answers.
  async networks() {
    const context = await browser.newContext();
    await context.addInitScript(() => {
      const cost = { detect: 1e6, embed: 1e6 };
      const threads = crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, 4) : 1;
      const place = { agent: navigator.userAgent, threads, adapter: "tested adapter" };
      const choice = { version: 2, ...place, networks: "older", backend: "webgpu", why: "faster", cpu: cost, webgpu: cost };
      const key = `magpie-engine-${location.origin}/bundle/manifest.json`;
      localStorage.setItem(key, localStorage.getItem(key) ?? JSON.stringify(choice));
    });
    const { page } = await open("?lang=en", context);
    const begun = await look(page);
    await page.waitForFunction(
      () => !Object.values(localStorage).some((value) => value.includes('"older"')),
      null,
      { timeout: PATIENCE },
    );
    // The engine that was found to be faster answers at once.
    await running(page, "relaxed");
    const seen = await look(page);
    await context.close();
    return { begun, seen };
  },
  // Where long use of WebGPU ends a page, its answers are bounded.
  async bounds() {
    const iPhone = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 Safari/604.1";
    const bounds = [];
    for (const userAgent of [iPhone, undefined]) {
      const context = await browser.newContext({ userAgent });
      const { page } = await open("?lang=en&backend=cpu", context);
      bounds.push(await page.evaluate(() => window.magpie.mostAnswers ?? null));
      await context.close();
    }
    return { bounds };
  },
  // What the page takes of what a browser has kept.
  async kept() {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`${host.address}unable.js`);
    const seen = await page.evaluate(async () => {
      const { kept, chosen } = await import("/choice.js");
      const cost = { detect: 1, embed: 2 };
      const whole = {
        ...{ version: 2, agent: navigator.userAgent, threads: 3, adapter: "no such one", networks: "" },
        ...{ backend: "webgpu", why: "faster", cpu: cost, webgpu: cost },
      };
      const taken = (changes, threads = 3) => {
        localStorage.setItem("magpie-engine-x", JSON.stringify({ ...whole, ...changes }));
        return kept("x", threads) !== null;
      };
      const good = [
        taken({}),
        taken({ backend: "cpu", why: "slower", cpu: { detect: 0, embed: 0 } }),
        taken({ backend: "cpu", why: "failed", webgpu: null }),
        taken({ backend: "cpu", why: "slowed" }),
      ];
      const bad = [
        taken({ version: 1 }),
        taken({ agent: "another" }),
        taken({}, 2),
        taken({ why: "slower" }),
        taken({ backend: "cpu" }),
        taken({ why: "<b>" }),
        taken({ why: "toString" }),
        taken({ cpu: null }),
        taken({ webgpu: null }),
        taken({ cpu: { detect: -5, embed: 1 } }),
        taken({ cpu: { detect: 1e308, embed: 1e308 } }),
        taken({ cpu: { detect: "1", embed: 1 } }),
        taken({ cpu: { detect: 1 } }),
        taken({ cpu: { detect: null, embed: 1 } }),
      ];
      taken({});
      return { good, bad, otherAdapter: await chosen("x", 3) };
    });
    await context.close();
    return seen;
  },
  // Faster by its trial: the page changes over, and the next visit begins with it.
  async faster() {
    host.before["/worker.js"] = FAST;
    const { page, context, problems } = await open();
    await measured(page);
    await running(page, "webgpu");
    await give(page);
    const first = await look(page);
    await page.reload();
    await settle(page);
    const second = await look(page);
    // A bound on WebGPU's answers holds for a visit.
    await page.addInitScript(() => {
      if (!sessionStorage.getItem("bounded")) return;
      let magpie;
      const bound = (begun) => {
        begun.mostAnswers = 2;
        magpie = begun;
      };
      Object.defineProperty(window, "magpie", { get: () => magpie, set: bound });
    });
    await page.evaluate(() => sessionStorage.setItem("bounded", "yes"));
    await page.reload();
    await settle(page);
    for (let count = 0; count < 3; count += 1) await give(page);
    const bounded = await look(page);
    // What the CPU took in the trial is far less from now on.
    await page.evaluate(() => {
      sessionStorage.removeItem("bounded");
      const [key, value] = Object.entries(localStorage).find(([key]) => key.startsWith("magpie-engine-"));
      localStorage.setItem(key, JSON.stringify({ ...JSON.parse(value), cpu: { detect: 0.1, embed: 0.1 } }));
    });
    await page.reload();
    await settle(page);
    for (let count = 0; count < 15; count += 1) await give(page);
    const before = await look(page);
    await give(page);
    const after = await look(page);
    await context.close();
    return { first, second, bounded, before, after, problems };
  },
  // Another answer than the CPU's is no answer, however fast it comes.
  async differs() {
    host.before["/worker.js"] =
      FAST + changing("webgpu", "if (data?.Embedded) data.Embedded.embedding = data.Embedded.embedding.map((x, i, all) => all.at(i - 1))");
    return afterTrial();
  },
  async fails() {
    const fails = 'if (data === "Started") return setTimeout(() => { throw new Error("no shaders here"); })';
    host.before["/worker.js"] = changing("webgpu", fails);
    const begun = performance.now();
    return { ...(await afterTrial()), seconds: (performance.now() - begun) / 1000 };
  },
  // An answer that cannot be posted ends a trial as a failure does.
  async unposted() {
    const refuse = 'if (data?.Embedded) throw new DOMException("it could not be cloned", "DataCloneError")';
    host.before["/worker.js"] = changing("webgpu", refuse);
    const begun = performance.now();
    return { ...(await afterTrial()), seconds: (performance.now() - begun) / 1000 };
  },
  // A picture in the middle of a trial is answered at once, and the trial comes later.
  async disturbed() {
    const { page, context, problems } = await open();
    // The page's own engine is measured.
    await page.waitForFunction(() => window.measures > 0, null, { timeout: PATIENCE });
    await give(page);
    const early = await look(page);
    // WebGPU is.
    await page.waitForFunction(() => window.workers.at(-1).kind === "webgpu", null, { timeout: PATIENCE });
    await page.waitForTimeout(100);
    await give(page);
    const seen = await look(page);
    await measured(page);
    const later = await look(page);
    await context.close();
    return { early, seen, later, problems };
  },
  // Without an adapter there is nothing to choose from.
  async none() {
    const { page, context, problems } = await open();
    await give(page);
    await page.waitForTimeout(3000);
    const seen = await look(page);
    await context.close();
    return { ...seen, problems };
  },
  // An engine that has come to hold much memory is replaced before the next picture.
  async renewed() {
    const grow = "if (data?.Recognized && ++answers === 2) data.Recognized.result.memory += 200e6";
    const changed = ["cpu", "relaxed"].map((engine) => changing(engine, grow));
    host.before["/worker.js"] = `let answers = 0;\n${changed.join("")}`;
    const { page, context } = await open("?lang=en&backend=cpu");
    for (let count = 0; count < 2; count += 1) await give(page);
    const before = await look(page);
    await give(page);
    const after = await look(page);
    await context.close();
    return { before, after };
  },
  // The package: CPU at first, measured while nothing is asked, WebGPU from the next load on.
  async package() {
    host.before["/worker.js"] = FAST;
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.addInitScript(stub);
    await page.goto(`${host.address}unable.js`);
    const seen = await page.evaluate(async () => {
      const { Magpie } = await import("/magpie.js");
      const first = await Magpie.load("/bundle/");
      const begun = first.backend;
      const key = () => Object.keys(localStorage).find((key) => key.startsWith("magpie-engine-"));
      for (let wait = 0; wait < 600 && !key(); wait += 1) await new Promise((then) => setTimeout(then, 100));
      first.dispose();
      const second = await Magpie.load("/bundle/");
      const later = second.backend;
      second.dispose();
      const third = await Magpie.load("/bundle/");
      third.dispose();
      await new Promise((then) => setTimeout(then, 4000));
      const started = window.workers.map(({ kind }) => kind);
      return { begun, later, started, running: window.workers.filter(({ ended }) => !ended).length };
    });
    await context.close();
    return seen;
  },
};

const play = (scenario) => {
  host.before = {};
  return scenario().catch((error) => ({ failure: String(error) }));
};
await playAll(scenarios, only, play, () => browser.close());
