// A worker that reads photographs, says which they are, makes them small and keeps them: with thousands, or with those of a
// camera, the page would stand still.
import { write } from "./write.js";

// Pixels of a small picture from top to bottom.
const SMALL = 224;
// Bytes of a content id.
const ID = 16;

// A wide one stays wider.
async function smaller(file) {
  const options = { imageOrientation: "from-image", resizeHeight: SMALL, resizeQuality: "medium" };
  const bitmap = await createImageBitmap(file, options);
  try {
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = canvas.getContext("2d");
    // What is transparent is white, as the networks see it.
    context.fillStyle = "#fff";
    context.fillRect(0, 0, bitmap.width, bitmap.height);
    context.drawImage(bitmap, 0, 0);
    return await canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 });
  } finally {
    bitmap.close();
  }
}

// Whether there was room for a photograph and its small one.
async function isKept({ name, folders }, bytes, small) {
  if (!folders) return false;
  try {
    await write(folders.photos, name, bytes);
    await write(folders.smalls, name, small);
    return true;
  } catch {
    return false;
  }
}

// The page says what becomes of a photograph once it knows which it is; by number.
const told = new Map();

async function prepare(number, file) {
  const bytes = await file.arrayBuffer();
  const id = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).slice(0, ID);
  const wanted = new Promise((resolve) => told.set(number, resolve));
  postMessage({ number, id });
  const message = await wanted;
  told.delete(number);
  if (message.letGo) return;
  const small = await smaller(file);
  postMessage({ number, small, isKept: await isKept(message, bytes, small) });
}

// One after the other: decoded, one of a camera takes 50 MB.
let last = Promise.resolve();

addEventListener("message", ({ data }) => {
  const { number, file } = data;
  if (!file) told.get(number)?.(data);
  else last = last.then(() => prepare(number, file)).catch(() => postMessage({ number, failed: true }));
});
