// Pixels that come from the browser, in browsers that falsify them, and pictures that browsers show in another way
// than the engine sees them; prints what was seen as JSON.
//
// node pixels.mjs BROWSER SITE PICTURE [SCENARIO,…]
//   BROWSER  chromium, firefox, or private: Firefox as it resists fingerprinting
import { existsSync, readFileSync, writeFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32, deflateSync } from "node:zlib";

import { launch } from "./chromium.mjs";
import { onNewDocument } from "./firefox-driver.mjs";
import { start } from "./host.mjs";
import { PATIENCE } from "./patience.mjs";
import { playAll } from "./scenarios.mjs";

const [which, site, picture, only] = process.argv.slice(2);
const sleep = (ms) => new Promise((then) => setTimeout(then, ms));
const folder = mkdtempSync(join(tmpdir(), "magpie-pixels-"));

async function firefox() {
  const { default: puppeteer } = await import("puppeteer-core");
  const places = ["/usr/bin/firefox-esr", "/usr/bin/firefox"];
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath: process.env.FIREFOX ?? places.find(existsSync),
    headless: true,
    defaultViewport: null,
    extraPrefsFirefox: {
      "privacy.resistFingerprinting": which === "private",
      "media.navigator.streams.fake": true,
      "media.navigator.permission.disabled": true,
    },
  });
  const open = async (stub) => {
    const page = await (await browser.createBrowserContext()).newPage();
    if (stub) await onNewDocument(page, `(${stub})();`);
    return { page, upload: async (file) => (await page.$("#file")).uploadFile(file) };
  };
  return { open, close: () => browser.close() };
}

async function chromium() {
  const fake = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"];
  const browser = await launch(fake);
  const open = async (stub) => {
    const page = await (await browser.newContext({ serviceWorkers: "block" })).newPage();
    if (stub) await page.addInitScript(stub);
    return { page, upload: (file) => page.locator("#file").setInputFiles(file) };
  };
  return { open, close: () => browser.close() };
}

// The picture in files that browsers and the engine treat differently, written by a browser that falsifies nothing.
async function writeFiles() {
  const browser = await launch();
  const page = await browser.newPage();
  const made = await page.evaluate(async (bytes) => {
    const bitmap = await createImageBitmap(new Blob([new Uint8Array(bytes)]));
    const encoded = async (canvas, type) =>
      [...new Uint8Array(await (await canvas.convertToBlob({ type, quality: 0.95 })).arrayBuffer())];
    const small = new OffscreenCanvas(256, 256);
    small.getContext("2d").drawImage(bitmap, 0, 0, 256, 256);
    // Wider than high, with a red corner.
    const wide = new OffscreenCanvas(320, 200);
    const context = wide.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, 320, 200);
    context.drawImage(bitmap, 60, 0, 200, 200);
    context.fillStyle = "#f00";
    context.fillRect(0, 0, 40, 40);
    return {
      small: await encoded(small, "image/png"),
      png: await encoded(wide, "image/png"),
      webp: await encoded(wide, "image/webp"),
    };
  }, [...readFileSync(picture)]);
  await browser.close();
  const [small, png, webp] = [made.small, made.png, made.webp].map((bytes) => Buffer.from(bytes));
  const files = {};
  const write = (name, bytes) => {
    files[name] = join(folder, name);
    writeFileSync(files[name], bytes);
  };
  const number = (value, bytes, little) => {
    const buffer = Buffer.alloc(bytes);
    buffer[little ? "writeUIntLE" : "writeUIntBE"](value, 0, bytes);
    return buffer;
  };
  const chunk = (name, contents) => {
    const named = Buffer.concat([Buffer.from(name), contents]);
    return Buffer.concat([number(contents.length, 4), named, number(crc32(named), 4)]);
  };
  for (const turn of [3, 6]) {
    const exif = Buffer.from("49492a00080000000100120103000100000000000000" + "00000000", "hex");
    exif[18] = turn;
    write(`${turn}.png`, Buffer.concat([png.subarray(0, 33), chunk("eXIf", exif), png.subarray(33)]));
    // With its pixels alone, whatever else the browser wrote.
    const at = Math.max(webp.indexOf("VP8 ", 12), webp.indexOf("VP8L", 12));
    const length = webp.readUInt32LE(at + 4);
    const head = Buffer.concat([Buffer.from([8, 0, 0, 0]), number(319, 3, true), number(199, 3, true)]);
    const parts = Buffer.concat([
      Buffer.from("WEBPVP8X"), number(10, 4, true), head,
      webp.subarray(at, at + 8 + length + (length % 2)),
      Buffer.from("EXIF"), number(exif.length, 4, true), exif,
    ]);
    write(`${turn}.webp`, Buffer.concat([Buffer.from("RIFF"), number(parts.length, 4, true), parts]));
  }
  // A format that browsers know and the engine does not, called something else.
  const entry = Buffer.concat([Buffer.from([0, 0, 0, 0, 1, 0, 32, 0]), number(small.length, 4, true), number(22, 4, true)]);
  write("icon.jpg", Buffer.concat([Buffer.from([0, 0, 1, 0, 1, 0]), entry, small]));
  write("same.png", small);
  const jpeg = readFileSync(picture);
  write("half.jpg", jpeg.subarray(0, jpeg.length >> 1));
  // 72 million white pixels.
  const size = Buffer.concat([number(9000, 4), number(8000, 4), Buffer.from([1, 0, 0, 0, 0])]);
  const line = Buffer.concat([Buffer.alloc(1), Buffer.alloc(9000 / 8, 255)]);
  const rows = deflateSync(Buffer.concat(Array(8000).fill(line)));
  const sign = Buffer.from("\x89PNG\r\n\x1a\n", "latin1");
  write("large.png", Buffer.concat([sign, chunk("IHDR", size), chunk("IDAT", rows), chunk("IEND", Buffer.alloc(0))]));
  return files;
}

