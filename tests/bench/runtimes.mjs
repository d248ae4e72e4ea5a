// In a page of `serveRuntimes`: a network in one of the runtimes that are measured.

const bytes = async (name) => new Uint8Array(await (await fetch(`/nets/${name}`)).arrayBuffer());

const sideOf = (network) => (/_640/.test(network) ? 640 : /_320/.test(network) ? 320 : 224);

// The picture that Magpie draws for itself, normalised.
function pixels(side, channelsFirst) {
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
}

const runtimes = {
  async magpie(network, threads, [module, arithmetic]) {
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
  },
  async "onnxruntime-web"(network, threads, [provider = "wasm"]) {
    const ort = await import(`/npm/onnxruntime-web/dist/ort.${provider}.min.mjs`);
    ort.env.wasm.numThreads = threads;
    ort.env.wasm.wasmPaths = "/npm/onnxruntime-web/dist/";
    const session = await ort.InferenceSession.create(await bytes(`${network}.onnx`), {
      executionProviders: [provider],
      graphOptimizationLevel: "all",
    });
    const side = sideOf(network);
    const x = new ort.Tensor("float32", pixels(side, true), [1, 3, side, side]);
    return async () => (await session.run({ x })).y.data;
  },
  async litert(network, threads, [accelerator = "wasm"]) {
    const litert = await import("/npm/@litertjs/core/dist/index.js");
    loaded ??= litert.loadLiteRt("/npm/@litertjs/core/wasm/", { threads: threads > 1 });
    await loaded;
    const model = await litert.loadAndCompile(await bytes(`${network}.tflite`), {
      accelerator,
      ...(threads > 1 && { cpuOptions: { numThreads: threads } }),
    });
    const side = sideOf(network);
    const x = new litert.Tensor(pixels(side, false), [1, side, side, 3]);
    return async () => {
      const results = await model.run([x]);
      const values = (await results[0].data()).slice();
      results.forEach((result) => result.delete());
      return values;
    };
  },
};

// LiteRT is loaded once a page.
let loaded;

/** Opens a network; what comes back runs it once and gives the values of its answer. */
export function open(runtime, network, threads = 1) {
  // Magpie's name is followed by its module and, where that is not of floats, its arithmetic; the
  // others' by "webgpu" where they do not compute on the processor.
  const [name, ...how] = runtime.split(" ");
  return runtimes[name](network, threads, how);
}
