// Draws the vector emoji of the installed sets as 64 × 64 PNG files.
//
//     node rasterise.mjs EMOJI_JSON OUT
//
// EMOJI_JSON is emoji-datasource's list. A picture is named after its code point, like that list's
// own pictures, in a folder a set: OUT/noto-v1/1f600.png.
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import sharp from "sharp";

const SIDE = 64;
const SETS = [
  "emojione",
  "emojione-v1",
  "fluent-emoji-flat",
  "fxemoji",
  "noto-v1",
  "openmoji",
  "streamline-emojis",
];

const [emojiJson, out] = process.argv.slice(2);
const require = createRequire(import.meta.url);
const load = (set, file) => require(`@iconify-json/${set}/${file}.json`);

// Sets differ in whether a code carries the variation selector, and in how they join words.
const plainCode = (code) => code.toLowerCase().split("-").filter((part) => part !== "fe0f").join("-");
const plainName = (name) => name.toLowerCase().replace(/[^a-z0-9]/g, "");

const emoji = JSON.parse(await readFile(emojiJson, "utf8"));
const fluentCodes = load("fluent-emoji-flat", "chars");

// Name → code, from the one set that lists both and from the data source's own names.
const codes = new Map();
for (const [code, name] of Object.entries(fluentCodes)) codes.set(plainName(name), plainCode(code));
for (const { unified, short_name: short, name, category } of emoji) {
  const code = plainCode(unified);
  for (const alias of [short, name ?? ""]) {
    if (alias && !codes.has(plainName(alias))) codes.set(plainName(alias), code);
  }
  if (category === "Flags") codes.set(plainName(`flag for ${name.replace(/ flag$/i, "")}`), code);
}

await rm(out, { recursive: true, force: true });
for (const set of SETS) {
  const { icons, width = 16, height = width } = load(set, "icons");
  const names = new Map();
  // Most sets list no codes; there the names decide.
  const listed = Object.entries(load(set, "chars"));
  for (const [code, name] of listed) names.set(plainCode(code), name);
  if (listed.length === 0) {
    for (const name of Object.keys(icons)) {
      const code = codes.get(plainName(name));
      if (code && !names.has(code)) names.set(code, name);
    }
  }
  await mkdir(`${out}/${set}`, { recursive: true });
  let count = 0;
  for (const { image } of emoji) {
    const icon = icons[names.get(plainCode(image.replace(/\.png$/, "")))];
    if (!icon) continue;
    const [w, h] = [icon.width ?? width, icon.height ?? height];
    const svg =
      `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" ` +
      `viewBox="${icon.left ?? 0} ${icon.top ?? 0} ${w} ${h}" width="${w}" height="${h}">${icon.body}</svg>`;
    const pixels = sharp(Buffer.from(svg), { density: (72 * SIDE) / w }).resize(SIDE, SIDE);
    await pixels.png().toFile(`${out}/${set}/${image}`);
    count += 1;
  }
  console.log(`   ${set}: ${count} drawings`);
}
await writeFile(`${out}/done`, "");
