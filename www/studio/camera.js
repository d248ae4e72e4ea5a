// The owner's camera: while a button is held down its frames become photographs, of which those stay that differ from the
// one before.

// Milliseconds between two frames.
const EVERY = 120;
// Most photographs of one press.
const MOST = 60;
// Side of the picture by which frames are compared, and how much they differ at least, of 255 on the average.
const SIDE = 16;
const LEAST = 6;

let stream = null;
let burst = null;

/** Shows the camera in a video; rejected where there is none, or the owner says no. */
export async function openCamera(video) {
  closeCamera(video);
  const wish = { facingMode: "environment", width: { ideal: 1920 }, height: { ideal: 1440 } };
  const given = await navigator.mediaDevices.getUserMedia({ video: wish, audio: false });
  stream = given;
  video.srcObject = given;
  await video.play();
}

/** Switches the camera off. */
export function closeCamera(video) {
  endBurst();
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
  video.srcObject = null;
}

function shades(video) {
  const canvas = new OffscreenCanvas(SIDE, SIDE);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(video, 0, 0, SIDE, SIDE);
  const { data } = context.getImageData(0, 0, SIDE, SIDE);
  return Array.from({ length: SIDE * SIDE }, (_, at) => (data[4 * at] + data[4 * at + 1] + data[4 * at + 2]) / 3);
}

const difference = (one, other) => one.reduce((sum, value, at) => sum + Math.abs(value - other[at]), 0) / one.length;

async function photographOf(video, name) {
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
  return new File([blob], name, { type: "image/jpeg" });
}

/** Takes photographs until `endBurst`. The first frame is always one. */
export function beginBurst(video) {
  endBurst();
  if (!stream || !video.videoWidth) return;
  const begun = new Date().toISOString().replaceAll(/\D/g, "").slice(0, 14);
  const mine = { before: null, frames: [], timer: 0 };
  burst = mine;
  const take = () => {
    const now = shades(video);
    if (mine.before && difference(now, mine.before) < LEAST) return;
    mine.before = now;
    const name = `camera-${begun}-${String(mine.frames.length + 1).padStart(2, "0")}.jpg`;
    // A frame that cannot be encoded is one less.
    mine.frames.push(photographOf(video, name).catch(() => null));
    if (mine.frames.length >= MOST) clearInterval(mine.timer);
  };
  mine.timer = setInterval(take, EVERY);
  take();
}

/** Ends what `beginBurst` began, and gives its photographs. */
export async function endBurst() {
  const ended = burst;
  burst = null;
  if (!ended) return [];
  clearInterval(ended.timer);
  return (await Promise.all(ended.frames)).filter((frame) => frame);
}
