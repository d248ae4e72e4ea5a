// The studio in headless Chromium: a folder of made-up pictures becomes classes, and what an owner does with them.
//
// node studio.mjs SITE STUDIO SCREENSHOTS OUT [SCENARIO,…]
//   STUDIO  the built studio, which lies below the site
//   OUT     a folder for what the studio hands out
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32, deflateSync } from "node:zlib";

import { launch, watch } from "./chromium.mjs";
import { start } from "./host.mjs";
import { playAll } from "./scenarios.mjs";

const [site, studio, screenshots, out, only] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), "studio-"));
const browser = await launch();
const host = await start(site, /^$/);
host.sites["/studio/"] = studio;

const number = (value) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

/** A PNG of 96 by 96 pixels, each painted as `paint(x, y)` says. */
function png(paint) {
  const side = 96;
  const chunk = (name, content) => {
    const named = Buffer.concat([Buffer.from(name), content]);
    return Buffer.concat([number(content.length), named, number(crc32(named))]);
  };
  const rows = [];
  for (let y = 0; y < side; y += 1) {
    rows.push(0);
    for (let x = 0; x < side; x += 1) rows.push(...paint(x, y));
  }
  const head = Buffer.concat([number(side), number(side), Buffer.from([8, 2, 0, 0, 0])]);
  return Buffer.concat([
    Buffer.from("\x89PNG\r\n\x1a\n", "latin1"),
    chunk("IHDR", head),
    chunk("IDAT", deflateSync(Buffer.from(rows))),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

// A disk, a square, stripes; each picture of one has them at another place and in another shade.
const SHAPES = {
  disk: (x, y, at) => (x - 40 - at) ** 2 + (y - 48) ** 2 < 700,
  square: (x, y, at) => Math.abs(x - 44 - at) < 26 && Math.abs(y - 46) < 26,
  stripes: (x, y, at) => (x + at) % 16 < 8,
};
const COLORS = { disk: [200, 60, 40], square: [40, 90, 200], stripes: [40, 150, 70] };

/** A folder with a folder of pictures for each shape; `broken` and `notes.txt` are none. */
function pictures(count) {
  const root = mkdtempSync(join(folder, "shelf-"));
  for (const [name, shape] of Object.entries(SHAPES)) {
    mkdirSync(join(root, name));
    for (let index = 0; index < count; index += 1) {
      const ink = COLORS[name].map((value) => Math.min(255, value + 6 * index));
      const ground = [236 - index, 236, 230];
      writeFileSync(join(root, name, `${index}.png`), png((x, y) => (shape(x, y, 2 * index) ? ink : ground)));
    }
  }
  writeFileSync(join(root, "disk", "broken.png"), png(() => [0, 0, 0]).subarray(0, 60));
  writeFileSync(join(root, "notes.txt"), "words");
  return root;
}

async function open(visit, address = `${host.address}studio/?lang=en`) {
  const page = await visit.newPage();
  const watched = watch(page);
  await page.goto(address);
  await page.waitForFunction(() => document.querySelector("#status").className !== "busy");
  return Object.assign(page, { watched });
}

const said = (page, words) =>
  page.waitForFunction((words) => document.querySelector("#status").textContent.includes(words), words, {
    timeout: 20_000,
  });

/** Names of classes with the names of their photographs; of each whether it is chosen. */
const classes = (page) =>
  page.evaluate(() =>
    Object.fromEntries(
      [...document.querySelectorAll(".class")].map((section) => [
        section.querySelector("input.name")?.value ?? section.querySelector("h2").textContent,
        [...section.querySelectorAll(".photo")].map(
          (photo) => photo.getAttribute("aria-label") + (photo.getAttribute("aria-selected") === "true" ? "*" : ""),
        ),
      ]),
    ),
  );

const status = (page) => page.locator("#status").textContent();
const photo = (page, label, name) => page.locator(`.class[aria-label="${label}"] .photo[aria-label="${name}"]`);

async function give(page, root) {
  await page.locator("#folder").setInputFiles(root);
  await said(page, "came in");
}

// As wide as the window, and what is not.
const overflow = (page) =>
  page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

// An engine that has seen everything at once.
const ENGINE = `
  const known = new Set();
  postMessage("Started");
  onmessage = async ({ data }) => {
    const [[name, request]] = Object.entries(data);
    const answer = (value) => postMessage(value);
    const figures = ({ photos }) => ({
      classes: [...new Set(photos.map(({ label }) => label))].map((label) => ({ label, photos: 4 })),
      photos: photos.length, left_out: [], crop: "never", recall: [[91.5, 2.5], null], open: null,
      mistaken: [{ classes: [0, 1], times: 1, of: 4, photos: [0, 5] }],
      suspects: [{ photo: 1, class: 0, looks: 2, near: [2], lead: 0.1 }], doubles: [],
    });
    if (name === "Open") answer({ Opened: { key: "k", values: 4, detects: false } });
    if (name === "Look" && request.name.includes("1.png")) {
      answer({ Failed: { id: 0, error: { kind: "Picture", message: "of one color" } } });
    } else if (name === "Look") answer({ Looked: { id: 0, content: "", record: new Uint8Array([1]), thumbnail: new Uint8Array() } });
    if (name === "Know") {
      for (const record of request.records) known.add(record);
      answer({ Known: { photos: known.size } });
    }
    if (name === "Measure") answer({ Measured: { figures: figures(request.project) } });
    if (name === "Export") answer({ Failed: { id: null, error: { kind: "Device", message: "out of memory" } } });
    if (name === "Make") {
      answer({ Progress: { done: 1, of: 2, what: "packing" } });
      const site = [{ name: "index.html", bytes: new TextEncoder().encode("<p>" + request.project.title.repeat(99)) }];
      site.push({ name: "bundle/of.txt", bytes: new TextEncoder().encode(String(request.page.length > 20)) });
      answer({ Made: { gallery: new Uint8Array(), report: "", figures: figures(request.project), site } });
    }
  };
`;

const scenarios = {
  // From a folder to classes; rename, move, split, merge, undo; it is all there after a reload.
  async work() {
    const visit = await browser.newContext({ viewport: { width: 1280, height: 900 } });
    const page = await open(visit);
    const seen = { begun: await status(page) };
    await page.screenshot({ path: join(screenshots, "studio-empty.png") });
    await give(page, pictures(4));
    seen.came = { status: await status(page), classes: await classes(page) };
    seen.out = await page.locator("#left-out-names li").allTextContents();
    await page.waitForFunction(() => [...document.querySelectorAll(".photo img")].every((image) => image.naturalWidth));
    await page.screenshot({ path: join(screenshots, "studio-classes.png") });
    // A name is written in its place.
    await page.locator('input[aria-label="Name of the class disk"]').fill("coin");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelector('.class[aria-label="coin"]'));
    // By keyboard: two are chosen, and moved to a class by its name.
    await photo(page, "coin", "0.png").focus();
    await page.keyboard.press("Shift+ArrowRight");
    await page.waitForFunction(() => document.querySelectorAll('[aria-selected="true"]').length === 2);
    seen.chosen = (await classes(page)).coin;
    await page.keyboard.press("m");
    await page.keyboard.type("square");
    await page.keyboard.press("Enter");
    await said(page, "2 photographs are square now");
    seen.moved = await classes(page);
    seen.focus = await page.evaluate(() => document.activeElement.getAttribute("aria-label"));
    await page.keyboard.press("Control+z");
    await said(page, "taken back");
    seen.undone = await classes(page);
    await page.keyboard.press("Control+Shift+z");
    await said(page, "made again");
    // By mouse: one is dragged to another class.
    await photo(page, "coin", "3.png").dragTo(page.locator('.class[aria-label="stripes"] h2'));
    await said(page, "1 photograph is stripes now");
    // A new class of what is chosen; all of another one is chosen and removed.
    await photo(page, "stripes", "0.png").click();
    await photo(page, "stripes", "1.png").click({ modifiers: ["Control"] });
    await page.locator("#move").click();
    await page.keyboard.type("bars");
    await page.keyboard.press("Enter");
    await said(page, "2 photographs are bars now");
    await page.getByRole("button", { name: "Merge coin into another class" }).click();
    await page.keyboard.type("bars");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => !document.querySelector('.class[aria-label="coin"]'));
    seen.merged = await classes(page);
    await page.getByRole("button", { name: "Choose all photographs of stripes" }).click();
    await page.keyboard.press("Escape");
    await page.locator("#remove").click();
    await said(page, "removed");
    seen.removed = (await classes(page)).stripes;
    await page.locator("#undo").click();
    // What is told of a class: by hand, and by a table.
    await page.getByRole("button", { name: "Texts about bars" }).click();
    await page.keyboard.type("price");
    await page.keyboard.press("Tab");
    await page.keyboard.type("9 €");
    await page.keyboard.press("Tab");
    const table = join(folder, "texts.csv");
    writeFileSync(table, "name,link\nsquare,https://square.example\nnobody,x\n");
    await page.locator("#table").setInputFiles(table);
    await said(page, "tells of 1 class");
    await page.locator("#title").fill("Shapes");
    await page.keyboard.press("Enter");
    await page.screenshot({ path: join(screenshots, "studio-worked.png"), fullPage: true });
    // Kept a moment later.
    await page.waitForTimeout(800);
    const before = await classes(page);
    await page.reload();
    await said(page, "here again");
    const after = await classes(page);
    seen.same = JSON.stringify(before).replaceAll("*", "") === JSON.stringify(after);
    seen.title = await page.locator("#title").inputValue();
    await page.getByRole("button", { name: "Texts about bars" }).click();
    seen.told = await page.locator(".texts:not([hidden]) input").evaluateAll((fields) => fields.map(({ value }) => value));
    await page.waitForFunction(() => [...document.querySelectorAll(".photo img")].every((image) => image.naturalWidth));
    const second = await open(visit);
    seen.second = await status(second);
    await second.close();
    seen.overflow = await overflow(page);
    seen.problems = page.watched.problems;
    seen.origins = page.watched.origins.size;
    await visit.close();
    return seen;
  },

  // Folders that are dropped, on the page and on a class.
  async dropped() {
    const visit = await browser.newContext();
    const page = await open(visit);
    const files = Object.keys(SHAPES).flatMap((name, index) => [
      { name: `${name}.png`, bytes: [...png((x, y) => (SHAPES[name](x, y, index) ? COLORS[name] : [240, 240, 240]))] },
    ]);
    const drop = (selector, files) =>
      page.evaluate(
        ([selector, files]) => {
          const data = new DataTransfer();
          for (const { name, bytes } of files) data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
          const event = (name) => new DragEvent(name, { dataTransfer: data, bubbles: true, cancelable: true });
          const zone = document.querySelector(selector);
          for (const name of ["dragover", "drop"]) zone.dispatchEvent(event(name));
        },
        [selector, files],
      );
    await drop("#drop", files.slice(0, 2));
    await said(page, "2 photographs came in");
    const unsorted = await classes(page);
    await page.getByRole("button", { name: "New class" }).click();
    await page.keyboard.type("shape");
    await page.keyboard.press("Enter");
    await page.waitForSelector('.class[aria-label="shape"]');
    await drop('.class[aria-label="shape"] h2', files.slice(2));
    await said(page, "1 photograph came in");
    await drop("#drop", files.slice(0, 1));
    await said(page, "1 file is left out");
    const seen = { unsorted, classes: await classes(page), out: await page.locator("#left-out-names li").allTextContents() };
    await page.locator("#start-over").click();
    await page.locator("dialog .primary").click();
    await page.waitForFunction(() => !document.querySelector(".photo"));
    await page.waitForTimeout(800);
    await page.reload();
    await page.waitForFunction(() => document.querySelector("#status").className === "done");
    seen.after = await classes(page);
    seen.problems = page.watched.problems;
    await visit.close();
    return seen;
  },

  // A phone, in the dark, in Chinese.
  async small() {
    const phone = { viewport: { width: 390, height: 844 }, colorScheme: "dark", hasTouch: true, isMobile: true };
    const visit = await browser.newContext(phone);
    const page = await open(visit, `${host.address}studio/?lang=zh`);
    await page.locator("#files").setInputFiles(
      ["disk", "square"].map((name) => {
        const file = join(folder, `${name}.png`);
        writeFileSync(file, png((x, y) => (SHAPES[name](x, y, 0) ? COLORS[name] : [240, 240, 240])));
        return file;
      }),
    );
    await said(page, "2 张照片");
    await page.locator(".photo").first().tap();
    await page.locator(".photo").last().tap();
    await page.locator("#move").tap();
    await page.keyboard.type("形状");
    await page.keyboard.press("Enter");
    await said(page, "形状");
    await page.waitForFunction(() => [...document.querySelectorAll(".photo img")].every((image) => image.naturalWidth));
    await page.screenshot({ path: join(screenshots, "studio-small.png"), fullPage: true });
    const seen = { classes: await classes(page), overflow: await overflow(page), problems: page.watched.problems };
    await visit.close();
    return seen;
  },

  // What the engine is asked, and what becomes of its answers and its failures.
  async engine() {
    const visit = await browser.newContext({ acceptDownloads: true });
    await visit.route(/worker\.js\?engine=author/, (route) =>
      route.fulfill({ body: ENGINE, contentType: "text/javascript" }),
    );
    const page = await open(visit);
    await give(page, pictures(3));
    await page.locator("#measure").click();
    await said(page, "Measured");
    const seen = { figures: await page.locator("#figures").innerText() };
    seen.out = await page.locator("#left-out-names li").allTextContents();
    await page.screenshot({ path: join(screenshots, "studio-figures.png"), fullPage: true });
    await page.locator(".found").first().click();
    seen.found = await page.evaluate(() => document.activeElement.getAttribute("aria-label"));
    await page.locator("#title").fill("Shapes");
    await page.keyboard.press("Enter");
    await page.waitForSelector("#figures.stale");
    const coming = page.waitForEvent("download");
    await page.locator("#save-site").click();
    await (await coming).saveAs(join(out, "answers.zip"));
    await said(page, "unpack it");
    await page.locator("#save-gallery").click();
    await said(page, "out of memory");
    seen.failed = await page.locator("#status").getAttribute("class");
    seen.problems = page.watched.problems;
    await visit.close();
    return seen;
  },
};

await playAll(scenarios, only, (scenario) => scenario(), async () => {
  host.close();
  await browser.close();
  rmSync(folder, { recursive: true });
});
