// A page that answers one picture; prints the answers and what went wrong as JSON.
//
// node opens.mjs BROWSER SITE PICTURE
import { launchNamed } from "./browsers.mjs";
import { give, keepAnswers, settle, watch } from "./chromium.mjs";
import { start } from "./host.mjs";

const [which, site, picture] = process.argv.slice(2);
const host = await start(site, /^$/);
const browser = await launchNamed(which);
const page = await (await browser.newContext()).newPage();
const { problems } = watch(page);
await keepAnswers(page);
await page.goto(`${host.address}?backend=cpu&lang=en`);
await settle(page);
await give(page, picture);
const labels = await page.evaluate(() =>
  window.answers.at(-1).result.objects.map(({ answers }) => answers[0].label),
);
console.log(JSON.stringify({ labels, problems }));
await browser.close();
host.close();
