// Starts the engine that the page names.
const engine = new URL(self.location.href).searchParams.get("engine");
if (!["worker-cpu", "worker-relaxed", "worker-webgpu"].includes(engine)) {
  throw new Error(`unknown engine ${engine}`);
}
const module = await import(`./${engine}.js`);
await module.default();
