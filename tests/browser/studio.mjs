// The studio in headless Chromium: a folder of made-up pictures becomes classes, and what an owner does with them.
//
// node studio.mjs SITE STUDIO SCREENSHOTS OUT [SCENARIO,…]
//   STUDIO  the built studio, which lies below the site; the site's own where it is none
//   OUT     a folder for what the studio hands out
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32, deflateRawSync, deflateSync } from "node:zlib";

import { launch, watch } from "./chromium.mjs";
import { start } from "./host.mjs";
import { PATIENCE } from "./patience.mjs";
import { playAll } from "./scenarios.mjs";

const [site, studio, screenshots, out, only] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), "studio-"));
const browser = await launch();
const host = await start(site, /^$/);
if (studio) host.sites["/studio/"] = studio;

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
  stripes: (x, _y, at) => (x + at) % 16 < 8,
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

/** A ZIP archive of files by their paths, every second one by deflate. */
function zip(files) {
  const [parts, list] = [[], []];
  let at = 0;
  for (const [index, [path, content]] of Object.entries(files).entries()) {
    const name = Buffer.from(path);
    const packed = index % 2 ? deflateRawSync(content) : content;
    const head = Buffer.alloc(26);
    head.writeUInt16LE(20, 0);
    head.writeUInt16LE(1 << 11, 2);
    head.writeUInt16LE(index % 2 ? 8 : 0, 4);
    head.writeUInt32LE(crc32(content), 10);
    head.writeUInt32LE(packed.length, 14);
    head.writeUInt32LE(content.length, 18);
    head.writeUInt16LE(name.length, 22);
    parts.push(Buffer.from("PK\x03\x04"), head, name, packed);
    const place = Buffer.alloc(14);
    place.writeUInt32LE(at, 10);
    list.push(Buffer.from("PK\x01\x02"), Buffer.from([20, 0]), head, place, name);
    at += 30 + name.length + packed.length;
  }
  const listed = Buffer.concat(list);
  const end = Buffer.alloc(22);
  end.write("PK\x05\x06");
  end.writeUInt16LE(Object.keys(files).length, 8);
  end.writeUInt16LE(Object.keys(files).length, 10);
  end.writeUInt32LE(listed.length, 12);
  end.writeUInt32LE(at, 16);
  return Buffer.concat([...parts, listed, end]);
}

// A disk as AVIF, which the browser decodes for the engine.
const AVIF = Buffer.from(
  "AAAAHGZ0eXBhdmlmAAAAAG1pZjFhdmlmbWlhZgAAANZtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJp" +
    "bG9jAAAAAERAAAEAAQAAAAAA+gABAAAAAAAAALwAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABhdjAxAAAAAA5waXRtAAAAAAAB" +
    "AAAAVmlwcnAAAAA4aXBjbwAAAAxhdjFDgQAMAAAAABRpc3BlAAAAAAAAAGAAAABAAAAAEHBpeGkAAAAAAwgICAAAABZpcG1hAAAAAAAA" +
    "AAEAAQOBAgMAAADEbWRhdBIACgkYGW/+2QENBoQyrAFFWPDwvDiFBCBQyABA196sGsSiH1+yblJ9Pg/9Ai30jQRfD/65an6kccH4uyFv" +
    "y21whWkR/5nJwefK0R6Wyz+/Ptx9ayw4HEfYdqdgHjuWlQL3Fj1anNW8jUjwgvwWx2S7CoLMbBK4WcDX1OasCbzlmC7Zvv8K3b3KFOxo" +
    "Hpil5WV5yZoJ/3IesnGElrQGeG3xRYkGCoQiOaZnCdhubmA8plVa1/r8cnh5jOfA",
  "base64",
);

const shape = (name, at = 0) => png((x, y) => (SHAPES[name](x, y, at) ? COLORS[name] : [240, 240, 240 - at]));

