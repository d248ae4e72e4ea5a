// Starts the engine that the page names, and asks for the bundle's files meanwhile.
const { searchParams } = new URL(self.location.href);
const engine = searchParams.get("engine");
if (!["cpu", "relaxed", "webgpu"].includes(engine)) throw new Error(`unknown engine ${engine}`);

// Responses by address, for the engine, which checks what is in them and asks itself for the rest.
self.ahead = new Map();

function ask(address) {
  const response = fetch(address);
  // Whoever takes it hears of a failure.
  response.catch(() => {});
  self.ahead.set(address, response);
  return response;
}

async function askAhead(manifest) {
  const { detector, extractor, gallery } = await (await ask(manifest)).clone().json();
  for (const name of [detector?.file, extractor?.file, gallery]) {
    // Only files beside the manifest.
    if (typeof name === "string" && /^[\w-][\w.-]*$/.test(name)) {
      ask(new URL(name, manifest).href);
    }
  }
}

const bundle = searchParams.get("bundle");
if (bundle) askAhead(bundle).catch(() => {});
const module = await import(`./worker-${engine}.js`);
await module.default();
