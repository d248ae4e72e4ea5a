// Drives a published page in headless Chromium and prints what it saw as one JSON line.
//
// node page.mjs ADDRESS SCREENSHOT_FOLDER SCENARIO…
//   recognize:BACKEND:PICTURE   gives PICTURE to the file input
//   plain:BACKEND:PICTURE       the same in a browser that knows no relaxed SIMD
//   open:BACKEND                only loads
//   offline:BACKEND:PICTURE:PID loads, ends the server, loads again, gives PICTURE
//   publish:BACKEND:NEW:OLD     loads, then puts a newer manifest in the old one's place
//   teach:BACKEND:PICTURE:FILE  teaches what is on PICTURE, renames, undoes, saves to FILE, resets
import { copyFile } from "node:fs/promises";

import { give, keepAnswers, launch, saying, settle, watch } from "./chromium.mjs";
import { PATIENCE } from "./patience.mjs";

const [address, screenshots, ...scenarios] = process.argv.slice(2);

const browser = await launch();

// What a visitor does to the gallery, and what the page said to it.
async function teach(page, picture, file, screenshot) {
  const seen = [];
  const note = async (what) => {
    seen.push({
      what,
      status: await page.locator("#status").textContent(),
      first: await page.locator("#answers h3 .label").first().textContent().catch(() => null),
      size: await page.locator("#gallery").textContent(),
      kept: await page.locator("#kept").textContent(),
      classes: await page.locator("#classes .name").allTextContents(),
      undo: await page.locator("#undo").isEnabled(),
      reset: await page.locator("#reset").isEnabled(),
    });
  };
  const said = (words) => saying(page, words);
  await give(page, picture);
  await note("recognized");
  // By keyboard alone.
  await page.locator(".correction button").first().focus();
  await page.keyboard.press("Enter");
  await page.keyboard.type("  My <b>thing</b> ");
  await page.keyboard.press("Enter");
  await said("Learned");
  await note("taught");
  await page.screenshot({ path: screenshot("taught") });
  await page.reload();
  await settle(page);
  await give(page, picture);
  await note("came back");
  await page.locator("#gallery-panel summary").click();
  await page.locator("#class-search").fill("my <b>");
  await page.waitForFunction(() => document.querySelectorAll("#classes .class").length === 1);
  await note("searched");
  await page.screenshot({ path: screenshot("panel") });
  await page.locator("#edit").click();
  await page.getByRole("button", { name: "Rename My" }).click();
  await page.locator("dialog input").fill("Our thing");
  await page.keyboard.press("Enter");
  await said("Renamed");
  await note("renamed");
  const download = page.waitForEvent("download");
  await page.locator("#export").click();
  await (await download).saveAs(file);
  await page.locator("#class-search").fill("our thing");
  await page.getByRole("button", { name: "Remove Our thing" }).click();
  await page.locator("dialog .primary").click();
  await said("Removed");
  await note("removed");
  await page.locator("#undo").click();
  await said("taken back");
  await note("undone");
  await page.locator("#reset").click();
  await page.locator("dialog .primary").click();
  await said("what was published");
  await note("reset");
  await page.locator("#import").setInputFiles(file);
  await said("added from the file");
  await note("imported");
  await page.locator("#import").setInputFiles(picture);
  await said("stays as it was");
  await note("refused");
  await page.reload();
  await settle(page);
  await give(page, picture);
  await note("kept");
  return seen;
}

