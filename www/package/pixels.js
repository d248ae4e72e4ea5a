// Pixels of what a browser shows, and files as the engine sees them: for the page, the package and the element.

/** Most pixels that are read at once: what a canvas holds on every phone. */
export const MOST_PIXELS = 16_777_216;
const LONGEST_SIDE = 16_384;

/** Width and height of anything that can be drawn; without numbers where it cannot. */
export const sizeOf = (source) => [
  source?.displayWidth ?? source?.videoWidth ?? source?.naturalWidth ?? source?.width,
  source?.displayHeight ?? source?.videoHeight ?? source?.naturalHeight ?? source?.height,
];

/** The size that a picture is shrunk to where it has more than `most` pixels. */
export function shrunk(width, height, most = MOST_PIXELS) {
  const scale = Math.min(1, Math.sqrt(most / (width * height)), LONGEST_SIDE / Math.max(width, height));
  // Down, so that rounding never makes it too large.
  return [width, height].map((side) => Math.max(1, Math.floor(side * scale)));
}

function newCanvas() {
  // Not every browser with a document can draw without one.
  return typeof document === "undefined" ? new OffscreenCanvas(1, 1) : document.createElement("canvas");
}

function sized(canvas, width, height) {
  // The hint keeps the canvas in main memory, from which it is read.
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new UnreadableError("this browser has no canvas left to draw the picture on");
  Object.assign(canvas, { width, height });
  // Transparent pixels are shown on this color, as the engine does.
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  return context;
}

// Protection against fingerprinting puts noise into what is read from a canvas, but not into a frame made of it.
const WAYS = [
  (canvas) => {
    const { width, height } = canvas;
    const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
    return new Uint8Array(data.buffer);
  },
  async (canvas) => {
    const frame = new VideoFrame(canvas, { timestamp: 0 });
    try {
      const rgba = new Uint8Array(4 * canvas.width * canvas.height);
      await frame.copyTo(rgba, { format: "RGBA", colorSpace: "srgb" });
      return rgba;
    } finally {
      frame.close();
    }
  },
];

// Colors of the probe, and by how much rounding and slight noise may change them.
const COLORS = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [20, 120, 220], [200, 90, 10], [64, 64, 64]];
const TOLERANCE = 4;

async function isExact(read) {
  const side = 8;
  const canvas = newCanvas();
  const context = sized(canvas, side * COLORS.length, side);
  for (const [index, color] of COLORS.entries()) {
    context.fillStyle = `rgb(${color})`;
    context.fillRect(side * index, 0, side, side);
  }
  try {
    const rgba = await read(canvas);
    const wrong = (value, at) => {
      const pixel = (at >> 2) % canvas.width;
      const expected = [...COLORS[Math.floor(pixel / side)], 255][at % 4];
      return Math.abs(value - expected) > TOLERANCE;
    };
    return !rgba.some(wrong);
  } catch {
    return false;
  }
}

async function findWay() {
  // Outside of any event's handler: in one, Firefox may ask the visitor about a canvas that is read.
  await new Promise((next) => setTimeout(next));
  for (const read of WAYS) if (await isExact(read)) return read;
  return null;
}

// Of this page; browsers do not change it while a page is open.
let way;

/** A failure to read pixels: `falsified` where the browser gives others than those that it shows. */
export class UnreadableError extends Error {
  constructor(message, falsified = false) {
    super(message);
    this.name = "UnreadableError";
    this.falsified = falsified;
  }
}

/**
 * Draws a source as it is at this moment and reads its pixels: `{ width, height, rgba }`, never falsified ones.
 * What has more than `most` pixels is shrunk. `canvas` is drawn on instead of a new one.
 */
export async function readPixels(source, { most = MOST_PIXELS, canvas = newCanvas() } = {}) {
  const [width, height] = shrunk(...sizeOf(source), most);
  sized(canvas, width, height).drawImage(source, 0, 0, width, height);
  way ??= findWay();
  const read = await way;
  if (!read) {
    throw new UnreadableError(
      "this browser falsifies the pixels that a page reads (protection against fingerprinting); " +
        "give the picture as a JPEG, PNG, WebP, GIF or BMP file, or allow this site to read canvases",
      true,
    );
  }
  try {
    return { width, height, rgba: await read(canvas) };
  } catch (error) {
    // Pixels of another site stay unread.
    throw new UnreadableError(`the picture's pixels cannot be read: ${error.message}`);
  }
}

const ascii = (bytes, at, length) => String.fromCharCode(...bytes.subarray(at, at + length));

/** The format of a file that the engine decodes itself, by its first bytes; null for others. */
export function engineFormat(bytes) {
  if (bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff) return "jpeg";
  if (ascii(bytes, 0, 8) === "\x89PNG\r\n\x1a\n") return "png";
  if (ascii(bytes, 0, 4) === "RIFF" && ascii(bytes, 8, 4) === "WEBP") return "webp";
  if (/^GIF8[79]a$/.test(ascii(bytes, 0, 6))) return "gif";
  if (ascii(bytes, 0, 2) === "BM") return "bmp";
  return null;
}

