#!/usr/bin/env node
// npx magpie-recognizer site photos --out site: from photographs to a site, on the WebAssembly engine, without a native
// program; npx magpie-recognizer serve site: shows it.
import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";

import { makeSite } from "./node-make.js";
import { serve } from "./node-serve.js";

const HELP = `Makes a site from photographs, on the WebAssembly engine; nothing native is needed.

Usage: magpie-recognizer site PHOTOS --out DIR [OPTIONS]
       magpie-recognizer serve DIR [--port N]

site: embeds the photographs, adapts and calibrates the gallery, publishes, verifies, and writes a report for the owner
beside the site. Run again after photographs have come or gone, it embeds the new ones alone. Photographs that cannot be
used are named and left out. Beside the site DIR lies DIR.report, which is not for publishing: index.html, the report;
gallery.bin, the gallery for the native magpie; records, what is known of the photographs.

  PHOTOS             folder with one sub-folder per class, or a zip file of such a folder
  --out DIR          folder to write the site into: a new or empty one, or a site that magpie wrote
  --title TEXT       title of the page; by default that of the site that stands there, else Magpie
  --extractor FILE   model file of the extractor; by default the one that the package brings along
  --detector FILE    model file of the detector, or none
  --crop CROP        auto, never, middle, main or both: which part of a photograph becomes an entry; auto measures it
  --adapt WHEN       auto or never: whether the gallery learns a map from its entries
  --calibrate WHEN   auto or never: whether answer rule and threshold are measured on the entries
  --metadata FILE    JSON of facts by class: {"CLASS": {"NAME": "TEXT"}}
  --sample FILE      sample picture that the page offers; may be repeated
  --samples N        offers this many of the photographs, of classes spread over all
  --report WHEN      auto or never: whether the report is written
  --threads N        photographs that are looked at, and files packed, beside each other; by default as many as cores
  --json             prints JSON

serve: sends a site on 127.0.0.1 with the headers that give its engine threads.

  --port N           8080; 0 takes any that is free

  --help, --version

Examples:
  npx magpie-recognizer site photos --out site
  npx magpie-recognizer site photos --title "On my shelf" --samples 4 --out site
  npx magpie-recognizer site photos.zip --out site
  npx magpie-recognizer serve site
`;

const text = { type: /** @type {const} */ ("string") };
const flag = { type: /** @type {const} */ ("boolean") };
const COMMON = { help: { ...flag, short: "h" }, version: { ...flag, short: "V" } };
const OPTIONS = {
  site: {
    out: text,
    title: text,
    extractor: text,
    detector: text,
    crop: text,
    adapt: text,
    calibrate: text,
    metadata: text,
    sample: { ...text, multiple: true },
    samples: text,
    report: text,
    threads: text,
    json: flag,
  },
  serve: { port: text },
};
const MOST_THREADS = 256;
const MOST_SAMPLES = 1000;

/** What somebody has given wrongly: ends with 2, as `magpie` does. */
class UsageError extends Error {}

function number(name, value, least, most) {
  const given = Number(value);
  if (/^\d+$/.test(value) && given >= least && given <= most) return given;
  throw new UsageError(`--${name} ${value}: an integer from ${least} to ${most} is needed`);
}

function oneOf(name, value, choices) {
  if (choices.includes(value)) return value;
  throw new UsageError(`--${name} ${value}: there is ${choices.join(", ")}`);
}

function only(positionals, what) {
  if (positionals.length === 1) return positionals[0];
  throw new UsageError(positionals.length ? `${positionals[1]}: only one ${what} is taken` : `name the ${what}`);
}

async function site({ values, positionals }) {
  const photos = only(positionals, "folder of photographs, or its zip file");
  if (!values.out) throw new UsageError("--out DIR is missing: name the folder to write the site into");
  if (values.samples !== undefined && values.sample) throw new UsageError("give --sample or --samples, not both");
  const given = (name, choices) => oneOf(name, values[name] ?? "auto", ["auto", ...choices]);
  await makeSite({
    photos,
    out: values.out,
    title: values.title,
    extractor: values.extractor,
    detector: values.detector,
    crop: given("crop", ["never", "middle", "main", "both"]),
    adapt: given("adapt", ["never"]) === "auto",
    calibrate: given("calibrate", ["never"]) === "auto",
    metadata: values.metadata,
    sample: values.sample ?? [],
    samples: values.samples === undefined ? 0 : number("samples", values.samples, 0, MOST_SAMPLES),
    report: given("report", ["never"]) === "auto",
    threads: values.threads === undefined ? undefined : number("threads", values.threads, 1, MOST_THREADS),
    json: values.json ?? false,
  });
}

async function run() {
  const [command, ...rest] = process.argv.slice(2);
  if (command === undefined || ["help", "--help", "-h"].includes(command)) return process.stdout.write(HELP);
  if (["--version", "-V"].includes(command)) return version();
  if (!Object.hasOwn(OPTIONS, command)) throw new UsageError(`there is no command ${command}; there is site, serve`);
  let parsed;
  try {
    parsed = parseArgs({ args: rest, options: { ...OPTIONS[command], ...COMMON }, allowPositionals: true });
  } catch (error) {
    throw new UsageError(error.message.split(". ")[0]);
  }
  const { values, positionals } = parsed;
  if (values.help) return process.stdout.write(HELP);
  if (values.version) return version();
  if (command === "site") return site({ values, positionals });
  await serve(only(positionals, "folder of the site"), number("port", values.port ?? "8080", 0, 65535));
}

async function version() {
  const own = JSON.parse(await readFile(new URL("./package.json", import.meta.url), "utf8"));
  process.stdout.write(`magpie-recognizer ${own.version}\n`);
}

// A reader that has gone, as `head`, ends the command.
process.stdout.on("error", () => process.exit(141));
try {
  await run();
} catch (error) {
  const usage = error instanceof UsageError;
  process.stderr.write(`error: ${error.message}${usage ? "\nsee magpie-recognizer --help" : ""}\n`);
  process.exitCode = usage ? 2 : 1;
}
