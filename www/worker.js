// Starts the engine that the page names, and asks for the bundle's files meanwhile. This file stands alone, so
// that bundlers can copy it; a worker that imports it from another origin has an address of its own.
const { searchParams } = new URL(import.meta.url);
const engine = searchParams.get("engine");
if (!["author", "cpu", "relaxed", "webgpu"].includes(engine)) throw new Error(`unknown engine ${engine}`);

// What traps or throws in the engine's tasks is a rejection that nobody waits for. Thrown again it reaches the
// page, which starts another engine; the words of a panic come from the engine.
self.addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  setTimeout(() => {
    throw self.panicked ? new Error(self.panicked) : event.reason;
  });
});

// A trap in the handler of a message is an error that says nothing of the panic either.
let told = false;
self.addEventListener("error", (event) => {
  if (!self.panicked || told) return;
  told = true;
  event.preventDefault();
  setTimeout(() => {
    throw new Error(self.panicked);
  });
});

// Milliseconds that the engine's files and its start may take.
const COMING_IN = 60_000;
const STARTING = 10_000;

function within(promise, milliseconds, what) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: no answer in ${milliseconds / 1000} s`)), milliseconds);
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

// Responses by address, for the engine, which checks what is in them and asks itself for the rest.
self.ahead = new Map();

// The same response, read on while nobody asks for it: one that waits holds its connection up. What came
// before a connection broke is still handed out.
function readAhead(response) {
  if (!response.body) return response;
  const reader = response.body.getReader();
  const chunks = [];
  let end;
  let tell = () => {};
  const read = async () => {
    try {
      for (let next = await reader.read(); !next.done; next = await reader.read()) {
        chunks.push(next.value);
        tell();
      }
      end = (controller) => controller.close();
    } catch (error) {
      end = (controller) => controller.error(error);
    }
    tell();
  };
  read();
  const pull = async (controller) => {
    while (!chunks.length && !end) {
      await new Promise((resolve) => {
        tell = resolve;
      });
    }
    if (chunks.length) controller.enqueue(chunks.shift());
    else end(controller);
  };
  const cancel = (reason) => reader.cancel(reason);
  const { status, headers } = response;
  return new Response(new ReadableStream({ pull, cancel }, { highWaterMark: 0 }), { status, headers });
}

function ask(address) {
  const response = fetch(address).then(readAhead);
  // Whoever takes it hears of a failure.
  response.catch(() => {});
  self.ahead.set(address, response);
  return response;
}

// Beginnings of files that visits which ended too early have left.
const PREFIX = "beginning-";
async function beginnings() {
  const folder = await within(navigator.storage.getDirectory(), 2000, "storage");
  const names = [];
  for await (const key of folder.keys()) if (key.startsWith(PREFIX)) names.push(key);
  return { folder, names };
}

async function askAhead(manifest) {
  const left = beginnings().catch(() => ({ names: [] }));
  const { detector, extractor, gallery } = await (await ask(manifest)).clone().json();
  // Only files beside the manifest.
  const named = (name) => typeof name === "string" && /^[\w-][\w.-]*$/.test(name);
  const wanted = [detector?.file, extractor?.file, gallery].filter(named);
  const { folder, names } = await left;
  for (const name of wanted) {
    // The engine asks for the rest of what has begun.
    if (!names.includes(PREFIX + name)) ask(new URL(name, manifest).href);
  }
  for (const name of names) {
    if (!wanted.includes(name.slice(PREFIX.length))) folder.removeEntry(name).catch(() => {});
  }
}

// Settles once the engine has its threads; until then, and without shared memory, it has one.
let settled;
self.helpers = new Promise((resolve) => {
  settled = resolve;
});

// A script's address as workers take it that require trusted types.
function trusted(address) {
  if (!self.trustedTypes) return address;
  // One for both files of this worker: a name is given once.
  self.policy ??= trustedTypes.createPolicy("magpie", { createScriptURL: (address) => address });
  return self.policy.createScriptURL(address);
}

// This script's address with another engine; where it is another origin's, that of a script of the page's own that
// imports it.
function beside(engine) {
  const address = new URL(import.meta.url);
  for (const own of ["bundle", "threads"]) address.searchParams.delete(own);
  address.searchParams.set("engine", engine);
  if (address.origin === self.location.origin) return address.href;
  const code = new Blob([`import ${JSON.stringify(address.href)};`], { type: "text/javascript" });
  return URL.createObjectURL(code);
}

// The file of a gallery that has learned anew, or null where it has found nothing better. The worker ends with it.
self.learn = (gallery) => {
  const worker = new Worker(trusted(beside("author")), { type: "module" });
  const learned = new Promise((resolve, reject) => {
    worker.onerror = (event) => reject(new Error(event.message || "the worker stopped"));
    worker.onmessage = ({ data }) => {
      if (data === "Started") worker.postMessage({ Learn: { gallery } });
      else if (data.Learned) resolve(data.Learned.gallery ?? null);
      else reject(new Error(data.Failed?.error.message ?? "another answer"));
    };
  });
  return within(learned, 100_000, "learning").finally(() => worker.terminate());
};

// A lost graphics device answers nothing any more; the page hears of it and starts another engine.
if (engine === "webgpu" && self.GPUAdapter) {
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = async function (...options) {
    const device = await requestDevice.apply(this, options);
    device.lost.then(({ reason, message }) => {
      if (reason === "destroyed") return;
      setTimeout(() => {
        throw new Error(`the graphics device was lost: ${message}`);
      });
    });
    return device;
  };
}

const bundle = searchParams.get("bundle");
if (bundle) askAhead(bundle).catch(() => {});

// Address of a file: beside this one, unless the page says otherwise.
const addressOf = (name) => searchParams.get(name) ?? new URL(name, import.meta.url).href;

// Advice where a file of another origin cannot be fetched.
const elsewhere = (address) =>
  new URL(address).origin === self.location.origin
    ? ""
    : "; the host of another origin has to send Access-Control-Allow-Origin to this page (CORS), and the page's policy to allow it";

// A file of the engine, or the reason why there is none.
async function fetched(address) {
  const response = await fetch(address).catch((error) => {
    throw new Error(`${address} could not be loaded: ${error.message}${elsewhere(address)}`);
  });
  if (!response.ok) throw new Error(`${address}: the host answered ${response.status}`);
  if (/^text\/html/.test(response.headers.get("content-type") ?? "")) {
    throw new Error(
      `${address}: the host sent a page in place of the file; upload all files, and let it answer 404 for others`,
    );
  }
  return response;
}

// Browsers do not tell why a module cannot be imported.
const imported = (address) =>
  import(/* @vite-ignore */ address).catch(async (error) => {
    await fetched(address);
    throw error;
  });

async function compiled(address) {
  const response = await fetched(address);
  if (typeof WebAssembly === "undefined") throw new Error("WebAssembly is switched off in this browser's workers");
  // A host may send another type, which only the whole bytes get past.
  return WebAssembly.compileStreaming(response.clone()).catch(async () =>
    WebAssembly.compile(await response.arrayBuffer()),
  );
}

async function instantiate(name) {
  const script = addressOf(`worker-${name}.js`);
  const wasm = addressOf(`worker-${name}_bg.wasm`);
  const coming = Promise.all([imported(script), compiled(wasm)]);
  const [module, module_or_path] = await within(coming, COMING_IN, script);
  // Some browsers hang where they have no room for shared memory.
  const started = within(module.default({ module_or_path }), STARTING, `starting ${script}`);
  // Kept for tools: it only ever grows.
  self.memory = (await started).memory;
  return { script, module };
}

async function startHelpers(module, script) {
  const threads = self.crossOriginIsolated && module.gather ? Number(searchParams.get("threads")) : 1;
  if (threads < 2) return;
  const { gatherHelpers } = await import(/* @vite-ignore */ addressOf("worker-helper.js"));
  await gatherHelpers(module, script, threads - 1);
}

async function begin() {
  // Where there is no room for shared memory, the plain engine still finds some.
  const { script, module } = await instantiate(engine).catch((error) => {
    if (engine !== "relaxed") throw error;
    return instantiate("cpu");
  });
  // Without helpers the engine has one thread.
  startHelpers(module, script)
    .catch(() => {})
    .finally(settled);
}

// Not awaited: tools that shrink scripts read no `await` outside of functions. What keeps the engine from starting
// is an unhandled rejection, which reaches the page.
begin();
