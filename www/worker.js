// Starts the engine that the page names: worker-cpu or worker-webgpu.
const engine = new URL(self.location.href).searchParams.get("engine");
if (engine !== "worker-cpu" && engine !== "worker-webgpu") {
  throw new Error(`unknown engine ${engine}`);
}
const module = await import(`./${engine}.js`);
await module.default();
