// What bundles of several architectures make of a picture: with relaxed SIMD, without it, on WebGPU.
// Prints what it saw.
//
// node architectures.mjs SITE PICTURE BUNDLE[,BUNDLE…]
import { readFileSync } from "node:fs";

import { launch, watch } from "./chromium.mjs";
import { start } from "./host.mjs";

const [site, picture, names] = process.argv.slice(2);
const host = await start(site, /worker-.*\.wasm$/);
const browser = await launch();
const bytes = [...readFileSync(picture)];

async function answers(backend) {
  const page = await (await browser.newContext()).newPage();
  const { problems } = watch(page);
  await page.goto(`${host.address}bench/`);
  const answers = await page.evaluate(
    async ([backend, names, bytes]) => {
      const { Magpie } = await import("../magpie.js");
      const file = new File([Uint8Array.from(bytes)], "picture.jpg", { type: "image/jpeg" });
      const answers = {};
      for (const name of names) {
        const magpie = await Magpie.load(`../${name}/`, { backend, threads: 1 });
        if (magpie.backend !== backend) throw new Error(`${backend} became ${magpie.backend}`);
        const { objects } = await magpie.recognize(file);
        magpie.dispose();
        answers[name] = objects.map(({ box: { x, y, width, height }, embedding }) => {
          return { box: [x, y, x + width, y + height], embedding: [...embedding] };
        });
      }
      return answers;
    },
    [backend, names.split(","), bytes],
  );
  await page.context().close();
  return { answers, problems };
}

const seen = { relaxed: await answers("cpu"), webgpu: await answers("webgpu") };
host.missing = /worker-relaxed_bg\.wasm$/;
seen.plain = await answers("cpu");
// A browser tells that a file is missing.
seen.plain.problems = seen.plain.problems.filter((problem) => !problem.includes("404"));
console.log(JSON.stringify(seen));
await browser.close();
host.close();