const files = await writeFiles();
const browser = which === "chromium" ? await chromium() : await firefox();
const host = await start(site, /^$/);

/** The package in a page of the site, without the page's own code. */
async function package_(stub) {
  const visit = await browser.open(stub);
  await visit.page.goto(`${host.address}style.css`);
  return visit;
}

/** The page itself, ready. */
async function open(stub) {
  const visit = await browser.open(stub);
  await visit.page.goto(`${host.address}?backend=cpu&lang=en`);
  await visit.page.waitForSelector("#status.done, #status.failed", { timeout: PATIENCE });
  return visit;
}

async function give({ page, upload }, file) {
  await page.evaluate(() => {
    const status = document.querySelector("#status");
    [status.className, status.textContent] = ["asked", "(asked)"];
  });
  await upload(file);
  await page.waitForSelector("#status.done, #status.failed", { timeout: PATIENCE });
  await sleep(100);
  return page.evaluate(() => {
    const canvas = document.querySelector("#canvas");
    return {
      status: document.querySelector("#status").textContent,
      state: document.querySelector("#status").className,
      cards: document.querySelectorAll("#answers .card").length,
      labels: [...document.querySelectorAll("#answers h3 .label")].map((label) => label.textContent),
      shown: canvas.getClientRects().length ? [canvas.width, canvas.height] : null,
    };
  });
}

/** The page's sentence once it has these words; by asking again, since its policy lets no waiting code in. */
async function said(page, words) {
  for (let tries = 0; ; tries += 1) {
    const status = await page.evaluate(() => document.querySelector("#status").textContent);
    if (status.includes(words) || tries === 100) return status;
    await sleep(100);
  }
}

const noVideoFrame = () => {
  delete globalThis.VideoFrame;
};
const noise = () => {
  for (const Context of [CanvasRenderingContext2D, OffscreenCanvasRenderingContext2D]) {
    const { getImageData } = Context.prototype;
    Context.prototype.getImageData = function (...area) {
      const image = getImageData.apply(this, area);
      for (let at = 0; at < image.data.length; at += 1) image.data[at] = 256 * Math.random();
      return image;
    };
  }
};

