// The package in Node, whose library has no page; only compiled, never run.
import { openAsBlob } from "node:fs";
import { pathToFileURL } from "node:url";

import { Magpie, MagpieError } from "magpie-recognizer/node";

const magpie = await Magpie.load(pathToFileURL("site/bundle/"), { signal: AbortSignal.timeout(1000) });
const { objects } = await magpie.recognize(await openAsBlob("shelf.jpg"), { topK: 2 });
const labels: (string | null)[] = objects.map(({ label }) => label);
const kept: Blob = await magpie.gallery.export();
const error: MagpieError = new MagpieError("argument", "words");
console.log(labels, kept.size, error.kind);

// @ts-expect-error Text is no picture, here neither.
await magpie.recognize("shelf.jpg");
// @ts-expect-error There is no such code.
new MagpieError("toonew", "words");
