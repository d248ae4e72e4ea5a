// What else a visitor does on a published page, one feature a run; prints what was seen as JSON.
//
// node features.mjs ADDRESS SCREENSHOT_FOLDER FEATURE PICTURE
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { give, keepAnswers, launch, saying, settle, watch } from "./chromium.mjs";
import { PATIENCE } from "./patience.mjs";

const [address, screenshots, feature, picture] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let browser = await launch();

async function open(path = "?backend=cpu", options = {}) {
  const context = await browser.newContext({
    viewport: { width: 1100, height: 900 },
    reducedMotion: "reduce",
    ...options,
  });
  const page = await context.newPage();
  const seen = watch(page);
  await keepAnswers(page);
  await page.goto(address + path);
  await settle(page);
  return { page, context, ...seen };
}

const text = (page, selector) => page.locator(selector).first().textContent();
const texts = (page, selector) => page.locator(selector).allTextContents();
const shot = (page, name) =>
  page.screenshot({ path: `${screenshots}/${name}.png`, fullPage: true });

// What axe-core finds serious; it is put in by the browser's own console, past the page's policy.
async function audit(page) {
  await page.evaluate(axe);
  const { violations, passes } = await page.evaluate(() => window.axe.run(document));
  return {
    passed: passes.length,
    serious: violations
      .filter(({ impact }) => ["serious", "critical"].includes(impact))
      .map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" | ")}`),
    all: violations.map(({ id }) => id),
  };
}

const features = {
  // Every state of the page that has its own looks, light and dark.
  async accessible() {
    const { page, problems } = await open("?backend=cpu&lang=en");
    const found = { before: await audit(page) };
    await give(page, picture);
    for (const panel of ["#gallery-panel", "#inside"]) await page.locator(`${panel} summary`).click();
    await page.locator("#edit").click();
    await page.locator("#alike").click();
    await page.waitForSelector("#alike-classes p");
    await page.waitForSelector("#crops img");
    await page.locator(".correction button").first().click();
    found.light = await audit(page);
    await page.emulateMedia({ colorScheme: "dark" });
    found.dark = await audit(page);
    await page.setViewportSize({ width: 320, height: 700 });
    found.narrow = await audit(page);
    const overflow = await page.evaluate(
      () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
    );
    await shot(page, "accessible-320");
    await page.goto(`${address}bench/`);
    await page.waitForSelector("[data-ready]");
    found.bench = await audit(page);
    return { found, overflow, problems };
  },

  // The same visit in both languages; the choice is kept.
  async languages() {
    const { page, problems, origins } = await open("?backend=cpu&lang=zh");
    await give(page, picture);
    const seen = {
      lang: await page.evaluate(() => document.documentElement.lang),
      prompt: await text(page, ".prompt"),
      status: await text(page, "#status"),
      timings: await text(page, "#timings"),
      samples: await page.locator("#samples button").first().getAttribute("aria-label"),
    };
    await shot(page, "languages-zh");
    await page.locator("#language").selectOption("en");
    await page.waitForFunction(() => document.documentElement.lang === "en");
    const english = {
      prompt: await text(page, ".prompt"),
      status: await text(page, "#status"),
      timings: await text(page, "#timings"),
      cards: await page.locator("#answers .card").count(),
      samples: await page.locator("#samples button").first().getAttribute("aria-label"),
    };
    await page.locator("#language").selectOption("zh");
    await page.waitForFunction(() => document.documentElement.lang === "zh");
    await page.goto(`${address}?backend=cpu`);
    await settle(page);
    const again = await page.evaluate(() => document.documentElement.lang);
    await page.goto(`${address}bench/`);
    await page.waitForSelector("[data-ready]");
    const bench = await text(page, "h1");
    const elsewhere = await open("?backend=cpu", { locale: "zh-CN" });
    const browserChose = await elsewhere.page.evaluate(() => document.documentElement.lang);
    return { chinese: seen, english, again, bench, browserChose, problems, origins: [...origins] };
  },

  // The picture that the address names; addresses that are pasted; other sites are not asked.
  async addresses() {
    const { page, problems, origins } = await open("?backend=cpu&image=samples/1.jpg");
    await page.waitForSelector("#answers .card", { timeout: PATIENCE });
    const named = await texts(page, "#answers h3 .label");
    const paste = (words) =>
      page.evaluate((words) => {
        const data = new DataTransfer();
        data.setData("text/plain", words);
        const options = { clipboardData: data, bubbles: true, cancelable: true };
        document.dispatchEvent(new ClipboardEvent("paste", options));
      }, words);
    const before = await page.evaluate(() => window.answers.length);
    await paste(`${address}samples/2.jpg`);
    await page.waitForFunction((before) => window.answers.length > before, before);
    await paste("https://pictures.example/cat.jpg");
    await saying(page, "no other site");
    const other = await text(page, "#status");
    await paste("just a sentence about nothing");
    const kept = await text(page, "#status");
    const away = await open("?backend=cpu&image=https://pictures.example/cat.jpg");
    await saying(away.page, "no other site");
    const all = [...problems, ...away.problems];
    return { named, other, kept, problems: all, origins: [...origins, ...away.origins] };
  },

  // Thresholds, by keyboard, and what the network was given.
  async inside() {
    const { page, problems, origins } = await open();
    await give(page, picture);
    const first = await text(page, "#status");
    await page.locator("#inside summary").focus();
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => {
      const count = (selector) => document.querySelectorAll(selector).length;
      return count("#crops li") > 0 && count("#crops img") === count("#crops li");
    });
    const crops = await page.evaluate(() =>
      Promise.all(
        [...document.querySelectorAll("#crops img")].map(async (image) => {
          await image.decode();
          return [image.naturalWidth, image.naturalHeight, image.alt];
        }),
      ),
    );
    const nearest = await texts(page, "#crops .near");
    await page.locator("#min-similarity").focus();
    await page.keyboard.press("End");
    await saying(page, "0 recognized");
    const strict = await text(page, "#status");
    await page.locator("#min-similarity").focus();
    await page.keyboard.press("Home");
    await saying(page, "3 recognized");
    const lax = await text(page, "#status");
    await page.locator("#min-score").focus();
    await page.keyboard.press("Home");
    await page.waitForFunction(() => document.querySelectorAll("#answers .card").length > 3);
    const many = await page.locator("#answers .card").count();
    await shot(page, "inside");
    await page.locator("#as-published").click();
    await saying(page, first);
    const back = await page.locator("#as-published").isDisabled();
    // A box leads to its card.
    await page.locator("#boxes .box").last().click();
    const focused = await page.evaluate(() => document.activeElement.className);
    await page.locator("#gallery-panel summary").click();
    await page.locator("#edit").click();
    await page.locator("#alike").click();
    await page.waitForSelector("#alike-classes li");
    const alike = await texts(page, "#alike-classes li");
    return {
      first, crops, nearest, strict, lax, many, back, focused, alike, problems,
      origins: [...origins],
    };
  },

  // Two tabs teach at once: both lessons stay.
  async tabs() {
    const one = await open();
    const other = await one.context.newPage();
    const { problems } = watch(other);
    await keepAnswers(other);
    await other.goto(`${address}?backend=cpu`);
    await settle(other);
    for (const [index, [page, name]] of [[one.page, "first thing"], [other, "second thing"]].entries()) {
      await give(page, picture);
      // Not the same object: of one lesson under two names, one goes when galleries meet.
      await page.locator(".correction button").nth(index).click();
      await page.keyboard.type(name);
      await page.keyboard.press("Enter");
      await saying(page, "Learned");
    }
    await one.page.reload();
    await settle(one.page);
    await one.page.locator("#gallery-panel summary").click();
    const found = {};
    for (const name of ["first thing", "second thing"]) {
      await one.page.locator("#class-search").fill(name);
      // The answer to the last search may still stand there.
      await one.page.waitForFunction((name) => {
        const shown = [...document.querySelectorAll("#classes .name")];
        return shown.length === 1 && shown[0].textContent === name;
      }, name);
      found[name] = await texts(one.page, "#classes .name");
    }
    return { found, problems: [...one.problems, ...problems] };
  },

  // One name however it is typed: composed or not, in capitals, with blanks.
  async spelled() {
    const { page, problems } = await open();
    await give(page, picture);
    const said = [];
    const name = "Crème Kiwi";
    const typed = [name, name.normalize("NFD"), name.toLowerCase(), ` ${name.toUpperCase().replace(" ", "  ")} `];
    for (const spelling of typed) {
      await page.locator(".correction button").first().click();
      await page.locator(".teach input").fill(spelling);
      await page.locator(".teach [type=submit]").click();
      await page.waitForSelector(".teach", { state: "detached" });
      await saying(page, "Learned");
      said.push(await text(page, "#status"));
    }
    await page.locator("#gallery-panel summary").click();
    await page.locator("#class-search").fill("kiwi");
    await page.waitForFunction(() =>
      [...document.querySelectorAll("#classes .name")].every((name) => /kiwi/i.test(name.textContent)),
    );
    return { said, classes: await texts(page, "#classes .name"), problems };
  },

  // A browser whose storage is full says so, and what was taught still works.
  async full() {
    const { page, context, problems } = await open();
    const devtools = await context.newCDPSession(page);
    const origin = new URL(address).origin;
    await devtools.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: 1000 });
    await give(page, picture);
    await page.locator(".correction button").first().click();
    await page.keyboard.type("a thing");
    await page.keyboard.press("Enter");
    await saying(page, "Learned");
    return {
      first: await text(page, "#answers h3 .label"),
      kept: await text(page, "#kept"),
      problems,
    };
  },

  // A camera that shows the picture's things moving.
  async camera() {
    const drawing = await (await browser.newContext()).newPage();
    const frames = await drawing.evaluate(async (bytes) => {
      const bitmap = await createImageBitmap(new Blob([new Uint8Array(bytes)]));
      const canvas = new OffscreenCanvas(640, 480);
      const context = canvas.getContext("2d");
      const frames = [];
      for (let step = 0; step < 30; step += 1) {
        context.fillStyle = "#777";
        context.fillRect(0, 0, 640, 480);
        const way = 10 * (step < 15 ? step : 30 - step);
        context.drawImage(bitmap, 20 + way, 40, 400, 400);
        const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 });
        frames.push([...new Uint8Array(await blob.arrayBuffer())]);
      }
      return frames;
    }, [...readFileSync(picture)]);
    const film = join(tmpdir(), `magpie-camera-${process.pid}.mjpeg`);
    writeFileSync(film, Buffer.concat(frames.map((frame) => Buffer.from(frame))));
    await browser.close();
    browser = await launch([
      "--use-fake-ui-for-media-stream",
      "--use-fake-device-for-media-stream",
      `--use-file-for-fake-video-capture=${film}`,
    ]);
    const { page, problems, origins } = await open();
    await page.locator("#camera").focus();
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => window.answers.length >= 12, null, { timeout: PATIENCE });
    await page.waitForTimeout(100);
    const running = {
      boxes: await page.locator("#boxes .box").count(),
      labels: await texts(page, "#answers h3 .label"),
      turn: await page.locator("#turn").isVisible(),
      torch: await page.locator("#torch").isVisible(),
    };
    await shot(page, "camera");
    const lefts = await page.evaluate(() =>
      window.answers.map(({ result }) => Math.round(result.objects[0]?.bbox[0] ?? -1)),
    );
    const work = await page.evaluate(() => {
      const sum = (values) => values.reduce((all, value) => all + value, 0);
      const results = window.answers.map(({ result }) => result);
      return {
        objects: sum(results.map(({ objects }) => objects.length)),
        embedded: sum(results.map(({ embedded }) => embedded)),
      };
    });
    await page.locator("#camera").click();
    await saying(page, "Ready");
    const stopped = await page.evaluate(() => document.querySelector("#video").srcObject);
    // A frame that is under way is answered; a camera that films on never rests.
    let [quiet, still] = [-1, 0];
    for (let tries = 0; quiet !== still && tries < 8; tries += 1) {
      quiet = await page.evaluate(() => window.answers.length);
      await page.waitForTimeout(700);
      still = await page.evaluate(() => window.answers.length);
    }
    return {
      running, lefts, work, stopped, ended: quiet === still, problems, origins: [...origins],
    };
  },

  // Two cameras to turn between, and a visitor who allows none.
  async cameras() {
    await browser.close();
    browser = await launch([
      "--use-fake-ui-for-media-stream",
      "--use-fake-device-for-media-stream=device-count=2",
    ]);
    const { page, problems } = await open();
    const answered = async (more) => {
      const before = await page.evaluate(() => window.answers.length);
      await page.waitForFunction(
        ([before, more]) => window.answers.length >= before + more,
        [before, more],
        { timeout: PATIENCE },
      );
    };
    await page.locator("#camera").click();
    await answered(3);
    await page.locator("#turn").click();
    await answered(3);
    const both = await page.locator("#turn").isVisible();
    await page.locator("#camera").click();
    const hidden = await page.locator("#turn").isHidden();
    await browser.close();
    browser = await launch();
    const none = await open();
    await none.page.locator("#camera").click();
    await saying(none.page, "camera cannot be used");
    return { both, hidden, problems: [...problems, ...none.problems] };
  },

  // Engines that stop: once, in the middle of a picture, again and again, and with the graphics device.
  async recovers() {
    const labels = (page) => texts(page, "#answers h3 .label");
    const { page, problems } = await open("?backend=cpu&lang=en");
    await give(page, picture);
    const before = await labels(page);
    // An engine's own thread, as a trap ends it.
    const stop = async () => {
      const engine = page.workers().findLast((worker) => /worker\.js/.test(worker.url()));
      await engine.evaluate(() => {
        setTimeout(() => {
          throw new Error("memory access out of bounds");
        });
      });
    };
    // The next engine is given the picture that is shown, and the page says what happened.
    const answered = async (before) => {
      await page.waitForFunction((before) => window.answers.length > before, before);
      await page.waitForTimeout(200);
    };
    const first = await page.evaluate(() => window.answers.length);
    await stop();
    await saying(page, "started again");
    await answered(first);
    const again = { labels: await labels(page), status: await text(page, "#status") };
    await give(page, picture);
    const idle = await labels(page);
    // The answer comes by itself, from the next engine.
    const answers = await page.evaluate(() => window.answers.length);
    await page.evaluate(() => {
      // The engine does not hear of this picture: as if it had died of it.
      const { postMessage } = Worker.prototype;
      Worker.prototype.postMessage = function (message, ...rest) {
        if (message.Recognize) Worker.prototype.postMessage = postMessage;
        else postMessage.call(this, message, ...rest);
      };
    });
    await page.locator("#file").setInputFiles(picture);
    await saying(page, "Looking");
    await stop();
    await answered(answers);
    const busy = await labels(page);
    // Each engine is stopped before it answers: the same one again, then the plain one.
    const failed = () => document.querySelector("#status").className === "failed";
    for (let time = 0; time < 6 && !(await page.evaluate(failed)); time += 1) {
      const isEngine = (worker) => /worker\.js/.test(worker.url());
      const next = page.waitForEvent("worker", { predicate: isEngine }).catch(() => {});
      const end = page.waitForFunction(failed).catch(() => {});
      await stop();
      await Promise.race([next, end]);
    }
    await page.waitForFunction(failed);
    const end = await text(page, "#status");

    const graphics = await open("?backend=webgpu&lang=en");
    const browserWide = await browser.newBrowserCDPSession();
    // The adapter comes back, so that the page tries it a second time.
    for (let time = 0; time < 2; time += 1) {
      await browserWide.send("Browser.crashGpuProcess").catch(() => {});
      await graphics.page.waitForFunction(() => document.querySelector("#status").className === "busy", null, {
        timeout: PATIENCE,
      });
      await settle(graphics.page);
    }
    const status = await text(graphics.page, "#status");
    await give(graphics.page, picture);
    return {
      before,
      again,
      idle,
      busy,
      end,
      graphics: {
        status,
        engine: await graphics.page.locator("#backend").inputValue(),
        timings: await text(graphics.page, "#timings"),
        labels: await labels(graphics.page),
      },
      problems: problems.filter((problem) => !problem.includes("out of bounds")),
      graphicsProblems: graphics.problems,
    };
  },
};

const result = await features[feature]();
console.log(JSON.stringify(result));
await browser.close();
