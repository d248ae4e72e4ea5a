// From photographs to a site: what `npx magpie-recognizer site` does.
import { createHash } from "node:crypto";
import { readdir, readFile, stat } from "node:fs/promises";
import { availableParallelism, totalmem } from "node:os";
import { basename, join, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { archiveOf } from "./node-archive.js";
import { Authors } from "./node-author.js";
import { labelOf, leftOutTexts, lossesOf, photosOf } from "./node-photos.js";
import { Beside, isWithin, Place } from "./node-site.js";
import { Progress } from "./node-progress.js";

// Sentences of one reason that are told; more are counted.
const NAMED = 5;
// Sentences of advice that are printed; the report has all.
const ADVICE = 3;
// Bytes of a photograph at most: what is larger is no photograph, and would not fit beside its pixels.
const MOST_BYTES = 256 * 1024 * 1024;
// Bytes of memory that an engine takes while it looks at a large photograph.
const OF_ENGINE = 300 * 1024 * 1024;
const HERE = fileURLToPath(new URL(".", import.meta.url));
const NETWORKS = join(HERE, "networks");

const counted = (count, one, many) => `${count.toLocaleString("en-US")} ${count === 1 ? one : many}`;
const tell = (text) => process.stderr.write(`${text}\n`);

async function read(path, what) {
  try {
    return new Uint8Array(await readFile(path));
  } catch (error) {
    const reason = error.code === "ENOENT" ? "there is no such file; check the path" : error.message;
    throw new Error(`${path}: ${reason}${what ? ` (${what})` : ""}`);
  }
}

/** The model files: those that are given, else those that the package brings along. */
async function networksOf({ extractor, detector }) {
  const own = (await readdir(NETWORKS)).map((name) => name.replace(/\.safetensors$/, ""));
  const file = (name) => read(own.includes(name) ? join(NETWORKS, `${name}.safetensors`) : name, "a model file");
  const name = extractor ?? "general";
  // A detector goes with the extractor that the package brings along.
  const beside = detector ?? (own.includes(name) && own.includes("mainbody") ? "mainbody" : "none");
  return { extractor: await file(name), detector: beside === "none" ? null : await file(beside) };
}

/** The files of the built page, which lie beside this module or in its folder `page`. */
async function page() {
  const { files } = JSON.parse(await readFile(join(HERE, "page.json"), "utf8"));
  return Promise.all(
    files.map(async (name) => {
      const bytes = await readFile(join(HERE, "page", name)).catch(() => readFile(join(HERE, name)));
      return { name, bytes: new Uint8Array(bytes) };
    }),
  );
}

async function metadataOf(path) {
  if (path === undefined) return [];
  const wrong = `${path}: metadata are written as {"CLASS": {"NAME": "TEXT"}}; mend the file`;
  let facts;
  try {
    facts = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(await read(path, "metadata")));
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error;
    throw new Error(wrong);
  }
  const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
  const isText = (value) => typeof value === "string";
  if (!isObject(facts) || !Object.values(facts).every((of) => isObject(of) && Object.values(of).every(isText))) {
    throw new Error(wrong);
  }
  return Object.entries(facts).map(([name, of]) => ({ label: labelOf(name), metadata: Object.entries(of) }));
}

/** Tells what cannot be used, some of each reason. */
class Unusable {
  #reasons = new Map();
  count = 0;

