// More threads for an engine in a page that may share memory: workers that run the engine's module in
// the engine's memory and wait there for work.

const NAME = "magpie-helper";

if (self.name === NAME) {
  self.onmessage = async ({ data: { script, module, memory } }) => {
    const engine = await import(script);
    engine.initSync({ module, memory });
    self.postMessage("here");
    // Never returns.
    engine.help();
  };
}

/**
 * Starts helpers of an engine from the script of the same module. They take part once all of them
 * are there; where one cannot be started, the engine goes on alone.
 */
export async function gatherHelpers(engine, script, count) {
  const [module, memory] = engine.toShare();
  const helpers = Array.from({ length: count }, () => {
    return new Worker(import.meta.url, { type: "module", name: NAME });
  });
  const here = helpers.map((helper) => {
    return new Promise((resolve, reject) => {
      helper.onmessage = resolve;
      helper.onerror = reject;
      helper.postMessage({ script, module, memory });
    });
  });
  try {
    await Promise.all(here);
    return engine.gather(count);
  } catch {
    for (const helper of helpers) helper.terminate();
    return false;
  }
}
