// Firefox with as much of Playwright's interface as the tests use of it, over Puppeteer: one script drives both
// browsers. What Playwright has and Firefox has not (touch, color schemes, blocked service workers) is ignored; scripts
// that need it ask for Chromium.
import { existsSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { PATIENCE } from "./patience.mjs";

const sleep = (ms) => new Promise((then) => setTimeout(then, ms));

/** Asks until something is there; the page's policy lets no waiting code in. */
async function until(ask, what, timeout = PATIENCE) {
  const end = Date.now() + timeout;
  for (;;) {
    // Between two documents there is nothing to look at.
    const found = await ask().catch(() => null);
    if (found) return found;
    if (Date.now() > end) throw new Error(`${what}: not in ${timeout} ms`);
    await sleep(50);
  }
}

/**
 * Runs code in each new document of a page, before all else. Firefox may run it once more in the window of the blank
 * document before, when `window` is the page's already: what it makes there belongs to a window that is gone, which
 * starts no worker.
 */
export const onNewDocument = (page, code) =>
  page.evaluateOnNewDocument(new Function(`if (window.Function !== Function) return;\n${code}`));

/** A file as the browser takes it: of the disk. */
function onDisk(file) {
  if (typeof file === "string") return file;
  const path = join(mkdtempSync(join(tmpdir(), "magpie-upload-")), file.name);
  writeFileSync(path, file.buffer);
  return path;
}

class Locator {
  constructor(page, selector, at = 0) {
    Object.assign(this, { page, selector, at });
  }

  first = () => this.nth(0);

  nth = (at) => new Locator(this.page, this.selector, at);

  locator = (selector) => new Locator(this.page, `${this.selector} ${selector}`);

  /** The element, once it is there. */
  async #found() {
    const find = async () => (await this.page.own.$$(this.selector))[this.at];
    return until(find, this.selector);
  }

  /** A mouse's or a finger's press. */
  async click() {
    const element = await this.#found();
    await element.scrollIntoView();
    await element.click();
  }

  tap = () => this.click();

  async focus() {
    await (await this.#found()).focus();
  }

  /** Puts a text in the place of what a field holds. */
  async fill(text) {
    const set = (field, text) => {
      field.focus();
      field.value = text;
      field.dispatchEvent(new Event("input", { bubbles: true }));
      if (field.type === "number") field.dispatchEvent(new Event("change", { bubbles: true }));
    };
    await (await this.#found()).evaluate(set, text);
  }

  async selectOption(value) {
    await (await this.#found()).select(value);
  }

  async setInputFiles(file) {
    await (await this.#found()).uploadFile(onDisk(file));
  }

  async evaluate(act, argument) {
    return (await this.#found()).evaluate(act, argument);
  }

  textContent = () => this.evaluate((element) => element.textContent);

  getAttribute = (name) => this.evaluate((element, name) => element.getAttribute(name), name);

  async boundingBox() {
    return (await this.#found()).boundingBox();
  }

  async scrollIntoViewIfNeeded() {
    await (await this.#found()).scrollIntoView();
  }

  count = async () => (await this.page.own.$$(this.selector)).length;

  isVisible = async () => (await this.count()) > 0 && this.evaluate((element) => element.checkVisibility());

  allTextContents = () =>
    this.page.evaluate((selector) => {
      // Playwright's own pseudo-class.
      const all = document.querySelectorAll(selector.replace(/:visible$/, ""));
      const wanted = [...all].filter((element) => !selector.endsWith(":visible") || element.checkVisibility());
      return wanted.map((element) => element.textContent);
    }, this.selector);
}

class Page {
  constructor(own, context) {
    this.own = own;
    this.context = () => context;
    this.mouse = own.mouse;
    this.keyboard = {
      type: (text) => own.keyboard.type(text),
      // "Shift+ArrowRight" as well.
      press: async (keys) => {
        const held = keys.split("+");
        const key = held.pop();
        for (const each of held) await own.keyboard.down(each);
        await own.keyboard.press(key);
        for (const each of held.reverse()) await own.keyboard.up(each);
      },
    };
  }

  goto = (address, { waitUntil = "load" } = {}) => this.own.goto(address, { waitUntil });

  reload = ({ waitUntil = "load" } = {}) => this.own.reload({ waitUntil });

  evaluate = (act, argument) => this.own.evaluate(act, argument);

  addInitScript = (act, argument) => {
    const code = typeof act === "string" ? act : `(${act})(${JSON.stringify(argument)});`;
    return onNewDocument(this.own, code);
  };

  locator = (selector) => new Locator(this, selector);

  /** A button by its name. */
  getByRole = (role, { name }) => ({
    click: async () => {
      const find = async () => {
        const names = await this.evaluate(
          (role) =>
            [...document.querySelectorAll(role)].map((found) => found.ariaLabel ?? found.textContent.trim()),
          role,
        );
        const at = names.findIndex((found) => name.test(found));
        return at >= 0 && this.locator(role).nth(at);
      };
      await (await until(find, `${role} ${name}`)).click();
    },
  });

  waitForTimeout = sleep;

  waitForFunction = (test, argument, { timeout } = {}) =>
    until(() => this.evaluate(test, argument), String(test), timeout);

  waitForSelector = (selector, { state = "visible", timeout } = {}) => {
    const test = ([selector, state]) => {
      const element = document.querySelector(selector);
      if (state === "detached") return !element;
      return Boolean(element) && (state === "attached" || element.checkVisibility());
    };
    return this.waitForFunction(test, [selector, state], { timeout });
  };

  async setViewportSize({ width, height }) {
    // Older ones know no orientation, which Puppeteer sets as well.
    await this.own.setViewport({ width, height }).catch((error) => {
      if (!error.message.includes("unknown command")) throw error;
    });
    await this.waitForFunction((width) => innerWidth === width, width);
  }

  emulateMedia = async () => {};

  screenshot = (options) => this.own.screenshot(options);

  on(what, listener) {
    const heard = (event) => {
      // The driver's own, which looks for elements from a realm beside the page's.
      if (what === "pageerror" && /Permission denied to access/.test(event.message)) return;
      if (what !== "console") return listener(event);
      const type = event.type() === "warn" ? "warning" : event.type();
      listener({ type: () => type, text: () => event.text() });
    };
    this.own.on(what, heard);
  }

  close = () => this.own.close();
}

/** A headless Firefox. */
export async function launch() {
  const { default: puppeteer } = await import("puppeteer-core");
  const places = ["/usr/bin/firefox-esr", "/usr/bin/firefox"];
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath: process.env.FIREFOX ?? places.find(existsSync),
    headless: true,
    defaultViewport: null,
    extraPrefsFirefox: { "layout.css.prefers-color-scheme.content-override": 1 },
  });
  const newContext = async ({ viewport } = {}) => {
    const own = await browser.createBrowserContext();
    const scripts = [];
    const context = {
      addInitScript: async (...script) => scripts.push(script),
      newPage: async () => {
        const opened = await own.newPage();
        opened.setDefaultTimeout(PATIENCE);
        const page = new Page(opened, context);
        if (viewport) await page.setViewportSize(viewport);
        for (const script of scripts) await page.addInitScript(...script);
        return page;
      },
      close: () => own.close(),
    };
    return context;
  };
  return { newContext, close: () => browser.close() };
}