// EXIF data of a PNG or a WebP.
function exifOf(bytes, format) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (format === "png") {
    for (let at = 8; at + 12 <= bytes.length; at += 12 + view.getUint32(at)) {
      if (ascii(bytes, at + 4, 4) === "eXIf") return bytes.subarray(at + 8, at + 8 + view.getUint32(at));
    }
  } else if (format === "webp") {
    for (let at = 12; at + 8 <= bytes.length; ) {
      const length = view.getUint32(at + 4, true);
      if (ascii(bytes, at, 4) === "EXIF") return bytes.subarray(at + 8, at + 8 + length);
      at += 8 + length + (length % 2);
    }
  }
  return null;
}

/** How a PNG or a WebP is to be turned, by its EXIF data: 1 to 8. */
export function orientationOf(bytes, format = engineFormat(bytes)) {
  let exif = exifOf(bytes, format);
  if (exif && ascii(exif, 0, 6) === "Exif\0\0") exif = exif.subarray(6);
  if (!exif || !/^(MM\0\*|II\*\0)$/.test(ascii(exif, 0, 4))) return 1;
  const little = exif[0] === 0x49;
  const view = new DataView(exif.buffer, exif.byteOffset, exif.byteLength);
  try {
    const start = view.getUint32(4, little);
    for (let entry = 0; entry < view.getUint16(start, little); entry += 1) {
      const at = start + 2 + 12 * entry;
      if (view.getUint16(at, little) !== 0x0112) continue;
      // One number of 16 bits.
      const isNumber = view.getUint16(at + 2, little) === 3 && view.getUint32(at + 4, little) === 1;
      const value = isNumber ? view.getUint16(at + 8, little) : 1;
      return value >= 1 && value <= 8 ? value : 1;
    }
  } catch {
    // Cut off.
  }
  return 1;
}

// Two pixels beside each other that are to be turned so that they stand: browsers differ.
const LYING = {
  png: "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAAAAADRSSBWAAAAGmVYSWZJSSoACAAAAAEAEgEDAAEAAAAGAAAAAAAAALdIESkAAAALSURBVHicY2D4DwABAgEAQr68aAAAAABJRU5ErkJggg==",
  webp: "UklGRk4AAABXRUJQVlA4WAoAAAAIAAAAAQAAAAAAVlA4TA4AAAAvAQAAAAcQEf0PRET/A0VYSUYaAAAASUkqAAgAAAABABIBAwABAAAABgAAAAAAAAA=",
};
const turns = {};

function browserTurns(format) {
  turns[format] ??= (async () => {
    const bytes = Uint8Array.from(atob(LYING[format]), (letter) => letter.charCodeAt(0));
    const bitmap = await createImageBitmap(new Blob([bytes], { type: `image/${format}` }));
    const stands = bitmap.height === 2;
    bitmap.close();
    return stands;
  })().catch(() => false);
  return turns[format];
}

// Where a pixel of a picture w wide and h high goes.
const MATRICES = {
  2: (w) => [-1, 0, 0, 1, w, 0],
  3: (w, h) => [-1, 0, 0, -1, w, h],
  4: (_, h) => [1, 0, 0, -1, 0, h],
  5: () => [0, 1, 1, 0, 0, 0],
  6: (_, h) => [0, 1, -1, 0, h, 0],
  7: (w, h) => [0, -1, -1, 0, h, w],
  8: (w) => [0, -1, 1, 0, 0, w],
};

/**
 * A file as the browser decodes it and as the engine sees it: upright. Rejects where the browser cannot decode
 * it. `bytes` are the file's own.
 */
export async function decodeUpright(file, bytes) {
  const bitmap = await createImageBitmap(file);
  const format = engineFormat(bytes);
  const orientation = orientationOf(bytes, format);
  if (orientation === 1 || (await browserTurns(format))) return bitmap;
  const [width, height] = shrunk(bitmap.width, bitmap.height);
  const canvas = newCanvas();
  const context = sized(canvas, ...(orientation < 5 ? [width, height] : [height, width]));
  context.setTransform(...MATRICES[orientation](width, height));
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return createImageBitmap(canvas);
}

// Pixels as a file, rows from the top; made here, since a browser that falsifies canvases falsifies their files.
function bmp({ width, height, rgba }) {
  const head = 54;
  const file = new DataView(new ArrayBuffer(head + rgba.length));
  file.setUint16(0, 0x424d);
  file.setUint32(2, file.byteLength, true);
  file.setUint32(10, head, true);
  file.setUint32(14, 40, true);
  file.setInt32(18, width, true);
  file.setInt32(22, -height, true);
  file.setUint16(26, 1, true);
  file.setUint16(28, 32, true);
  for (let at = 0; at < rgba.length; at += 4) {
    file.setUint32(head + at, rgba[at + 2] | (rgba[at + 1] << 8) | (rgba[at] << 16), true);
  }
  return new Blob([file.buffer], { type: "image/bmp" });
}

// Most pixels of a picture that is only shown.
const SHOWN_PIXELS = 4_000_000;

/** A file that an `<img>` shows as the engine sees it: the same one where the browser turns it itself. */
export async function showable(file) {
  try {
    const bytes = new Uint8Array(await file.arrayBuffer());
    const format = engineFormat(bytes);
    if (orientationOf(bytes, format) === 1 || (await browserTurns(format))) return file;
    const bitmap = await decodeUpright(file, bytes);
    const pixels = await readPixels(bitmap, { most: SHOWN_PIXELS });
    bitmap.close();
    return bmp(pixels);
  } catch {
    // Whoever shows it finds out that it cannot be shown.
    return file;
  }
}
