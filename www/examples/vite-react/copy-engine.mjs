// The engine's worker and modules are loaded by address at run time: they are copied as they are.
import { cpSync, mkdirSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const from = dirname(fileURLToPath(import.meta.resolve("magpie-recognizer")));
const to = new URL("public/magpie/", import.meta.url);
mkdirSync(to, { recursive: true });
for (const file of readdirSync(from).filter((name) => name.startsWith("worker"))) {
  cpSync(join(from, file), new URL(file, to));
}
