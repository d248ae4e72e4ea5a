// How the page looks, empty and full, on a phone, a tablet and a desktop, light and dark; prints what it measured.
//
// node looks.mjs BROWSER ADDRESS SCREENSHOT_FOLDER PICTURE
//   BROWSER  chromium or firefox, which has neither a dark scheme nor fingers here
//   PICTURE  with several things on it
import { launchNamed } from "./browsers.mjs";
import { give, keepAnswers, saying, settle, watch } from "./chromium.mjs";

const [which, address, screenshots, picture] = process.argv.slice(2);
const LONG = "Wxyz0".repeat(40);
const WIDTHS = [390, 768, 1440];
const browser = await launchNamed(which);
const problems = [];

async function open(options = {}) {
  const context = await browser.newContext({
    viewport: { width: 1440, height: 900 },
    reducedMotion: "reduce",
    ...options,
  });
  const page = await context.newPage();
  problems.push(watch(page).problems);
  await keepAnswers(page);
  await page.goto(`${address}?backend=cpu&lang=en`);
  await settle(page);
  await page.waitForSelector("#examples li", { state: "attached" });
  return page;
}

// A portrait photo in which the detector finds nothing: light and dark in soft patches.
const portrait = async (page, hue) =>
  Buffer.from(
    await page.evaluate(async (hue) => {
      const canvas = new OffscreenCanvas(900, 1200);
      const context = canvas.getContext("2d");
      const shades = context.createLinearGradient(0, 0, 600, 1200);
      shades.addColorStop(0, `hsl(${hue} 30% 70%)`);
      shades.addColorStop(0.6, `hsl(${hue + 40} 40% 45%)`);
      shades.addColorStop(1, `hsl(${hue + 70} 25% 25%)`);
      context.fillStyle = shades;
      context.fillRect(0, 0, 900, 1200);
      const blob = await canvas.convertToBlob({ type: "image/jpeg" });
      return [...new Uint8Array(await blob.arrayBuffer())];
    }, hue),
  );

const file = (buffer) => ({ name: "photo.jpg", mimeType: "image/jpeg", buffer });

// What is wrong with the layout: wider than the window, names whose letters stand below each other, texts that
// are hard to read.
const measure = (page) =>
  page.evaluate(() => {
    const shown = (element) => element.checkVisibility() && element.getClientRects().length > 0;
    const all = (selector) => [...document.querySelectorAll(selector)].filter(shown);
    const numbers = (color) => color.match(/[\d.]+/g).map(Number);
    // The color behind an element: of the nearest around it that has one.
    const behind = (element) => {
      for (let at = element; at; at = at.parentElement) {
        const color = numbers(getComputedStyle(at).backgroundColor);
        if ((color[3] ?? 1) > 0.5) return color;
      }
      return [255, 255, 255];
    };
    const light = (color) => {
      const part = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
      return 0.2126 * part(color[0]) + 0.7152 * part(color[1]) + 0.0722 * part(color[2]);
    };
    const contrast = (element) => {
      const [a, b] = [light(numbers(getComputedStyle(element).color)), light(behind(element))];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    };
    const texts = all("h1, h2, h3, p, dt, dd, summary, label, .button, .name, .label, .key, .count, .number, a, select");
    return {
      overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
      narrow: all(".name, .label")
        .filter((name) => {
          const size = Number.parseFloat(getComputedStyle(name).fontSize);
          return name.textContent.length > 4 && name.getBoundingClientRect().width < 2.2 * size;
        })
        .map((name) => name.textContent),
      faint: texts
        .filter((element) => element.textContent.trim() && contrast(element) < 4.5)
        .map((element) => `${element.className || element.tagName}: ${contrast(element).toFixed(2)}`),
      texts: texts.length,
    };
  });

// Every width in both schemes; what is wrong is told by width and scheme.
async function looks(page, name) {
  const found = {};
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: width < 500 ? 844 : 900 });
    for (const colorScheme of which === "firefox" ? ["light"] : ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await page.evaluate(() => scrollTo(0, 0));
      found[`${width} ${colorScheme}`] = await measure(page);
      const path = `${screenshots}/${which === "firefox" ? "firefox-" : ""}looks-${name}-${width}-${colorScheme}.png`;
      await page.screenshot({ path });
    }
  }
  await page.emulateMedia({ colorScheme: "light" });
  return found;
}

const top = (page, selector) =>
  page.locator(selector).first().evaluate((element) => element.getBoundingClientRect().bottom);
const texts = (page, selector) => page.locator(selector).allTextContents();

const page = await open();
const seen = { empty: await looks(page, "empty") };
seen.examples = await texts(page, "#examples .name");