// Cosines of the file's embedding to those of the same picture in every other form.
const forms = async ([bytes, icon]) => {
  const { Magpie, MagpieError } = await import("./magpie.js");
  const magpie = await Magpie.load("./bundle/", { backend: "cpu", thumbnails: false });
  const file = new Blob([new Uint8Array(bytes)], { type: "image/jpeg" });
  const truth = await magpie.embed(file);
  const cosine = (embedding) => embedding.reduce((sum, value, index) => sum + value * truth[index], 0);
  const like = (source) =>
    magpie.embed(source).then(cosine, (error) => `${error.code}: ${error.message}`);
  const bitmap = await createImageBitmap(file);
  const image = new Image();
  image.src = URL.createObjectURL(file);
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  const offscreen = new OffscreenCanvas(bitmap.width, bitmap.height);
  offscreen.getContext("2d").drawImage(bitmap, 0, 0);
  const seen = {};
  for (const [name, source] of Object.entries({
    bitmap,
    image,
    canvas,
    offscreen,
    "no type": new Blob([file]),
    "another type": new Blob([file], { type: "image/avif" }),
    "an icon called a JPEG": new Blob([new Uint8Array(icon)], { type: "image/jpeg" }),
  })) {
    seen[name] = await like(source);
  }
  if (globalThis.VideoFrame) seen.frame = await like(new VideoFrame(bitmap, { timestamp: 0 }));
  const made = new MagpieError("picture", "words");
  return { ...seen, made: [made.code, made.message, made instanceof Error] };
};

