// How far the answers of exported networks in other runtimes are from the native ones. Prints them by
// runtime and network.
//
// node runtimes.mjs FOLDER NPM NETWORK:SIDE[,NETWORK:SIDE…]
//   FOLDER  NETWORK.onnx, .tflite, .json, .bin, .input.f32 and .answer.f32
//   NPM     folder with node_modules of the runtimes
import { serveRuntimes } from "../bench/serve.mjs";
import { launch } from "./chromium.mjs";

const [folder, npm, networks] = process.argv.slice(2);
const server = await serveRuntimes(folder, folder, npm);
const browser = await launch();
const seen = {};
for (const runtime of ["onnxruntime-web", "litert.js", "tensorflow.js"]) {
  const page = await browser.newPage();
  await page.goto(server.address);
  seen[runtime] = await page.evaluate(
    async ([runtime, networks]) => {
      const { open } = await import("/www/bench/peer.js");
      const { distance } = await import("/www/bench/peers.js");
      const floats = async (file) => new Float32Array(await (await fetch(file)).arrayBuffer());
      const apart = {};
      for (const named of networks) {
        const [name, side] = named.split(":");
        const network = new URL(`/nets/${name}`, location.href).href;
        const input = await floats(`${network}.input.f32`);
        const shape = [Number(side), Number(side)];
        const run = await open(runtime, { npm: "/npm/", network, input, shape, backend: "cpu", threads: 1 });
        apart[named] = distance(await run(), await floats(`${network}.answer.f32`));
      }
      return apart;
    },
    [runtime, networks.split(",")],
  );
  await page.close();
}
console.log(JSON.stringify(seen));
await browser.close();
server.close();
