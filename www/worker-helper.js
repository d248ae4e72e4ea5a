// More threads for an engine in a page that may share memory: workers that run the engine's module in
// the engine's memory and wait there for work. This file stands alone, so that bundlers can copy it.

const NAME = "magpie-helper";

if (self.name === NAME) {
  self.onmessage = async ({ data: { script, module, memory } }) => {
    const engine = await import(/* @vite-ignore */ script);
    engine.initSync({ module, memory });
    self.postMessage("here");
    // Never returns.
    engine.help();
  };
}

// A script's address as workers take it that require trusted types.
function trusted(address) {
  if (!self.trustedTypes) return address;
  // One for both files of this worker: a name is given once.
  self.policy ??= trustedTypes.createPolicy("magpie", { createScriptURL: (address) => address });
  return self.policy.createScriptURL(address);
}

// This script's address, or where it is another origin's that of a script of the page's own that imports it.
function own() {
  const script = import.meta.url;
  if (new URL(script).origin === self.location.origin) return script;
  const code = new Blob([`import ${JSON.stringify(script)};`], { type: "text/javascript" });
  return URL.createObjectURL(code);
}

/**
 * Starts helpers of an engine from the script of the same module. They take part once all of them
 * are there; where one cannot be started, the engine goes on alone.
 */
export async function gatherHelpers(engine, script, count) {
  const [module, memory] = engine.toShare();
  const address = trusted(own());
  const helpers = Array.from({ length: count }, () => {
    return new Worker(address, { type: "module", name: NAME });
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
