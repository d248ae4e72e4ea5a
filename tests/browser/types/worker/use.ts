// The package in a worker of somebody's own; only compiled, never run.
import { Magpie, type Recognition } from "magpie-recognizer";

export async function look(frame: VideoFrame, canvas: OffscreenCanvas): Promise<Recognition[]> {
  const magpie = await Magpie.load(new URL("bundle/", self.location.href));
  const thumbnail: Blob | null | undefined = (await magpie.recognize(frame)).objects[0]?.answers[0]?.thumbnail;
  // @ts-expect-error Numbers alone have no width.
  await magpie.recognize(new Uint8ClampedArray(4));
  return Promise.all([magpie.recognize(canvas), magpie.recognize(thumbnail ?? new Blob())]);
}
