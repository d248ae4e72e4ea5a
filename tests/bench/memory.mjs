// Memory of a page with networks after a few runs: Magpie's CPU engine beside ONNX Runtime Web, LiteRT.js and
// TensorFlow.js, as JSON lines.
//
// node memory.mjs FOLDER OURS NPM NETWORK[,NETWORK…]
//   FOLDER, OURS, NPM  as for networks.mjs
import { launch } from "../browser/chromium.mjs";
import { serveRuntimes } from "./serve.mjs";

const [folder, ours, npm, networks] = process.argv.slice(2);
// Only an isolated page is told what it takes.
const server = await serveRuntimes(folder, ours, npm);
// Memory is measured at once instead of at the next collection of garbage.
const browser = await launch(["--enable-blink-features=ForceEagerMeasureMemory"]);

for (const runtime of ["magpie relaxed", "onnxruntime-web", "litert.js", "tensorflow.js"]) {
  const page = await (await browser.newContext()).newPage();
  page.setDefaultTimeout(0);
  await page.goto(server.address);
  const figures = await page.evaluate(async ([runtime, networks]) => {
    const { open } = await import("/bench/runtimes.mjs");
    const measure = async () => (await performance.measureUserAgentSpecificMemory()).bytes;
    const empty = await measure();
    // Kept alive until the end.
    const kept = [];
    for (const network of networks) {
      const run = await open(runtime, network);
      for (let time = 0; time < 5; time += 1) await run();
      kept.push(run);
    }
    const bytesNow = await measure();
    return { networks: kept.length, empty_mb: empty / 1e6, page_mb: bytesNow / 1e6 };
  }, [runtime, networks.split(",")]);
  console.log(JSON.stringify({ runtime, ...figures }));
  await page.context().close();
}
await browser.close();
server.close();
