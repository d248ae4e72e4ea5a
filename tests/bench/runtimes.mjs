// In a page of `serveRuntimes`: a network in one of the runtimes that are measured.
import { open as peer } from "/www/bench/peer.js";

const bytes = async (name) => new Uint8Array(await (await fetch(`/nets/${name}`)).arrayBuffer());

const sideOf = (network) => [640, 320, 256].find((side) => network.includes(`_${side}`)) ?? 224;

// The picture that Magpie draws for itself, normalized, channels last.
function pixels(side) {
  const [mean, deviation] = [
    [0.485, 0.456, 0.406],
    [0.229, 0.224, 0.225],
  ];
  const values = new Float32Array(side * side * 3);
  for (let index = 0; index < values.length; index++) {
    const channel = index % 3;
    values[index] = (((index * 7) % 251) / 255 - mean[channel]) / deviation[channel];
  }
  return values;
}

async function magpie(network, threads, [module, arithmetic]) {
  const file = `${network}${arithmetic === "i8" ? "_i8" : ""}.safetensors`;
  if (module !== "threads") {
    const { default: init, Network } = await import(`/ours/${module}/networks.js`);
    await init();
    const opened = await Network.open(await bytes(file));
    return () => opened.run();
  }
  const worker = new Worker("/bench/networks_worker.mjs", { type: "module" });
  const ask = (message) =>
    new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = (event) => reject(new Error(event.message));
      worker.postMessage(message);
    });
  const source = "/ours/threads/networks.js";
  await ask({ source, bytes: await bytes(file), threads });
  return () => ask("run");
}

/** Opens a network; what comes back runs it once and gives the values of its answer. */
export function open(runtime, network, threads = 1) {
  // Magpie's name is followed by its module and, where that is not of floats, its arithmetic; the
  // others' by "webgpu" where they do not compute on the processor, or by their arithmetic.
  const [name, ...how] = runtime.split(" ");
  if (name === "magpie") return magpie(network, threads, how);
  const side = sideOf(network);
  const backend = how.includes("webgpu") ? "webgpu" : "cpu";
  const [input, shape] = [pixels(side), [side, side]];
  const files = new URL(`/nets/${network}${how.includes("i8") ? "_i8" : ""}`, location.href).href;
  return peer(name, { npm: "/npm/", network: files, input, shape, backend, threads });
}