const scenarios = {
  async forms() {
    const { page } = await package_();
    return page.evaluate(forms, [[...readFileSync(picture)], [...readFileSync(files["icon.jpg"])]]);
  },

  // A browser that falsifies what is read from canvases.
  async noise() {
    const { page } = await package_(noise);
    return page.evaluate(forms, [[...readFileSync(picture)], [...readFileSync(files["icon.jpg"])]]);
  },

  // And has no other way to pixels.
  async without() {
    const stub = which === "private" ? noVideoFrame : `(${noise})(); (${noVideoFrame})();`;
    const script = typeof stub === "string" ? new Function(stub) : stub;
    const { page } = await package_(script);
    const seen = await page.evaluate(forms, [[...readFileSync(picture)], [...readFileSync(files["icon.jpg"])]]);
    const visit = await open(script);
    const icon = await give(visit, files["icon.jpg"]);
    await visit.page.click("#camera");
    const camera = await said(visit.page, "falsifies");
    return { forms: seen, icon, camera, file: await give(visit, picture) };
  },

  // The page: a format of the browser's alone, and the same picture as a file of the engine's.
  async foreign() {
    const visit = await open();
    return { icon: await give(visit, files["icon.jpg"]), same: await give(visit, files["same.png"]) };
  },

  // The browser's own camera shows plain areas; noise has none.
  async frames() {
    const { page } = await package_();
    return page.evaluate(async () => {
      const { readPixels } = await import("./pixels.js");
      const video = document.createElement("video");
      video.muted = true;
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
      await video.play();
      const { width, height, rgba } = await readPixels(video);
      let plain = 0;
      for (let at = 4; at < rgba.length; at += 1) if (Math.abs(rgba[at] - rgba[at - 4]) <= 2) plain += 1;
      video.srcObject.getTracks()[0].stop();
      return { size: [width, height], plain: plain / rgba.length };
    });
  },

  // A format of the browser's, whatever the file says that it is.
  async avif() {
    const { page } = await package_();
    return page.evaluate(async (avif) => {
      const { Magpie } = await import("./magpie.js");
      const magpie = await Magpie.load("./bundle/", { backend: "cpu", thumbnails: false });
      const bytes = Uint8Array.from(atob(avif), (letter) => letter.charCodeAt(0));
      const seen = {};
      for (const type of ["image/avif", "image/jpeg", "text/plain", ""]) {
        const { width, height } = await magpie.recognize(new Blob([bytes], { type }));
        seen[type] = [width, height];
      }
      return seen;
    }, AVIF);
  },

  // What is shown is what was recognized: red corners of files that are to be turned.
  async turned() {
    const visit = await open();
    const seen = {};
    for (const name of ["3.png", "6.png", "3.webp", "6.webp"]) {
      const { shown, state } = await give(visit, files[name]);
      const corners = await visit.page.evaluate(() => {
        const canvas = document.querySelector("#canvas");
        const context = canvas.getContext("2d");
        const [right, bottom] = [canvas.width - 10, canvas.height - 10];
        const places = { "top left": [10, 10], "top right": [right, 10], "bottom left": [10, bottom], "bottom right": [right, bottom] };
        return Object.entries(places)
          .filter(([, place]) => {
            const [red, green] = context.getImageData(...place, 1, 1).data;
            return red > 200 && green < 60;
          })
          .map(([place]) => place);
      });
      seen[name] = { shown, state, corners };
    }
    const other = await package_();
    for (const name of Object.keys(seen)) {
      seen[name].element = await other.page.evaluate(async (bytes) => {
        await import("./element.js");
        const element = document.createElement("magpie-recognizer");
        element.setAttribute("bundle", "./bundle/");
        element.setAttribute("backend", "cpu");
        document.body.append(element);
        const { width, height } = await element.recognize(new Blob([new Uint8Array(bytes)]));
        const image = element.shadowRoot.querySelector("figure img");
        const canvas = new OffscreenCanvas(width, height).getContext("2d");
        canvas.drawImage(image, 0, 0);
        const red = ([x, y]) => {
          const [red, green] = canvas.getImageData(x, y, 1, 1).data;
          return red > 200 && green < 60;
        };
        const [right, bottom] = [width - 10, height - 10];
        element.remove();
        return {
          recognized: [width, height],
          shown: [image.naturalWidth, image.naturalHeight],
          corner: red([right, 10]) ? "top right" : red([right, bottom]) ? "bottom right" : "another",
        };
      }, [...readFileSync(files[name])]);
    }
    return seen;
  },

  async half() {
    const visit = await open();
    await give(visit, picture);
    const page = await give(visit, files["half.jpg"]);
    const other = await package_();
    const code = await other.page.evaluate(async (bytes) => {
      const { Magpie } = await import("./magpie.js");
      const magpie = await Magpie.load("./bundle/", { backend: "cpu", thumbnails: false });
      const file = new Blob([new Uint8Array(bytes)], { type: "image/jpeg" });
      return magpie.recognize(file).then(() => "an answer", (error) => error.code);
    }, [...readFileSync(files["half.jpg"])]);
    return { page, code };
  },

  // More pixels than the engine takes.
  async large() {
    const visit = await open();
    const page = await give(visit, files["large.png"]);
    const other = await package_();
    const size = await other.page.evaluate(async (bytes) => {
      const { Magpie } = await import("./magpie.js");
      const magpie = await Magpie.load("./bundle/", { backend: "cpu", thumbnails: false });
      const { width, height } = await magpie.recognize(new Blob([new Uint8Array(bytes)]));
      return [width, height];
    }, [...readFileSync(files["large.png"])]);
    return { page, size };
  },
};

// Two by two pixels.
const AVIF =
  "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUIAAADybWV0YQAAAAAAAAAoaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAAAGxpYmF2aWYA" +
  "AAAADnBpdG0AAAAAAAEAAAAeaWxvYwAAAABEAAABAAEAAAABAAABGgAAAB0AAAAoaWluZgAAAAAAAQAAABppbmZlAgAAAAABAABhdjAxQ29sb3IA" +
  "AAAAamlwcnAAAABLaXBjbwAAABRpc3BlAAAAAAAAAAIAAAACAAAAEHBpeGkAAAAAAwgICAAAAAxhdjFDgQ0MAAAAABNjb2xybmNseAACAAIAAYAA" +
  "AAAXaXBtYQAAAAAAAAABAAEEAQKDBAAAACVtZGF0EgAKCBgANogQEAwgMg8f8D///8WfhwB8+ErK42A=";

await playAll(scenarios, only, (scenario) => scenario(), async () => {
  await browser.close();
  rmSync(folder, { recursive: true });
});