// Each picture is read once more, as a browser does that has forgotten it.
const shown = (page) =>
  page.evaluate(async () => {
    const images = [...document.querySelectorAll(".photo img")];
    const again = images.map(async ({ src }) => {
      const image = new Image();
      image.src = src;
      return image.decode().then(() => true, () => false);
    });
    return (await Promise.all(again)).every((is) => is);
  });

const settled = (page, timeout = PATIENCE) =>
  page.waitForFunction(() => document.querySelector("#status").className !== "busy", null, { timeout });

const pictured = (page) =>
  page.waitForFunction(() => [...document.querySelectorAll(".photo img")].every((image) => image.naturalWidth));

// Rules of axe that a page breaks, serious and critical ones; it runs beside the page's policy.
const AXE = readFileSync(new URL("node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
async function axe(page) {
  await page.evaluate(AXE);
  return page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { resultTypes: ["violations"] });
    const grave = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
    return grave.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(" | ")}`);
  });
}

async function open(visit, address = `${host.address}studio/?lang=en`) {
  const page = await visit.newPage();
  // Machines that build beside it are slow.
  page.setDefaultTimeout(PATIENCE);
  const watched = watch(page);
  // The address may lead on to another one.
  await page.goto(address, { waitUntil: "commit" });
  await page.waitForFunction(() => (document.querySelector("#status")?.className ?? "busy") !== "busy");
  return Object.assign(page, { watched });
}

const said = (page, words) =>
  page.waitForFunction((words) => document.querySelector("#status").textContent.includes(words), words, {
    timeout: PATIENCE,
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
  let last = "";
  postMessage("Started");
  onmessage = async ({ data }) => {
    const [[name, request]] = Object.entries(data);
    const answer = (value) => postMessage(value);
    const figures = ({ photos }) => ({
      classes: [...new Set(photos.map(({ label }) => label))].map((label) => ({ label, photos: 4 })),
      photos: photos.length, left_out: [], crop: "never", recall: [[91.5, 2.5], null], open: null,
      map: { kept: true, of: 8, before: 5, after: 7 }, outliers: [{ photo: 3, class: 1, cosine: 0.1 }], few: [[2, 3]],
      curve: [0.2, 0.5, 0.8].map((threshold) => ({ threshold, false_accept: 1 - threshold, answered: 1, right: 1 - threshold / 2 })),
      mistaken: [{ classes: [0, 1], times: 1, of: 4, photos: [0, 5] }],
      suspects: [{ photo: 1, class: 0, looks: 2, near: [2], lead: 0.1 }], doubles: [],
    });
    if (name === "Open") answer({ Opened: { key: "k", values: 4, detects: false } });
    if (name === "Look" && request.name.includes("1.png")) {
      answer({ Failed: { id: 0, error: { kind: "Picture", message: "of one color" } } });
    } else if (name === "Look") answer({ Looked: { id: 0, content: "", record: new Uint8Array([1]), thumbnail: new Uint8Array() } });
    if (name === "Measure") last = request.project.photos.at(-1).content;
    if (name === "Know") {
      for (const record of request.records) known.add(record);
      answer({ Known: { photos: known.size } });
    }
    if (name === "Measure") answer({ Measured: { figures: figures(request.project) } });
    if (name === "Find") answer({ Found: { part: [0.1, 0.2, 0.6, 0.8] } });
    if (name === "Ask") {
      const similar = [{ content: last, label: "square", similarity: 0.9 }];
      answer({ Asked: { known: true, probability: 0.875, matches: [["square", 0.91], ["disk", 0.4]], similar } });
    }
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
    // Taken back and done again with the focus where the name was written.
    await page.keyboard.press("Control+z");
    await page.waitForSelector('.class[aria-label="disk"]');
    await page.keyboard.press("Control+Shift+z");
    await page.waitForSelector('.class[aria-label="coin"]');
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
    seen.rows = await page.locator("#left-out-names li").allTextContents();
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
    // The same on a class: where it is, and whether it is to be moved.
    await drop('.class[aria-label="shape"] h2', files.slice(0, 1));
    await page.waitForSelector("#offer:not([hidden])");
    seen.offer = await page.locator("#offer-says").textContent();
    await page.locator("#take").click();
    await said(page, "1 photograph is moved");
    seen.moved = await classes(page);
    seen.shown = await shown(page);
    await page.locator("#start-over").click();
    await page.locator("dialog[open] .primary").click();
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

  // A page that is loaded again at once has the name that was just written; a double breaks no picture.
  async hasty() {
    const visit = await browser.newContext({ viewport: { width: 1280, height: 900 } });
    const page = await open(visit);
    const shelf = pictures(2);
    await give(page, shelf);
    await page.waitForTimeout(800);
    const name = (label) => page.locator(`input[aria-label="Name of the class ${label}"]`);
    await name("disk").fill("coin");
    await page.keyboard.press("Enter");
    await page.reload();
    await said(page, "here again");
    const seen = { renamed: Object.keys(await classes(page)) };
    // What still stands in the field counts, too.
    await name("square").fill("tile");
    await page.reload();
    await said(page, "here again");
    seen.written = Object.keys(await classes(page));
    // And it is kept in its place from then on.
    await page.waitForTimeout(300);
    await page.reload();
    await said(page, "here again");
    seen.again = Object.keys(await classes(page));
    await pictured(page);
    await page.locator("#folder").setInputFiles(shelf);
    await page.waitForSelector("#offer:not([hidden])");
    seen.doubles = await status(page);
    seen.shown = await shown(page);
    await page.locator("#leave").click();
    await page.waitForSelector("#offer", { state: "hidden" });
    seen.problems = page.watched.problems;
    await visit.close();
    return seen;
  },

  // Archives: one with folders, one that is named after its class, one that is damaged.
  async archives() {
    const visit = await browser.newContext();
    const page = await open(visit);
    const broken = Buffer.from(zip({ "tin/1.png": shape("disk", 9) }));
    broken[60] ^= 1;
    const archives = {
      "shelf.zip": zip({ "my shelf/disk/1.png": shape("disk"), "my shelf/tüte/1.png": shape("square"), "my shelf/notes.txt": Buffer.from("words") }),
      "stripes.zip": zip({ "1.png": shape("stripes"), "2.png": shape("stripes", 3) }),
      "bad.zip": broken,
      "no.zip": Buffer.from("no archive"),
    };
    for (const [name, bytes] of Object.entries(archives)) {
      const file = join(folder, name);
      writeFileSync(file, bytes);
      await page.locator("#files").setInputFiles(file);
      await settled(page);
      await page.waitForTimeout(100);
      if (name === "bad.zip") archives.out = await page.locator("#left-out-names li").allTextContents();
    }
    const seen = { classes: await classes(page), out: archives.out, status: await status(page) };
    await pictured(page);
    seen.problems = page.watched.problems;
    await visit.close();
    return seen;
  },

  // A camera that moves, and one that stands still.
  async camera() {
    const visit = await browser.newContext();
    const page = await visit.newPage();
    const watched = watch(page);
    await page.addInitScript(() => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [320, 240];
      const context = canvas.getContext("2d");
      window.film = { moves: true };
      let step = 0;
      setInterval(() => {
        step += window.film.moves ? 1 : 0;
        context.fillStyle = "#ddd";
        context.fillRect(0, 0, 320, 240);
        context.fillStyle = "#a33";
        context.fillRect((step * 23) % 260, 40, 90, 120);
      }, 40);
      navigator.mediaDevices.getUserMedia = async () => canvas.captureStream(25);
    });
    await page.goto(`${host.address}studio/?lang=en`);
    await settled(page);
    await page.getByRole("button", { name: "Camera" }).first().click();
    await page.waitForFunction(() => document.querySelector("#film-video").videoWidth > 0);
    const hold = async (ms) => {
      const before = await page.locator(".photo").count();
      const { x, y, width, height } = await page.locator("#film-take").boundingBox();
      await page.mouse.move(x + width / 2, y + height / 2);
      await page.mouse.down();
      await page.waitForTimeout(ms);
      await page.mouse.up();
      await page.waitForFunction((before) => document.querySelectorAll(".photo").length > before, before);
      await settled(page);
      return (await page.locator(".photo").count()) - before;
    };
    const seen = { moving: await hold(1200) };
    await page.evaluate(() => {
      window.film.moves = false;
    });
    await page.waitForTimeout(200);
    seen.still = await hold(700);
    // By keyboard as well.
    await page.evaluate(() => {
      window.film.moves = true;
    });
    await page.locator("#film-take").focus();
    const before = await page.locator(".photo").count();
    await page.keyboard.down("Space");
    await page.waitForTimeout(500);
    await page.keyboard.up("Space");
    await page.waitForFunction((before) => document.querySelectorAll(".photo").length > before, before);
    seen.said = await page.locator("#film-says").textContent();
    await page.screenshot({ path: join(screenshots, "studio-camera.png") });
    await page.locator("#film-close").click();
    await page.waitForFunction(() => document.querySelector("#film-video").srcObject === null);
    seen.off = true;
    seen.problems = watched.problems;
    await visit.close();
    return seen;
  },

  // A part of a photograph, by pointer and by numbers; several projects.
  async parts() {
    const visit = await browser.newContext({ viewport: { width: 1280, height: 900 } });
    const page = await open(visit);
    await give(page, pictures(2));
    await pictured(page);
    const seen = {};
    await photo(page, "disk", "0.png").focus();
    await page.keyboard.press("c");
    await page.waitForFunction(() => document.querySelector("#crop-image").naturalWidth > 0);
    const box = await page.locator("#crop-stage").boundingBox();
    const at = (x, y) => [box.x + x * box.width, box.y + y * box.height];
    await page.mouse.move(...at(0.2, 0.1));
    await page.mouse.down();
    await page.mouse.move(...at(0.7, 0.9), { steps: 4 });
    await page.mouse.up();
    const edges = () => page.locator(".edges input").evaluateAll((fields) => fields.map(({ value }) => Number(value)));
    seen.drawn = await edges();
    await page.screenshot({ path: join(screenshots, "studio-part.png") });
    await page.locator("#crop-left").fill("30");
    await page.locator("#crop-use").click();
    await said(page, "Only this part");
    seen.named = await page.locator(".photo[data-part]").getAttribute("aria-label");
    await page.waitForTimeout(800);
    await page.reload();
    await said(page, "here again");
    await page.locator(".photo[data-part]").dblclick();
    await page.waitForFunction(() => document.querySelector("#crop-image").naturalWidth > 0);
    seen.kept = await edges();
    await page.locator("#crop-whole").click();
    await said(page, "as all others do");
    seen.parts = await page.locator(".photo[data-part]").count();
    // Another project has other photographs, and this one waits.
    await page.locator("#title").fill("Shapes");
    await page.keyboard.press("Enter");
    await Promise.all([page.waitForNavigation(), page.locator("#new-project").click()]);
    await said(page, "Add photographs to begin");
    seen.empty = await classes(page);
    seen.projects = await page.locator("#projects option").allTextContents();
    await Promise.all([page.waitForNavigation(), page.locator("#projects").selectOption({ label: "Shapes" })]);
    await said(page, "here again");
    seen.back = Object.keys(await classes(page));
    await pictured(page);
    await Promise.all([page.waitForNavigation(), page.locator("#projects").selectOption({ index: 1 })]);
    await said(page, "Add photographs to begin");
    await page.locator("#remove-project").click();
    await Promise.all([page.waitForNavigation(), page.locator("dialog[open] .primary").click()]);
    await said(page, "here again");
    seen.left = await page.locator("#projects option").allTextContents();
    seen.problems = page.watched.problems;
    await visit.close();
    return seen;
  },

  // What axe says of every state, wide and narrow, light and dark, in both languages. Windows are as high as the page, so
  // that all of it is drawn.
  async axe() {
    const seen = { problems: [] };
    for (const [language, options] of [
      ["en", { viewport: { width: 1280, height: 2600 } }],
      ["zh", { viewport: { width: 390, height: 3600 }, colorScheme: "dark", hasTouch: true, isMobile: true }],
    ]) {
      const visit = await browser.newContext(options);
      await visit.route(/worker\.js\?engine=author/, (route) =>
        route.fulfill({ body: ENGINE, contentType: "text/javascript" }),
      );
      const page = await open(visit, `${host.address}studio/?lang=${language}`);
      const look = async (state) => {
        const found = await axe(page);
        if (found.length) seen[`${language} ${state}`] = found;
      };
      await look("empty");
      await page.locator("#folder").setInputFiles(pictures(3));
      await page.waitForSelector(".photo");
      await settled(page);
      await pictured(page);
      await look("classes");
      await page.locator("#measure").click();
      await page.waitForSelector("#figures:not([hidden])");
      await settled(page);
      for (const details of await page.locator("#make details").all()) await details.evaluate((details) => (details.open = true));
      await look("figures");
      seen[`overflow ${language}`] = await overflow(page);
      await page.screenshot({ path: join(screenshots, `studio-all-${language}.png`) });
      await page.locator(".photo").nth(2).focus();
      await page.keyboard.press("c");
      await page.waitForFunction(() => document.querySelector("#crop-image").naturalWidth > 0);
      await look("part");
      await page.screenshot({ path: join(screenshots, `studio-part-${language}.png`) });
      await page.locator("#crop-close").click();
      seen.problems.push(...page.watched.problems);
      await visit.close();
    }
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
    const seen = { figures: await page.locator("#figures").textContent() };
    seen.out = await page.locator("#left-out-names li").allTextContents();
    await page.screenshot({ path: join(screenshots, "studio-figures.png"), fullPage: true });
    await page.locator(".found").first().click();
    seen.found = await page.evaluate(() => document.activeElement.getAttribute("aria-label"));
    await page.locator("#title").fill("Shapes");
    await page.keyboard.press("Enter");
    await page.waitForSelector("#figures.stale");
    // They renew themselves, and nobody has to wait.
    await page.waitForSelector("#figures:not(.stale)");
    const picture = join(folder, "new.png");
    writeFileSync(picture, shape("square", 7));
    await page.locator("#picture").setInputFiles(picture);
    await said(page, "The answer stands below");
    seen.tried = await page.locator("#tried").textContent();
    seen.asked = await page.evaluate(() => document.querySelector("#tried img.asked").naturalWidth);
    // The site as files of a folder: the browser's own stands in for one of the disk.
    await page.evaluate(() => {
      window.showDirectoryPicker = async () => (await navigator.storage.getDirectory()).getDirectoryHandle("chosen", { create: true });
    });
    await page.locator("#write-site").click();
    await said(page, "The site is in the folder");
    seen.written = await page.evaluate(async () => {
      const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("chosen");
      const bundle = await folder.getDirectoryHandle("bundle");
      const text = async (folder, name) => (await (await folder.getFileHandle(name)).getFile()).text();
      return [(await text(folder, "index.html")).slice(0, 9), await text(bundle, "of.txt")];
    });
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

  // The published engine: figures, and the site as an archive.
  async site() {
    const visit = await browser.newContext({ acceptDownloads: true });
    const page = await open(visit);
    const shelf = pictures(5);
    writeFileSync(join(shelf, "disk", "5.avif"), AVIF);
    await give(page, shelf);
    await page.locator("#measure").click();
    await page.waitForFunction(() => document.querySelector("#status").className !== "busy", null, { timeout: PATIENCE });
    const seen = { measured: await status(page), figures: await page.locator("#figures").textContent() };
    seen.disks = (await classes(page)).disk.length;
    seen.unusable = await page.locator("#left-out-names li").allTextContents();
    await page.screenshot({ path: join(screenshots, "studio-measured.png"), fullPage: true });
    for (const [button, name] of [["#save-site", "site.zip"], ["#save-gallery", "gallery.bin"]]) {
      const coming = page.waitForEvent("download", { timeout: PATIENCE });
      await page.locator(button).click();
      await (await coming).saveAs(join(out, name));
      await page.waitForFunction(() => document.querySelector("#status").className !== "busy");
    }
    seen.saved = await status(page);
    // A picture that is not in it.
    const picture = join(folder, "new.png");
    writeFileSync(picture, shape("stripes", 3));
    await page.locator("#picture").setInputFiles(picture);
    await said(page, "The answer stands below");
    seen.tried = await page.locator("#tried").textContent();
    await page.screenshot({ path: join(screenshots, "studio-tried.png"), fullPage: true });
    // The gallery comes back without loss, from its file and from the site.
    seen.before = Object.keys(await classes(page)).sort();
    for (const [file, again] of [["gallery.bin", "again.bin"], ["site.zip", "once-more.bin"]]) {
      await page.locator("#start-over").click();
      await page.locator("dialog[open] .primary").click();
      await page.waitForFunction(() => !document.querySelector(".photo"));
      await page.locator("#files").setInputFiles(join(out, file));
      await said(page, "The gallery is open");
      seen[file] = Object.keys(await classes(page)).sort();
      const coming = page.waitForEvent("download", { timeout: PATIENCE });
      await page.locator("#save-gallery").click();
      await (await coming).saveAs(join(out, again));
      await settled(page);
    }
    await page.waitForTimeout(800);
    await page.reload();
    await said(page, "here again");
    await pictured(page);
    await page.screenshot({ path: join(screenshots, "studio-opened.png"), fullPage: true });
    seen.problems = page.watched.problems;
    await visit.close();
    return seen;
  },

  // A studio without a published site: its first page leads to it, and without a network it makes a site all the same.
  async alone() {
    const visit = await browser.newContext({ acceptDownloads: true });
    const page = await open(visit, host.address);
    const seen = { begun: await status(page), address: new URL(page.url()).pathname };
    // Everything is kept once the browser says so; a page that it keeps is then opened without the host.
    await page.evaluate(async () => {
      await navigator.serviceWorker.ready;
      const list = await (await fetch("../precache.json")).json();
      const names = [...list.page, ...Object.values(list.engines).flat(), ...list.bundle, ...list.studio];
      const isKept = (name) => caches.match(new URL(`../${name}`, location.href).href);
      for (const begun = Date.now(); Date.now() - begun < 120_000; ) {
        if ((await Promise.all(names.map(isKept))).every(Boolean)) return;
        await new Promise((next) => setTimeout(next, 200));
      }
      throw new Error("not everything is kept");
    });
    host.gone = true;
    await page.goto(host.address, { waitUntil: "commit" });
    await page.waitForURL("**/studio/");
    await page.waitForFunction(() => (document.querySelector("#status")?.className ?? "busy") !== "busy");
    seen.offline = await status(page);
    await give(page, pictures(3));
    await page.locator("#title").fill("Shapes");
    await page.keyboard.press("Enter");
    const coming = page.waitForEvent("download");
    await page.locator("#save-site").click();
    await (await coming).saveAs(join(out, "site.zip"));
    await said(page, "unpack it");
    host.gone = false;
    // What the browser says of a host that is away is no fault of the page.
    seen.problems = page.watched.problems.filter((problem) => !problem.includes("net::ERR_"));
    seen.origins = page.watched.origins.size;
    await visit.close();
    return seen;
  },
};

await playAll(scenarios, only, (scenario) => scenario(), async () => {
  host.close();
  await browser.close();
  rmSync(folder, { recursive: true });
});
