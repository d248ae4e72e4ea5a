// Says what is in pictures, on a server or in a script.
//
// npm install magpie-recognizer && node recognize.mjs site/bundle photo.jpg [photo.png …]
import { openAsBlob } from "node:fs";
import { extname } from "node:path";
import { pathToFileURL } from "node:url";

import { Magpie } from "magpie-recognizer/node";

const [bundle, ...pictures] = process.argv.slice(2);
const types = { ".png": "image/png", ".webp": "image/webp", ".gif": "image/gif", ".bmp": "image/bmp" };

// A bundle on a host works as well: its address instead of a folder.
const magpie = await Magpie.load(/^https?:/.test(bundle) ? bundle : pathToFileURL(bundle));
for (const picture of pictures) {
  const type = types[extname(picture).toLowerCase()] ?? "image/jpeg";
  const { objects } = await magpie.recognize(await openAsBlob(picture, { type }));
  for (const { label, box, answers } of objects) {
    const { x, y, width, height } = box;
    const place = [x, y, width, height].map(Math.round).join(" ");
    const [best] = answers;
    console.log(picture, place, label ?? "unknown", best ? best.similarity.toFixed(3) : "");
  }
}
// The engine's thread ends with this; until then the program goes on.
magpie.dispose();