// One thing: the whole picture, first strange, then taught.
await page.setViewportSize({ width: 390, height: 844 });
await give(page, file(await portrait(page, 20)));
seen.boxes = await page.locator("#boxes .box").count();
// Nothing is alike enough.
await page.locator("#inside summary").click();
await page.locator("#min-similarity").focus();
await page.keyboard.press("End");
await page.waitForSelector("#answers .card.unknown");
seen.strange = await texts(page, "#answers h3 .label");
await page.locator("#inside summary").click();
seen.unknown = await looks(page, "unknown");
await page.locator("#inside summary").click();
await page.locator("#as-published").click();
await page.locator("#inside summary").click();
const teach = async (name) => {
  await page.locator(".correction button").first().click();
  await page.locator(".teach input").fill(name);
  await page.keyboard.press("Enter");
  await saying(page, "Learned");
};
await teach("Evening sky");
// Another picture of it.
await give(page, file(await portrait(page, 26)));
await page.setViewportSize({ width: 390, height: 844 });
await page.evaluate(() => scrollTo(0, 0));
seen.name = (await texts(page, "#answers h3 .label"))[0];
seen.fold = {
  name: await top(page, "#answers h3 .label"),
  reference: await top(page, "#answers .top .thumbnail"),
};
seen.second = await texts(page, "#answers .key.second");
seen.one = await looks(page, "one");

// The form is left by a key and by a button, and the focus comes back; a right answer takes one press.
await page.locator(".correction button").first().click();
await page.keyboard.type("half a na");
await page.keyboard.press("Escape");
const focused = () => page.evaluate(() => document.activeElement.parentElement.className);
seen.escaped = [await page.locator(".teach").count(), await focused()];
await page.locator(".correction button").first().click();
await page.locator(".teach .cancel").click();
seen.canceled = [await page.locator(".teach").count(), await focused()];
seen.confirms = await page.locator(".confirm").count();
if (seen.confirms) {
  await page.locator(".confirm").first().click();
  await saying(page, "Learned: Evening sky");
}
seen.confirmed = await page.locator(".confirm").count();

// A name of 200 letters without a blank.
await teach(LONG);
await page.locator("#gallery-panel summary").click();
await page.locator("#edit").click();
await page.locator("#inside summary").click();
seen.long = await looks(page, "long");
await page.locator("#class-search").fill("wxyz0");
await page.waitForFunction(() => document.querySelectorAll("#classes .class").length === 1);
await page.getByRole("button", { name: /^Remove/ }).click();
await page.screenshot({ path: `${screenshots}/looks-dialog.png` });
seen.dialog = await measure(page);
await page.keyboard.press("Escape");
seen.kept = await page.locator("#classes .class").count();
await page.waitForSelector("dialog", { state: "detached" });
seen.dialogs = await page.locator("dialog").count();

// Several things.
await page.reload();
await settle(page);
await give(page, picture);
seen.many = await looks(page, "many");
await page.setViewportSize({ width: 390, height: 844 });
await page.evaluate(() => scrollTo(0, 0));
seen.fold.first = await top(page, "#answers h3 .label");

// The same thing several times is one card, whose numbers choose among them.
const several = await page.evaluate(async () => {
  const bitmap = await createImageBitmap(await (await fetch("samples/1.jpg")).blob());
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(800, 600);
  const context = canvas.getContext("2d");
  context.fillStyle = "#cde";
  context.fillRect(0, 0, 800, 600);
  const part = [width * 0.29, height * 0.78, width * 0.24, height * 0.21];
  for (const [left, top] of [[40, 40], [300, 60], [560, 300], [80, 330]]) {
    context.drawImage(bitmap, ...part, left, top, 200, 175);
  }
  const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 });
  return [...new Uint8Array(await blob.arrayBuffer())];
});
await give(page, file(Buffer.from(several)));
const joined = page.locator("#answers .card:has(.times)").first();
seen.joined = {
  boxes: await page.locator("#boxes .box").count(),
  count: Number(await joined.getAttribute("data-count")),
  times: await joined.locator(".times").textContent(),
};
await joined.locator(".number").nth(1).click();
seen.joined.chosen = await joined.locator("[aria-pressed=true]").allTextContents();
seen.joined.lit = await page.locator("#boxes .chosen").count();
await page.screenshot({ path: `${screenshots}/looks-joined.png` });
await give(page, picture);

// Somebody points: a drawn frame, a click, keys.
await page.setViewportSize({ width: 1440, height: 900 });
await page.evaluate(() => scrollTo(0, 0));
const count = () => page.locator("#boxes .pointed").count();
const pointed = (before) =>
  page.waitForFunction((before) => document.querySelectorAll("#boxes .pointed").length > before, before);
