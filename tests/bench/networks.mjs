// Networks in Chromium: Magpie's engines beside ONNX Runtime Web, LiteRT.js and TensorFlow.js, as JSON
// lines.
//
// node networks.mjs FOLDER RUNS OURS NPM [RUNTIME[,RUNTIME…] [NETWORK[,NETWORK…]]]
//   FOLDER   NETWORK.safetensors, .onnx, .tflite, .json and .answer.f32 (and _i8 of the first and third), see `cargo xtask bench engine`
//   OURS     folder with simd128/, relaxed/, threads/ and webgpu/, each with networks.js as wasm-bindgen leaves it
//   NPM      folder with node_modules of these
import { readdirSync } from "node:fs";
import { launch } from "../browser/chromium.mjs";
import { serveRuntimes } from "./serve.mjs";

const [folder, runs, ours, npm, wanted, only] = process.argv.slice(2);
const server = await serveRuntimes(folder, ours, npm);

const networks = readdirSync(folder)
  .filter((name) => name.endsWith(".safetensors") && !name.endsWith("_i8.safetensors"))
  .map((name) => name.replace(".safetensors", ""))
  .filter((name) => !only || only.split(",").includes(name));
// A runtime's name ends with its number of threads, where that is not one.
const peers = ["onnxruntime-web", "litert.js", "tensorflow.js"];
const numbers = "litert.js i8";
const alone = ["magpie simd128", "magpie relaxed", "magpie relaxed i8", ...peers, numbers];
const both = ["magpie threads", "magpie threads i8", ...peers, numbers].map((name) => `${name}*2`);
const graphics = ["magpie", ...peers].map((name) => `${name} webgpu`);
const runtimes = wanted?.split(",") ?? [...alone, ...both, ...graphics];

const browser = await launch();

async function measure(named, network) {
  const [runtime, count = "1"] = named.split("*");
  const threads = Number(count);
  const context = await browser.newContext();
  const page = await context.newPage();
  page.on("pageerror", (error) => console.error(runtime, String(error)));
  await page.goto(server.address);
  const figures = await page.evaluate(
    async ([runtime, threads, network, runs]) => {
      const { open } = await import("/bench/runtimes.mjs");
      const start = performance.now();
      const run = await open(runtime, network, threads);
      const first = await run();
      const cold = performance.now() - start;
      // Browsers compile what runs often once more, better, beside the first runs.
      for (const warm = performance.now() + 1000; performance.now() < warm; ) await run();
      const times = [];
      const until = performance.now() + 20_000;
      for (let round = 0; round < runs && performance.now() < until; round++) {
        const start = performance.now();
        await run();
        times.push(performance.now() - start);
      }
      times.sort((a, b) => a - b);
      const answer = await fetch(`/nets/${network}.answer.f32`);
      const expected = new Float32Array(await answer.arrayBuffer());
      let [apart, scale] = [0, 0];
      for (let index = 0; index < expected.length; index++) {
        apart = Math.max(apart, Math.abs(expected[index] - first[index]));
        scale = Math.max(scale, Math.abs(expected[index]));
      }
      // Drawn weights make int8 look worse than weights that were learned.
      const most = runtime.endsWith(" i8") ? 1 : 1e-3;
      if (first.length !== expected.length || !(apart <= most * scale)) {
        throw new Error(`${runtime} on ${network}: ${first.length} values, off by ${apart}`);
      }
      return {
        median_ms: times[times.length >> 1],
        least_ms: times[0],
        p95_ms: times[Math.floor(times.length * 0.95)],
        first_answer_ms: cold,
        runs: times.length,
        apart: apart / scale,
      };
    },
    [runtime, threads, network, Number(runs)],
  );
  await context.close();
  console.log(JSON.stringify({ network, runtime, threads, ...figures }));
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
