// The Chromium that the tests drive, and what a visitor does in it.
import { chromium } from "playwright-core";

import { PATIENCE } from "./patience.mjs";

/** Starts a headless Chromium; the software adapter stands in for a GPU. */
export async function launch(more = []) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--enable-unsafe-webgpu",
      "--enable-features=Vulkan",
      "--use-webgpu-adapter=swiftshader",
      ...more,
    ],
  });
  // The driver's own patience is half a minute.
  const newContext = browser.newContext.bind(browser);
  browser.newContext = async (options) => {
    const context = await newContext(options);
    context.setDefaultTimeout(PATIENCE);
    return context;
  };
  return browser;
}

/** What goes wrong on a page, and whom it asks. */
export function watch(page) {
  const problems = [];
  const origins = new Set();
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) problems.push(message.text());
  });
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("request", (request) => origins.add(new URL(request.url()).origin));
  return { problems, origins };
}

/** Keeps the worker's answers, as the page receives them, in `window.answers`; `window.given` counts the pictures. */
export const keepAnswers = (page) =>
  page.addInitScript(() => {
    const Original = window.Worker;
    window.answers = [];
    window.given = 0;
    window.Worker = class extends Original {
      constructor(...argument) {
        super(...argument);
        this.addEventListener("message", (event) => {
          if (event.data?.Recognized) window.answers.push(event.data.Recognized);
          if (event.data?.Looked) window.looked = event.data.Looked.result;
          if (event.data?.Pictured) window.pictured = true;
        });
      }

      postMessage(message, ...more) {
        if (message.Recognize) window.given += 1;
        super.postMessage(message, ...more);
      }
    };
  });

/** Waits until the page is ready with all its pictures, or has said why not. */
export const settle = (page) =>
  page.waitForFunction(
    () => {
      const state = document.querySelector("#status").className;
      return state === "failed" || (state === "done" && window.pictured);
    },
    null,
    { timeout: 240_000 },
  );

/** Waits until the page says something with these words. */
export const saying = (page, words) =>
  page.waitForFunction(
    (words) => document.querySelector("#status").textContent.includes(words),
    words,
    { timeout: PATIENCE },
  );

/** Gives a picture to the page and waits for its answer. */
export async function give(page, picture) {
  const before = await page.evaluate(() => window.answers.length);
  await page.locator("#file").setInputFiles(picture);
  await page.waitForFunction(
    (before) =>
      document.querySelector("#status").className === "failed" || window.answers.length > before,
    before,
    { timeout: 480_000 },
  );
  await page.waitForTimeout(200);
}