const stage = await page.locator("#stage").boundingBox();
const at = (x, y) => [stage.x + x * stage.width, stage.y + y * stage.height];
seen.pointed = [await count()];
await page.mouse.move(...at(0.1, 0.1));
await page.mouse.down();
await page.mouse.move(...at(0.3, 0.3));
await page.mouse.move(...at(0.5, 0.55));
await page.screenshot({ path: `${screenshots}/looks-drawing.png` });
seen.hint = await page.locator("#tools .hint:visible").allTextContents();
await page.mouse.up();
await pointed(0);
seen.pointed.push(await count());
seen.marked = (await texts(page, "#status"))[0];
seen.numbers = await texts(page, "#boxes .number");
const box = await page.evaluate(() => {
  const { style } = document.querySelector("#boxes .pointed");
  return ["left", "top", "width", "height"].map((side) => Number.parseFloat(style[side]));
});
seen.drawn = box;
seen.looked = await page.evaluate(() => {
  const object = window.looked.objects.at(-1);
  return { bbox: Array.from(object.bbox), embedding: Array.from(object.embedding) };
});
await page.locator("#mark").focus();
await page.keyboard.press("Enter");
for (const key of ["ArrowLeft", "ArrowUp", "Shift+ArrowRight", "Enter"]) await page.keyboard.press(key);
await pointed(1);
seen.pointed.push(await count());
// Where nothing was found.
const free = await page.evaluate(() => {
  const layer = document.querySelector("#stage").getBoundingClientRect();
  for (let place = 0; place < 400; place += 1) {
    const [x, y] = [0.03 + (place % 20) / 21, 0.03 + Math.floor(place / 20) / 21];
    const hit = document.elementFromPoint(layer.left + x * layer.width, layer.top + y * layer.height);
    if (hit?.id === "boxes") return [x, y];
  }
  return null;
});
if (free) {
  await page.mouse.click(...at(...free));
  await pointed(2);
}
seen.pointed.push(await count());
seen.named = await texts(page, "#answers h3 .label");
await page.screenshot({ path: `${screenshots}/looks-pointed.png` });
seen.marking = await looks(page, "marked");
await page.setViewportSize({ width: 1440, height: 900 });
await page.locator("#mark").click();
seen.frame = await looks(page, "marking");
await page.locator("#unmark").click();
await page.setViewportSize({ width: 1440, height: 900 });
await page.locator(".correction button").first().click();
seen.form = await looks(page, "form");
await page.locator(".teach .cancel").click();
// What was pointed at can be taught.
await teach("My own thing");
seen.own = (await texts(page, "#answers h3 .label"))[0];

// What is no picture: the last answer goes, since it is not about it.
await page.locator("#file").setInputFiles({ name: "a.jpg", mimeType: "image/jpeg", buffer: Buffer.from("no") });
await page.waitForFunction(() => document.querySelector("#status").className === "failed");
seen.failed = {
  cards: await page.locator("#answers .card").count(),
  stage: await page.locator("#stage").isVisible(),
};
await page.screenshot({ path: `${screenshots}/looks-failed.png` });

// A finger: a tap looks, and the mark button lets it draw.
async function touched() {
  const phone = await open({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });
  await give(phone, file(await portrait(phone, 200)));
  await phone.locator("#stage").scrollIntoViewIfNeeded();
  await phone.locator("#stage").tap();
  await phone.waitForSelector("#boxes .pointed");
  seen.tapped = await phone.locator("#boxes .pointed").count();
  await phone.screenshot({ path: `${screenshots}/looks-tapped.png`, fullPage: true });
  await phone.locator("#mark").tap();
  await phone.evaluate(() => document.querySelector("#stage").scrollIntoView());
  const under = await phone.locator("#stage").boundingBox();
  const touch = await phone.context().newCDPSession(phone);
  const finger = (type, x, y) =>
    touch.send("Input.dispatchTouchEvent", {
      type,
      touchPoints: x === undefined ? [] : [{ x: under.x + x * under.width, y: under.y + y * under.height }],
    });
  await finger("touchStart", 0.2, 0.15);
  await finger("touchMove", 0.4, 0.25);
  await finger("touchMove", 0.7, 0.4);
  await finger("touchEnd");
  await phone.waitForFunction(() => document.querySelectorAll("#boxes .pointed").length > 1);
  seen.fingers = await phone.evaluate(() => {
    const { style } = [...document.querySelectorAll("#boxes .pointed")].at(-1);
    return ["left", "top", "width", "height"].map((side) => Math.round(Number.parseFloat(style[side])));
  });
}

// The page of measurements.
async function measurements() {
  await page.goto(`${address}bench/?lang=en`);
  await page.waitForSelector("[data-ready]");
  seen.bench = await looks(page, "bench-empty");
  await page.locator("#runs").fill("3");
  await page.locator("#start").click();
  seen.running = await measure(page);
  await page.screenshot({ path: `${screenshots}/looks-bench-running.png` });
  await page.waitForFunction(() => ["done", "failed"].includes(document.querySelector("#status").className), null, {
    timeout: 240_000,
  });
  seen.results = await looks(page, "bench-full");
  seen.bars = await page.locator("#rows .bar").count();
  seen.rows = await page.locator("#rows tr").count();
}

if (which === "chromium") {
  await touched();
  await measurements();
}

console.log(JSON.stringify({ ...seen, problems: problems.flat() }));
await browser.close();
