// Opens a published page over networks that are slow, break, or change under it; prints what it saw.
//
// node flaky.mjs SITE PICTURE
//   SITE  folder of the site, sent by a server in here
import { give, keepAnswers, launch, settle, watch } from "./chromium.mjs";
import { start } from "./host.mjs";
import { PATIENCE } from "./patience.mjs";

const [site, picture] = process.argv.slice(2);
const host = await start(site, /extractor.*\.safetensors$/);
// The service worker keeps the site for later, at a moment of its own.
host.ignored = /\/sw\.js$/;
const address = `${host.address}?backend=cpu&lang=en`;
const browser = await launch();

async function visit(during) {
  host.asked = [];
  const page = await (await browser.newContext()).newPage();
  const { problems } = watch(page);
  await keepAnswers(page);
  await page.goto(address);
  const extra = during ? await during(page) : {};
  await settle(page);
  const state = await page.locator("#status").getAttribute("class");
  if (state === "done") await give(page, picture);
  const answers = await page.locator("#answers h3 .label").allTextContents();
  const status = await page.locator("#status").textContent();
  await page.context().close();
  return { state, status, answers, asked: host.asked.map(({ range }) => range), problems, ...extra };
}

const seen = {};
seen.whole = await visit();
// Two breaks: each next try asks for what is missing.
host.breakAt = [300_000, 500_000];
seen.broken = await visit();
// A host that sends no parts: each next try begins anew.
Object.assign(host, { ranges: false, breakAt: [300_000] });
seen.noRanges = await visit();
// A host that always breaks.
Object.assign(host, { ranges: true, breakAt: Array(20).fill(1000) });
seen.hopeless = await visit();
// A slow host: the page says how far it is. A reload in the middle goes on from there.
Object.assign(host, { breakAt: null, bytesPerSecond: 300_000 });
seen.slow = await visit(async (page) => {
  const loading = () => /Loading ([\d.]+) of/.exec(document.querySelector("#status").textContent)?.[1];
  const first = await (await page.waitForFunction(loading, null, { timeout: PATIENCE })).jsonValue();
  await page.waitForTimeout(2000);
  const later = await page.evaluate(loading);
  const bar = await page.locator("#progress").isVisible();
  await page.reload();
  return { first: Number(first), later: Number(later), bar };
});
console.log(JSON.stringify(seen));
await browser.close();
host.close();
