// The package in a page of a site, for measurements that take long.
import { launch, watch } from "./chromium.mjs";
import { ISOLATED, start } from "./host.mjs";

/** An isolated page beside the package's module: only such a one is told what memory it takes. */
export async function openMeasured(site) {
  const host = await start(site, /^$/);
  host.headers = ISOLATED;
  const browser = await launch();
  const page = await (await browser.newContext()).newPage();
  page.setDefaultTimeout(0);
  const { problems } = watch(page);
  await page.goto(`${host.address}bench/`);
  const close = async () => {
    await browser.close();
    host.close();
  };
  return { page, problems, close };
}
