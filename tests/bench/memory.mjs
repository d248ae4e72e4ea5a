// Memory of a page with PP-ShiTu V2's pair of networks after a few runs: Magpie's CPU engine beside ONNX
// Runtime Web and LiteRT.js, as JSON lines.
//
// node memory.mjs FOLDER OURS NPM
//   FOLDER, OURS, NPM  as for networks.mjs
import { createRequire } from "node:module";
import { join } from "node:path";

import { serve } from "./serve.mjs";

const { chromium } = createRequire(new URL("../browser/", import.meta.url))("playwright-core");

const [folder, ours, npm] = process.argv.slice(2);
const imports = { "@litertjs/wasm-utils": "/npm/@litertjs/wasm-utils/dist/index.js" };
const server = await serve(
  { nets: folder, ours, npm: join(npm, "node_modules") },
  {
    page: `<!doctype html><script type="importmap">${JSON.stringify({ imports })}</script>`,
    // Only an isolated page is told what it takes.
    headers: {
      "Cross-Origin-Opener-Policy": "same-origin",
      "Cross-Origin-Embedder-Policy": "require-corp",
    },
  },
);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  // Memory is measured at once instead of at the next collection of garbage.
  args: [
    "--no-sandbox",
    "--disable-background-networking",
    "--enable-blink-features=ForceEagerMeasureMemory",
  ],
});

for (const runtime of ["magpie", "onnxruntime-web", "litert"]) {
  const page = await (await browser.newContext()).newPage();
  page.setDefaultTimeout(0);
  await page.goto(server.address);
  const figures = await page.evaluate(async (runtime) => {
    const bytes = async (name) => new Uint8Array(await (await fetch(`/nets/${name}`)).arrayBuffer());
    const RUNS = 5;
    const networks = [
      ["mainbody_640", 640],
      ["pp_lcnet_v2_shitu", 224],
    ];
    const measure = async () => (await performance.measureUserAgentSpecificMemory()).bytes;
    const empty = await measure();
    // Kept alive until the end.
    const kept = [];
    if (runtime === "magpie") {
      const module = await import("/ours/relaxed/networks.js");
      await module.default();
      for (const [name] of networks) {
        const network = module.Network.open(await bytes(`${name}.safetensors`));
        for (let run = 0; run < RUNS; run += 1) await network.run();
        kept.push(network);
      }
    } else if (runtime === "onnxruntime-web") {
      const ort = await import("/npm/onnxruntime-web/dist/ort.wasm.min.mjs");
      ort.env.wasm.numThreads = 1;
      ort.env.wasm.wasmPaths = "/npm/onnxruntime-web/dist/";
      for (const [name, side] of networks) {
        const options = { executionProviders: ["wasm"], graphOptimizationLevel: "all" };
        const session = await ort.InferenceSession.create(await bytes(`${name}.onnx`), options);
        const values = new Float32Array(side * side * 3).fill(0.5);
        const x = new ort.Tensor("float32", values, [1, 3, side, side]);
        for (let run = 0; run < RUNS; run += 1) await session.run({ x });
        kept.push(session);
      }
    } else {
      const { loadLiteRt, loadAndCompile, Tensor } = await import("/npm/@litertjs/core/dist/index.js");
      await loadLiteRt("/npm/@litertjs/core/wasm/", { threads: false });
      for (const [name, side] of networks) {
        const model = await loadAndCompile(await bytes(`${name}.tflite`), { accelerator: "wasm" });
        const x = new Tensor(new Float32Array(side * side * 3).fill(0.5), [1, side, side, 3]);
        for (let run = 0; run < RUNS; run += 1) {
          for (const result of await model.run([x])) result.delete();
        }
        kept.push(model);
      }
    }
    const bytesNow = await measure();
    return { networks: kept.length, empty_mb: empty / 1e6, page_mb: bytesNow / 1e6 };
  }, runtime);
  console.log(JSON.stringify({ runtime, ...figures }));
  await page.context().close();
}
await browser.close();
server.close();
