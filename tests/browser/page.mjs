// Drives a published page in headless Chromium and prints what it saw as one JSON line.
//
// node page.mjs ADDRESS SCREENSHOT_FOLDER SCENARIO…
//   recognise:BACKEND:PICTURE   gives PICTURE to the file input
//   open:BACKEND                only loads
import { chromium } from "playwright-core";

const [address, screenshots, ...scenarios] = process.argv.slice(2);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // The software adapter stands in for a GPU.
    "--enable-unsafe-webgpu",
    "--enable-features=Vulkan",
    "--use-webgpu-adapter=swiftshader",
  ],
});

const results = [];
for (const [index, scenario] of scenarios.entries()) {
  const [action, backend, picture] = scenario.split(":");
  const context = await browser.newContext({
    viewport: { width: 1100, height: 900 },
    reducedMotion: "reduce",
  });
  const page = await context.newPage();
  const problems = [];
  const origins = new Set();
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) {
      problems.push(message.text());
    }
  });
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("request", (request) => origins.add(new URL(request.url()).origin));
  // The worker's answers, as the page receives them.
  await page.addInitScript(() => {
    const Original = window.Worker;
    window.answers = [];
    window.Worker = class extends Original {
      constructor(...argument) {
        super(...argument);
        this.addEventListener("message", (event) => {
          if (event.data?.Recognized) {
            window.answers.push(event.data.Recognized);
          }
        });
      }
    };
  });
  const result = { scenario };
  try {
    await page.goto(`${address}?backend=${backend}`);
    const status = page.locator("#status");
    const settled = page.waitForFunction(
      () => ["done", "failed"].includes(document.querySelector("#status").className),
      null,
      { timeout: 240_000 },
    );
    await settled;
    result.adapter = await page.evaluate(async () => {
      const adapter = await navigator.gpu?.requestAdapter();
      return adapter ? { fallback: adapter.info?.isFallbackAdapter ?? null } : null;
    });
    if (action === "recognise") {
      await page.locator("#file").setInputFiles(picture);
      await page.waitForFunction(
        () =>
          document.querySelector("#status").className === "failed" ||
          window.answers.length > 0,
        null,
        { timeout: 480_000 },
      );
      await page.waitForTimeout(200);
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
      result.cards = await page.locator("#answers .card").count();
      result.boxes = await page.locator("#boxes .box").count();
      result.headings = await page.locator("#answers h3 .label").allTextContents();
      result.timings = await page.locator("#timings").textContent();
    }
    result.status = await status.textContent();
    result.state = await status.getAttribute("class");
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