const results = [];
for (const [index, scenario] of scenarios.entries()) {
  const [action, backend, picture, file] = scenario.split(":");
  const context = await browser.newContext({
    viewport: { width: 1100, height: 900 },
    reducedMotion: "reduce",
  });
  const page = await context.newPage();
  const { problems, origins } = watch(page);
  await keepAnswers(page);
  if (action === "plain") {
    await page.addInitScript(() => {
      // Its opcodes begin with 0xfd and one above 0x100: two bytes of which the second is 0x02.
      const { validate } = WebAssembly;
      WebAssembly.validate = (bytes) => {
        const relaxed = [...bytes].some((byte, at) => byte === 0xfd && bytes[at + 1] >= 0x80 && bytes[at + 2] === 0x02);
        return !relaxed && validate(bytes);
      };
    });
  }
  const modules = [];
  page.on("request", (request) => {
    if (request.url().endsWith(".wasm")) modules.push(new URL(request.url()).pathname);
  });
  const result = { scenario, modules };
  try {
    await page.goto(`${address}?backend=${backend}`);
    const status = page.locator("#status");
    await settle(page);
    result.adapter = await page.evaluate(async () => {
      const adapter = await navigator.gpu?.requestAdapter();
      return adapter ? { fallback: adapter.info?.isFallbackAdapter ?? null } : null;
    });
    if (action === "recognize" || action === "plain") {
      await give(page, picture);
      result.answer = await page.evaluate(() => {
        const answer = window.answers.at(-1);
        if (!answer) return null;
        return {
          width: answer.result.width,
          height: answer.result.height,
          timings: answer.result.timings,
          objects: answer.result.objects.map((object) => ({
            bbox: Array.from(object.bbox),
            known: object.known,
            embedding: Array.from(object.embedding),
            answers: object.answers.map(({ label, similarity, thumbnail }) => ({
              label,
              similarity,
              thumbnail: thumbnail.length,
            })),
          })),
        };
      });
      // Objects of the same class share a card.
      result.cards = await page.evaluate(() => {
        const counts = [...document.querySelectorAll("#answers .card")].map((card) => Number(card.dataset.count));
        return counts.reduce((sum, count) => sum + count, 0);
      });
      result.boxes = await page.locator("#boxes .box").count();
      result.headings = await page.locator("#answers h3 .label").allTextContents();
      result.timings = await page.locator("#timings").textContent();
    }
    if (action === "teach") {
      const screenshot = (name) => `${screenshots}/teach-${name}-${backend}.png`;
      result.seen = await teach(page, picture, file, screenshot);
    }
    if (action === "publish") {
      // Somebody publishes while the page is open; it looks again when it is looked at again.
      await copyFile(picture, file);
      await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
      await saying(page, "newer gallery");
      result.size = await page.locator("#gallery").textContent();
    }
    if (action === "offline") {
      const kept = () => document.querySelector("#offline").textContent !== "";
      await page.waitForFunction(kept, null, { timeout: PATIENCE });
      // What was on its way when the network went is of no matter.
      await page.waitForLoadState("networkidle");
      // The browser's own switch leaves service workers their network; a host that is gone does not.
      process.kill(Number(file));
      await page.reload();
      await settle(page);
      await give(page, picture);
      result.headings = await page.locator("#answers h3 .label").allTextContents();
      result.caches = await page.evaluate(() => caches.keys());
      // A file that is not kept: with a network the host would say 404.
      result.away = await page.evaluate(() => fetch("not-kept").then(() => false, () => true));
    }
    result.status = await status.textContent();
    result.state = await status.getAttribute("class");
    result.words = await page.locator("#own-words").textContent();
    result.title = await page.title();
    result.samples = await page.locator("#samples button").count();
    await page.screenshot({ path: `${screenshots}/${index + 1}-${action}-${backend}.png` });
    await page.setViewportSize({ width: 360, height: 780 });
    result.overflow = await page.evaluate(
      () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
    );
    await page.emulateMedia({ colorScheme: "dark" });
    await page.screenshot({ path: `${screenshots}/${index + 1}-${action}-${backend}-phone.png` });
  } catch (error) {
    result.failure = String(error);
    result.status = await page.locator("#status").textContent().catch(() => null);
  }
  result.problems = problems;
  result.origins = [...origins];
  results.push(result);
  await context.close();
}
await browser.close();
console.log(JSON.stringify(results));
