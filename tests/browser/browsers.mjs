// Chromium and Firefox, driven in the same way.
import { existsSync } from "node:fs";

import { launch } from "./chromium.mjs";
import { launch as launchFirefox, onNewDocument } from "./firefox-driver.mjs";
import { PATIENCE } from "./patience.mjs";

/** A browser: `page(stub)` opens a page of a fresh profile, in which `stub` runs before all else. */
async function chromium() {
  const browser = await launch();
  const page = async (stub) => {
    const context = await browser.newContext({ viewport: { width: 1100, height: 900 } });
    if (stub) await context.addInitScript(stub);
    const another = async () => {
      const page = await context.newPage();
      page.on("dialog", (dialog) => dialog.accept("renamed"));
      const upload = (file) => page.locator("#file").setInputFiles(file);
      return { page, upload, another, close: () => context.close() };
    };
    return another();
  };
  return { page, close: () => browser.close() };
}

async function firefox() {
  const { default: puppeteer } = await import("puppeteer-core");
  const places = ["/usr/bin/firefox-esr", "/usr/bin/firefox"];
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath: process.env.FIREFOX ?? places.find(existsSync),
    headless: true,
    defaultViewport: null,
  });
  const page = async (stub) => {
    const context = await browser.createBrowserContext();
    const another = async () => {
      const page = await context.newPage();
      page.setDefaultTimeout(PATIENCE);
      if (stub) await onNewDocument(page, stub);
      const upload = async (file) => (await page.$("#file")).uploadFile(file);
      return { page, upload, another, close: () => context.close() };
    };
    return another();
  };
  return { page, close: () => browser.close() };
}

/** Chromium by Playwright, or Firefox by as much of the same interface (`firefox-driver.mjs`). */
export const launchNamed = async (which) =>
  which === "firefox" ? launchFirefox() : launch();

/** The browser of a name. */
export const open = (which) => (which === "firefox" ? firefox() : chromium());
