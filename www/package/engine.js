// Which engine a browser can run, and its worker.

// A module whose only function multiplies and adds by relaxed SIMD.
const RELAXED_PROBE = new Uint8Array([
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, // header
  0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7b, // type: nothing to v128
  0x03, 0x02, 0x01, 0x00, // one function of it
  0x0a, 0x13, 0x01, 0x11, 0x00, // its code, without locals
  0x41, 0x00, 0xfd, 0x0f, 0x41, 0x00, 0xfd, 0x0f, 0x41, 0x00, 0xfd, 0x0f, // three zeros
  0xfd, 0x85, 0x02, 0x0b, // f32x4.relaxed_madd
]);

// Milliseconds that a browser has to name its adapter; some never do.
const ADAPTER_LIMIT = 2000;

/** The WebGPU adapter and its name: null where there is none; a software one computes on the processor. */
export async function findAdapter() {
  try {
    const limit = new Promise((resolve) => setTimeout(resolve, ADAPTER_LIMIT, null));
    const adapter = await Promise.race([globalThis.navigator?.gpu?.requestAdapter(), limit]);
    if (!adapter) return null;
    const { vendor, architecture, device, description, isFallbackAdapter } = adapter.info ?? {};
    return {
      software: isFallbackAdapter ?? adapter.isFallbackAdapter ?? false,
      name: [vendor, architecture, device, description].filter(Boolean).join(" "),
    };
  } catch {
    return null;
  }
}

/**
 * What the files of a backend's engine are named after: the CPU engine comes once for every browser,
 * once for those that know relaxed SIMD.
 */
export function moduleName(backend) {
  if (backend === "webgpu") return "webgpu";
  return WebAssembly.validate(RELAXED_PROBE) ? "relaxed" : "cpu";
}

/**
 * Threads of an engine where nobody says otherwise: more than four gain little on a network of a few
 * milliseconds, and keep a phone's slow cores waited for.
 */
export const defaultThreads = () => Math.min(navigator.hardwareConcurrency || 1, 4);

/**
 * Starts the worker of a backend from the folder with the engine's files. It asks for the files of
 * the bundle with this manifest while its module still comes in. More than one thread takes a page
 * that is isolated from other sites.
 */
export function startWorker(assets, backend, manifest, threads = defaultThreads()) {
  const script = new URL("worker.js", assets);
  script.searchParams.set("engine", moduleName(backend));
  script.searchParams.set("threads", threads);
  script.searchParams.set("bundle", manifest);
  return new Worker(script, { type: "module" });
}
