// A network in a runtime of other people, which the site's owner put beside Magpie's.
//
// Runs in a frame of its own, so that what a runtime leaves behind goes with it.

// What was loaded stays loaded.
const loaded = new Map();
const once = (name, load) => loaded.get(name) ?? loaded.set(name, load()).get(name);

function script(address) {
  return new Promise((resolve, reject) => {
    const element = document.createElement("script");
    element.src = address;
    element.onload = resolve;
    element.onerror = () => reject(new Error(`${address} could not be loaded`));
    document.head.append(element);
  });
}

const bytes = async (address) => {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
};

// From channels last to channels first.
function planes(input, [height, width]) {
  const values = new Float32Array(input.length);
  for (let pixel = 0; pixel < height * width; pixel += 1) {
    for (let channel = 0; channel < 3; channel += 1) {
      values[channel * height * width + pixel] = input[pixel * 3 + channel];
    }
  }
  return values;
}

const runtimes = {
  async "onnxruntime-web"({ npm, network, input, shape, backend, threads }) {
    const provider = backend === "webgpu" ? "webgpu" : "wasm";
    const folder = `${npm}onnxruntime-web/dist/`;
    const ort = await import(`${folder}ort.${provider}.min.mjs`);
    ort.env.wasm.numThreads = threads;
    ort.env.wasm.wasmPaths = folder;
    const session = await ort.InferenceSession.create(await bytes(`${network}.onnx`), {
      executionProviders: [provider],
      graphOptimizationLevel: "all",
    });
    const x = new ort.Tensor("float32", planes(input, shape), [1, 3, ...shape]);
    return async () => (await session.run({ x })).y.data;
  },

  async "litert.js"({ npm, network, input, shape, backend, threads }) {
    const folder = `${npm}@litertjs/core/`;
    const litert = await import(`${folder}dist/index.js`);
    await once(folder, () => litert.loadLiteRt(`${folder}wasm/`, { threads: threads > 1 }));
    const model = await litert.loadAndCompile(await bytes(`${network}.tflite`), {
      accelerator: backend === "webgpu" ? "webgpu" : "wasm",
      ...(threads > 1 && { cpuOptions: { numThreads: threads } }),
    });
    const x = new litert.Tensor(input, [1, ...shape, 3]);
    return async () => {
      const { y } = await model.run("serving_default", { x });
      const values = (await y.data()).slice();
      y.delete();
      return values;
    };
  },

  async "tensorflow.js"({ npm, network, input, shape, backend, threads }) {
    const folder = `${npm}@tensorflow/`;
    const name = backend === "webgpu" ? "webgpu" : "wasm";
    const parts = ["core", "converter", `backend-${name}`];
    for (const part of parts) {
      const file = `${folder}tfjs-${part}/dist/tf-${part}.min.js`;
      await once(file, () => script(file));
    }
    const { tf } = globalThis;
    if (name === "wasm") {
      tf.wasm.setWasmPaths(`${folder}tfjs-backend-wasm/dist/`);
      tf.wasm.setThreadsCount(threads);
      tf.env().set("WASM_HAS_MULTITHREAD_SUPPORT", threads > 1);
    }
    await tf.setBackend(name);
    const model = await tf.loadGraphModel(`${network}.json`);
    const x = tf.tensor4d(input, [1, ...shape, 3]);
    return async () => {
      const y = model.predict(x);
      const values = await y.data();
      y.dispose();
      return values;
    };
  },
};

/**
 * Opens a network; what comes back runs it once and gives the values of its answer.
 *
 * `npm` is the address of the folder with the runtimes' packages, `network` that of the network's
 * files without their endings, `input` its input `[height, width, 3]`, and `shape` height and width.
 */
export function open(runtime, options) {
  const { [runtime]: opened } = runtimes;
  if (!opened) throw new Error(`there is no runtime ${runtime}`);
  // Of this frame's own kind: runtimes ask what they are given whether it is an array.
  return opened({ ...options, input: new Float32Array(options.input) });
}

// The page around this frame calls it here.
globalThis.peer = { open };
