// A worker that makes photographs small: to decode and to resize one of a camera takes longer than a page may stand still.

// Pixels of a small picture from top to bottom.
const SMALL = 224;

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

// One after the other: decoded, one of a camera takes 50 MB.
let last = Promise.resolve();

addEventListener("message", ({ data: { number, file } }) => {
  last = last.then(async () => {
    const small = await smaller(file).catch(() => null);
    postMessage({ number, small });
  });
});