  add(path, message) {
    this.count += 1;
    // The engine names the file, and says the reason of a reason that is the same.
    const reason = message.replace(`${path}: `, "").replace(/^(.+): \1$/s, "$1");
    const of = (this.#reasons.get(reason) ?? 0) + 1;
    this.#reasons.set(reason, of);
    return of <= NAMED ? `left out: ${path}: ${reason}` : null;
  }

  end() {
    for (const [reason, of] of this.#reasons) if (of > NAMED) tell(`${of - NAMED} more left out: ${reason}`);
  }
}

/** The file of a photograph: on the disk, or in an archive, whose list has its size. */
async function bytesOf({ path, read }) {
  if (read) return read();
  const { size } = await stat(path);
  if (size > MOST_BYTES) throw new Error("has more than 256 MB; make it smaller");
  return new Uint8Array(await readFile(path));
}

/** Has the engines look at what is not known yet. Photographs get their content ids, and are told to be usable. */
async function lookAt(photos, authors, beside) {
  const known = await beside.openRecords(authors.key);
  const outcome = { embedded: 0, known: 0, same: 0, unusable: new Unusable() };
  const progress = new Progress("pictures", photos.length);
  const seen = new Map();
  const look = async (photo, ask) => {
    try {
      const file = await bytesOf(photo);
      const content = createHash("sha256").update(file).digest("hex").slice(0, 32);
      photo.content = content;
      const first = seen.get(content);
      if (!first) {
        const looking = known.has(content) ? Promise.resolve("known") : ask(photo.path, file);
        seen.set(content, looking);
        looking.catch(() => {});
      }
      const result = await seen.get(content);
      if (first) outcome.same += 1;
      else if (result === "known") outcome.known += 1;
      else {
        await beside.keepRecord(content, result.record);
        outcome.embedded += 1;
        seen.set(content, Promise.resolve("embedded"));
      }
      photo.isUsable = true;
    } catch (error) {
      // Of the disk or of the engine, not of the picture.
      if (["ENOSPC", "EROFS", "EDQUOT"].includes(error.code) || error.kind === "Device") throw error;
      progress.around(outcome.unusable.add(photo.path, error.message));
    }
    progress.advance();
  };
  try {
    await authors.lookAtAll(photos, look);
  } finally {
    progress.end();
  }
  outcome.unusable.end();
  return outcome;
}

/** The first engine hears of all records. Those that it refuses are damaged: they are looked at anew. */
async function tellAll(photos, authors, beside) {
  const contents = [...new Set(photos.map(({ content }) => content))];
  const records = [];
  for (const content of contents) {
    const record = await beside.record(content);
    if (!record) throw new Error(`${beside.folder}: a record has gone; run the command again`);
    records.push({ content, record: new Uint8Array(record) });
  }
  const refused = await authors.know(records);
  for (const content of refused) await beside.forgetRecord(content);
  return refused;
}

/** Says where one picture is in two classes. */
function tellShared(photos) {
  const classes = new Map();
  let count = 0;
  for (const { content, label, path } of photos) {
    const other = classes.get(content);
    if (other === undefined) classes.set(content, label);
    else if (other !== label) {
      count += 1;
      if (count > NAMED) continue;
      const names = [other, label].map((name) => JSON.stringify(name)).join(" and in ");
      tell(`note: ${path}: the same picture is in ${names}; keep one of them where a thing has one name`);
    }
  }
  if (count > NAMED) tell(`note: ${counted(count - NAMED, "more picture is", "more pictures are")} in two classes`);
}

/** Pictures that the page offers: those that are given, or the first ones of classes spread over all. */
async function samplesOf({ sample, samples }, photos) {
  const firsts = photos.filter(({ label }, at) => label !== photos[at - 1]?.label);
  const count = Math.min(samples, firsts.length);
  const chosen = Array.from({ length: count }, (_, at) => firsts[Math.floor((at * firsts.length) / count)]);
  const given = sample.map(async (path) => ({ name: basename(path), bytes: await read(path, "a sample") }));
  const own = chosen.map(async (photo) => ({ name: basename(photo.path), bytes: await bytesOf(photo) }));
  return Promise.all([...given, ...own]);
}

/** Opens the site as a visitor's browser would, and has it recognize a photograph. */
async function answers(out, photo) {
  const { Magpie } = await import("./node.js");
  const magpie = await Magpie.load(pathToFileURL(join(out, `bundle${sep}`)), { thumbnails: false });
  try {
    await magpie.recognize(new Blob([await bytesOf(photo)]));
  } finally {
    magpie.dispose();
  }
}

const share = ([count, of]) => (of ? count / of : 0);
const percent = (value) => (100 * value).toFixed(1);

/** What is printed at the end, as `magpie site` prints it. */
function say(options, { beside, figures, outcome, removed, losses, seconds }) {
  const { embedded, known, same, unusable } = outcome;
  const [first, fifth] = figures.recall;
  const open = figures.open && {
    right: share(figures.open.right),
    wrong: share(figures.open.wrong),
    unknown_named: share(figures.open.named),
  };
  if (options.json) {
    const part = (rate, at) => (rate ? rate[at] / 100 : null);
    const answer = {
      site: options.out,
      gallery: beside.gallery,
      report: options.report ? beside.report : null,
      classes: figures.classes.length,
      pictures: figures.photos,
      embedded,
      known,
      removed,
      left_out: unusable.count,
      crop: figures.crop,
      adapted: figures.adapted,
      rule: figures.rule ?? null,
      min_similarity: figures.min_similarity ?? null,
      recall_at_1: part(first, 0),
      recall_at_1_error: part(first, 1),
      recall_at_5: part(fifth, 0),
      recall_at_5_error: part(fifth, 1),
      open: open ?? null,
      mistaken: figures.mistaken.length,
      suspects: figures.suspects.length,
      doubles: figures.doubles.length,
      advice: figures.advice,
      seconds,
    };
    process.stdout.write(`${JSON.stringify(answer)}\n`);
    return;
  }
  const lines = [];
  if (figures.crop_text) lines.push(figures.crop_text);
  const lost = losses.pictures + unusable.count;
  const parts = [
    counted(figures.classes.length, "class", "classes"),
    `, ${counted(figures.photos, "picture", "pictures")}`,
    `: ${embedded} embedded, ${known} known from before`,
    same ? `, ${same} the same as others` : "",
    removed ? `, ${removed} gone` : "",
    lost ? `; ${counted(lost, "picture", "pictures")} left out` : "",
    losses.classes ? `; ${counted(losses.classes, "class", "classes")} without pictures` : "",
  ];
  lines.push(parts.join(""));
  if (figures.classes.length === 1) {
    lines.push("there is one class: everything gets its name until there is a second one");
  } else if (first && fifth) {
    const rate = ([value, error]) => `${value.toFixed(1)} ± ${error.toFixed(1)} %`;
    lines.push(
      `named rightly, each picture asked without itself: ${rate(first)} at the first answer, ` +
        `${rate(fifth)} among five` +
        (figures.adapted ? "; adapted" : ""),
    );
  } else {
    lines.push("no class has two different pictures: how good it is cannot be measured");
  }
  for (const doubt of figures.doubts) lines.push(`no threshold is kept: ${doubt}`);
  if (open) {
    lines.push(
      `at the threshold: ${percent(open.right)} % of known things named rightly, ${percent(open.wrong)} % wrongly; ` +
        `${percent(open.unknown_named)} % of unknown things named`,
    );
  }
  lines.push(...figures.advice.slice(0, ADVICE).map((advice) => `  ${advice}`));
  const more = figures.advice.length - ADVICE;
  if (more > 0 && options.report) lines.push(`  ${more} more in the report`);
  if (options.report) lines.push(`report  ${beside.report}`);
  lines.push(`site    ${options.out} (${seconds.toFixed(1)} s)`);
  lines.push(`show it by: npx magpie-recognizer serve ${options.out}`);
  process.stdout.write(`${lines.join("\n")}\n`);
}

async function checkPlaces({ photos, out }, beside) {
  for (const [place, what] of [
    [out, "the site"],
    [beside.folder, "its report"],
  ]) {
    if (await isWithin(place, photos)) {
      throw new Error(`${place}: ${what} would lie among the pictures; choose a folder outside of ${photos}`);
    }
  }
  if (await isWithin(photos, out)) {
    throw new Error(`${photos}: the pictures lie in the site's folder and would be published; choose another --out`);
  }
}

/** Photographs become records, the records a site. */
async function make(options, given, place, beside) {
  const start = performance.now();
  const networks = await networksOf(options);
  if (["main", "both"].includes(options.crop) && !networks.detector) {
    throw new Error(`--crop ${options.crop} looks for the main body: give --detector, too`);
  }
  const [classes, files] = [await metadataOf(options.metadata), await page()];
  // Half of the memory stays for others.
  const most = Math.min(availableParallelism(), Math.floor(totalmem() / 2 / OF_ENGINE));
  const threads = options.threads ?? Math.max(1, most);
  const beginning = Math.min(threads, given.photos.length);
  const authors = await Authors.open(networks.extractor, networks.detector, beginning);
  try {
    const before = await beside.openRecords(authors.key);
    let outcome = await lookAt(given.photos, authors, beside);
    let usable = given.photos.filter(({ isUsable }) => isUsable);
    if (!usable.length) throw new Error(`${options.photos}: none of the pictures can be used; see above`);
    if ((await tellAll(usable, authors, beside)).length) {
      outcome = await lookAt(given.photos, authors, beside);
      usable = given.photos.filter(({ isUsable }) => isUsable);
      const isDamaged = (await tellAll(usable, authors, beside)).length > 0;
      if (isDamaged) throw new Error(`${beside.folder}: the disk damages records`);
    }
    tellShared(usable);
    const labels = new Set(usable.map(({ label }) => label));
    const unknown = classes.find(({ label }) => !labels.has(label));
    if (unknown) throw new Error(`${options.metadata}: there is no class ${JSON.stringify(unknown.label)}`);
    const project = {
      title: options.title ?? (await place.title()) ?? "Magpie",
      // Also those that cannot be used: the report speaks of them.
      photos: given.photos
        .filter(({ content }) => content !== undefined)
        .map(({ path, label, content }) => ({ content, label, name: path.split(sep).join("/") })),
      crop: options.crop === "auto" ? null : options.crop,
      adapt: options.adapt,
      calibrate: options.calibrate,
      classes,
      samples: await samplesOf(options, usable),
    };
    const progress = new Progress("", 1);
    const words = { pictures: "pictures", learning: "learning", packing: "files packed" };
    const hear = ({ done, of, what }) => progress.to(done, of, words[what] ?? what);
    const made = await authors.make(project, files, threads, hear).finally(() => progress.end());
    authors.end();
    await beside.putGallery(made.gallery);
    await place.publish(made.site.map(({ name, bytes }) => [name, bytes]));
    await place.verify();
    await answers(options.out, usable[0]);
    await beside.putReport(options.report ? made.report : null);
    const contents = new Set(usable.map(({ content }) => content));
    const removed = [...before].filter((content) => !contents.has(content));
    for (const content of removed) await beside.forgetRecord(content);
    const seconds = (performance.now() - start) / 1000;
    const losses = lossesOf(given.leftOut);
    say(options, { beside, figures: made.figures, outcome, removed: removed.length, losses, seconds });
  } finally {
    authors.end();
  }
}

/**
 * Makes a site, as the command's options say, and prints what came of it.
 *
 * @param {{
 *   photos: string, out: string, title?: string, extractor?: string, detector?: string, crop: string, adapt: boolean,
 *   calibrate: boolean, metadata?: string, sample: string[], samples: number, report: boolean, threads?: number,
 *   json: boolean,
 * }} options
 */
export async function makeSite(options) {
  const given = (await archiveOf(options.photos)) ?? (await photosOf(options.photos));
  try {
    await makeOf(given, options);
  } finally {
    await given.close();
  }
}

async function makeOf(given, options) {
  const beside = new Beside(options.out, tell);
  await checkPlaces(options, beside);
  await beside.check();
  // Before minutes of embedding: whether the site can lie there at all.
  const place = await Place.check(options.out, tell);
  for (const line of leftOutTexts(given.leftOut)) tell(line);
  await beside.lock();
  const stop = async (signal) => {
    await Promise.all([place.end(), beside.unlock()]);
    tell(`\nended; what is embedded is kept in ${beside.folder}: the same command goes on from there`);
    process.exit(signal === "SIGINT" ? 130 : 143);
  };
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, stop);
  try {
    await make(options, given, place, beside);
  } finally {
    for (const signal of ["SIGINT", "SIGTERM"]) process.removeListener(signal, stop);
    await beside.unlock();
  }
}
