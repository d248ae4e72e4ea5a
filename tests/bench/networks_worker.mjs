// A network of Magpie's on several threads: in a worker, since a page's own thread must not wait.
self.onmessage = async ({ data: { source, bytes, threads } }) => {
  const module = await import(source);
  await module.default();
  if (threads > 1) {
    const { gatherHelpers } = await import("/www/worker-helper.js");
    if (!(await gatherHelpers(module, source, threads - 1))) throw new Error("no helpers");
  }
  const network = await module.Network.open(bytes);
  self.onmessage = async () => self.postMessage(await network.run());
  self.postMessage("open");
};
