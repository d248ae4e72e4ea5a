// Networks in Chromium: Magpie's CPU engine beside ONNX Runtime Web and LiteRT.js, as JSON lines.
//
// node networks.mjs FOLDER RUNS OURS NPM [RUNTIME[,RUNTIME…] [NETWORK[,NETWORK…]]]
//   FOLDER   NETWORK.safetensors, .onnx, .tflite and .answer.f32, see `cargo xtask bench engine`
//   OURS     folder with simd128/, relaxed/ and threads/, each with networks.js as wasm-bindgen leaves it
//   NPM      folder with node_modules: onnxruntime-web, @litertjs/core
import { readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { serve } from "./serve.mjs";

const { chromium } = createRequire(new URL("../browser/", import.meta.url))("playwright-core");

const [folder, runs, ours, npm, wanted, only] = process.argv.slice(2);
const www = fileURLToPath(new URL("../../www/", import.meta.url));
const bench = fileURLToPath(new URL("./", import.meta.url));
const roots = { nets: folder, ours, www, bench, npm: join(npm, "node_modules") };
const imports = { "@litertjs/wasm-utils": "/npm/@litertjs/wasm-utils/dist/index.js" };
const server = await serve(roots, {
  page: `<!doctype html><script type="importmap">${JSON.stringify({ imports })}</script>`,
  // Shared memory, for runtimes that have threads.
  headers: {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
  },
});

const networks = readdirSync(folder)
  .filter((name) => name.endsWith(".safetensors"))
  .map((name) => name.replace(".safetensors", ""))
  .filter((name) => !only || only.split(",").includes(name));
// A runtime's name ends with its number of threads, where that is not one.
const alone = "magpie simd128,magpie relaxed,onnxruntime-web,litert";
const runtimes = (wanted ?? `${alone},magpie threads*2,onnxruntime-web*2,litert*2`).split(",");

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-background-networking"],
});

async function measure(runtime, network) {
  const context = await browser.newContext();
  const page = await context.newPage();
  page.on("pageerror", (error) => console.error(runtime, String(error)));
  await page.goto(server.address);
  const figures = await page.evaluate(
    async ([named, network, runs]) => {
      const [runtime, threads] = [named.split("*")[0], Number(named.split("*")[1] ?? 1)];
      const bytes = async (name) => new Uint8Array(await (await fetch(`/nets/${name}`)).arrayBuffer());
      const side = /_640/.test(network) ? 640 : /_320/.test(network) ? 320 : 224;
      // The picture that Magpie draws for itself, normalised.
      const pixels = (channelsFirst) => {
        const [mean, deviation] = [
          [0.485, 0.456, 0.406],
          [0.229, 0.224, 0.225],
        ];
        const values = new Float32Array(side * side * 3);
        for (let index = 0; index < values.length; index++) {
          const [pixel, channel] = [Math.floor(index / 3), index % 3];
          const value = (((index * 7) % 251) / 255 - mean[channel]) / deviation[channel];
          values[channelsFirst ? channel * side * side + pixel : index] = value;
        }
        return values;
      };
      const start = performance.now();
      let run;
      if (runtime === "magpie threads") {
        const worker = new Worker("/bench/networks_worker.mjs", { type: "module" });
        const ask = (message) =>
          new Promise((resolve, reject) => {
            worker.onmessage = ({ data }) => resolve(data);
            worker.onerror = (event) => reject(new Error(event.message));
            worker.postMessage(message);
          });
        const source = "/ours/threads/networks.js";
        await ask({ source, bytes: await bytes(`${network}.safetensors`), threads });
        run = () => ask("run");
      } else if (runtime.startsWith("magpie")) {
        const module = await import(`/ours/${runtime.split(" ")[1]}/networks.js`);
        await module.default();
        const opened = module.Network.open(await bytes(`${network}.safetensors`));
        run = () => opened.run();
      } else if (runtime === "onnxruntime-web") {
        const ort = await import("/npm/onnxruntime-web/dist/ort.wasm.min.mjs");
        ort.env.wasm.numThreads = threads;
        ort.env.wasm.wasmPaths = "/npm/onnxruntime-web/dist/";
        const session = await ort.InferenceSession.create(await bytes(`${network}.onnx`), {
          executionProviders: ["wasm"],
          graphOptimizationLevel: "all",
        });
        const x = new ort.Tensor("float32", pixels(true), [1, 3, side, side]);
        run = async () => (await session.run({ x })).y.data;
      } else if (runtime === "litert") {
        const { loadLiteRt, loadAndCompile, Tensor } = await import("/npm/@litertjs/core/dist/index.js");
        await loadLiteRt("/npm/@litertjs/core/wasm/", { threads: threads > 1 });
        const model = await loadAndCompile(await bytes(`${network}.tflite`), { accelerator: "wasm", ...(threads > 1 && { cpuOptions: { numThreads: threads } }) });
        const x = new Tensor(pixels(false), [1, side, side, 3]);
        run = async () => {
          const results = await model.run([x]);
          const values = results[0].toTypedArray().slice();
          results.forEach((result) => result.delete());
          return values;
        };
      }
      const first = await run();
      const cold = performance.now() - start;
      const times = [];
      const until = performance.now() + 20_000;
      for (let round = 0; round < runs && performance.now() < until; round++) {
        const start = performance.now();
        await run();
        times.push(performance.now() - start);
      }
      times.sort((a, b) => a - b);
      const expected = new Float32Array((await bytes(`${network}.answer.f32`)).buffer);
      let [apart, scale] = [0, 0];
      for (let index = 0; index < expected.length; index++) {
        apart = Math.max(apart, Math.abs(expected[index] - first[index]));
        scale = Math.max(scale, Math.abs(expected[index]));
      }
      if (first.length !== expected.length || !(apart <= 1e-3 * scale)) {
        throw new Error(`${runtime} on ${network}: ${first.length} values, off by ${apart}`);
      }
      return {
        median_ms: times[times.length >> 1],
        least_ms: times[0],
        p95_ms: times[Math.floor(times.length * 0.95)],
        first_answer_ms: cold,
        runs: times.length,
      };
    },
    [runtime, network, Number(runs)],
  );
  await context.close();
  const [name, threads] = [runtime.split("*")[0], Number(runtime.split("*")[1] ?? 1)];
  console.log(JSON.stringify({ network, runtime: name, threads, ...figures }));
}

for (const network of networks) {
  for (const runtime of runtimes) {
    try {
      await measure(runtime, network);
    } catch (error) {
      console.error(`${runtime} on ${network}: ${String(error).split("\n")[0]}`);
    }
  }
}
await browser.close();
server.close();
