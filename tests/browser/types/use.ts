// Every part of the package's interface, used as its types allow and refuse it; only compiled, never run.
import { type GalleryView, Magpie, MagpieError, type Recognition, type Stage } from "magpie-recognizer";

export async function use(file: File, video: HTMLVideoElement, signal: AbortSignal): Promise<string[]> {
  const magpie = await Magpie.load(new URL("bundle/", location.href), {
    backend: "auto",
    threads: 2,
    arithmetic: "i8",
    thumbnails: false,
    assets: "engine/",
    signal,
    onProgress: ({ loaded, total }) => console.log(loaded / total),
  });
  const found: Recognition = await magpie.recognize(file, { topK: 3, follow: true, signal });
  const [object] = found.objects;
  const facts: Record<string, string> = object?.answers[0]?.metadata ?? {};
  const { objects, width } = await magpie.detect(video);
  const [score]: (number | undefined)[] = objects.map(({ detectionScore, box }) => detectionScore * box.width);
  const embedding: Float32Array = await magpie.embed({ width: 1, height: 1, data: new Uint8ClampedArray(4) });
  const { minScore } = await magpie.tune({ minSimilarity: 0.5 });
  const stages: Stage[] = ["detect", { stage: "embed", batch: 4 }, { stage: "search", entries: 10 }, { Embed: 1 }];
  const times: number[] = await magpie.measure(stages[0] ?? "search", { runs: 2 });

  const { gallery } = magpie;
  const view: GalleryView = await gallery.add("a thing", file, { signal });
  await gallery.rename("a thing", "another");
  await gallery.remove("another");
  await gallery.undo();
  await gallery.reset();
  const [pair] = await gallery.alike();
  const answers = await gallery.search(embedding, { topK: 2 });
  await gallery.import(await gallery.export());
  await gallery.import(new Uint8Array(1));

  // @ts-expect-error There is no such backend.
  await Magpie.load("bundle/", { backend: "gpu" });
  // @ts-expect-error Text is no picture.
  await magpie.recognize("photo.jpg");
  // @ts-expect-error Only searches have entries.
  await magpie.measure({ stage: "embed", entries: 1 });
  // @ts-expect-error It is made by `load`.
  new Magpie();
  // @ts-expect-error It is only read.
  magpie.title = "another";

  try {
    await gallery.list("a");
  } catch (error) {
    if (error instanceof MagpieError && error.code === "too-new") return [error.kind, error.message];
    // @ts-expect-error There is no such code.
    if (error instanceof MagpieError && error.code === "toonew") throw error;
  }
  if (!magpie.ended) magpie.dispose();
  const label: string | null = object?.label ?? null;
  return [label, pair?.first, view.shown[0]?.label, answers[0]?.label, ...Object.keys(facts)].map((text) =>
    String(text ?? [width, score, minScore, times, magpie.backend]),
  );
}
