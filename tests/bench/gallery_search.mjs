// The gallery's index beside hnswlib-wasm, edgevec, voy and a plain loop, in one Chromium, as JSON lines.
//
// node gallery_search.mjs FOLDER DIM K OURS NPM
//   FOLDER   vectors.f32 and queries.f32, as gallery_search.py makes them
//   OURS     folder of gallery_search.js, as wasm-bindgen leaves it
//   NPM      folder with node_modules: hnswlib-wasm, edgevec, voy-search
import { createRequire } from "node:module";
import { join } from "node:path";

import { serve } from "./serve.mjs";

const { chromium } = createRequire(new URL("../browser/", import.meta.url))("playwright-core");

const [folder, dim, k, ours, npm] = process.argv.slice(2);
const roots = { data: folder, ours, npm: join(npm, "node_modules") };
const server = await serve(roots);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-background-networking"],
});

async function measure(what) {
  const page = await (await browser.newContext()).newPage();
  page.on("pageerror", (error) => console.error(what, String(error)));
  await page.goto(server.address);
  const figures = await page.evaluate(
    async ([what, dim, k]) => {
      const floats = async (name) =>
        new Float32Array(await (await fetch(`/data/${name}`)).arrayBuffer());
      const [rows, queries] = [await floats("vectors.f32"), await floats("queries.f32")];
      const count = rows.length / dim;
      const row = (i) => rows.subarray(i * dim, (i + 1) * dim);
      const plain = (query) => {
        const scores = new Float32Array(count);
        for (let i = 0; i < count; i++) {
          let sum = 0;
          for (let j = 0, at = i * dim; j < dim; j++) sum += rows[at + j] * query[j];
          scores[i] = sum;
        }
        const order = Array.from({ length: count }, (_, i) => i);
        order.sort((a, b) => scores[b] - scores[a]);
        return order.slice(0, k);
      };
      let search;
      let start = performance.now();
      if (what === "plain loop") {
        search = plain;
      } else if (what.startsWith("magpie")) {
        const [, kind, values, efSearch] = what.split(" ");
        const { default: init, Index } = await import("/ours/gallery_search.js");
        await init();
        start = performance.now();
        const index = new Index(dim, values);
        if (!index.add(rows) || !index.build(kind, Number(efSearch ?? 0))) throw new Error("not built");
        search = (query) => Array.from(index.search(query, k));
      } else if (what === "hnswlib-wasm") {
        const { loadHnswlib } = await import("/npm/hnswlib-wasm/dist/hnswlib.js");
        const library = await loadHnswlib();
        start = performance.now();
        const index = new library.HierarchicalNSW("ip", dim, "");
        index.initIndex(count, 16, 100, 100);
        for (let i = 0; i < count; i++) index.addPoint(row(i), i, false);
        index.setEfSearch(64);
        search = (query) => index.searchKnn(query, k, undefined).neighbors;
      } else if (what === "edgevec") {
        const { default: init, EdgeVec, EdgeVecConfig } = await import("/npm/edgevec/edgevec.js");
        await init();
        start = performance.now();
        const config = new EdgeVecConfig(dim);
        // By cosine it returns the farthest; of unit vectors distances have the same order.
        config.metric = "l2";
        config.ef_search = 64;
        const index = new EdgeVec(config);
        const places = new Map();
        for (let i = 0; i < count; i++) places.set(index.insert(row(i)), i);
        search = (query) => index.search(query, k).map((hit) => places.get(hit.id));
      } else if (what === "voy") {
        // Its module is made for bundlers, which put these two together.
        const voy = await import("/npm/voy-search/voy_search_bg.js");
        const module = fetch("/npm/voy-search/voy_search_bg.wasm");
        const { instance } = await WebAssembly.instantiateStreaming(module, {
          "./voy_search_bg.js": voy,
        });
        voy.__wbg_set_wasm(instance.exports);
        start = performance.now();
        const embeddings = Array.from({ length: count }, (_, i) => {
          return { id: String(i), title: "", url: "", embeddings: [...row(i)] };
        });
        const index = new voy.Voy({ embeddings });
        search = (query) => index.search(query, k).neighbors.map(({ id }) => Number(id));
      }
      const build = performance.now() - start;
      const asked = Math.min(queries.length / dim, 100);
      const query = (q) => queries.subarray(q * dim, (q + 1) * dim);
      let latency = Infinity;
      let found;
      for (let round = 0; round < 5; round++) {
        const times = [];
        found = [];
        for (let q = 0; q < asked; q++) {
          const start = performance.now();
          found.push(search(query(q)));
          times.push(performance.now() - start);
        }
        times.sort((a, b) => a - b);
        // A timer of a page ticks coarsely: the mean of the middle half.
        const middle = times.slice(asked / 4, (3 * asked) / 4);
        latency = Math.min(latency, middle.reduce((a, b) => a + b) / middle.length);
      }
      let hits = 0;
      for (let q = 0; q < asked; q++) {
        const wanted = new Set(plain(query(q)));
        hits += found[q].filter((place) => wanted.has(place)).length;
      }
      return { recall: hits / (asked * k), latency_ms: latency, build_seconds: build / 1e3 };
    },
    [what, Number(dim), Number(k)],
  );
  console.log(JSON.stringify({ index: what, ...figures }));
  await page.context().close();
}

for (const what of [
  "magpie flat f16",
  "magpie flat i8",
  "magpie binary f16",
  "magpie ivf:256 f16 8",
  "magpie hnsw f16",
  "magpie hnsw:16 f16",
  "plain loop",
  "hnswlib-wasm",
  "edgevec",
  "voy",
]) {
  await measure(what).catch((error) =>
    console.log(JSON.stringify({ index: what, failed: String(error).split("\n")[0] })),
  );
}
await browser.close();
server.close();
