// Results as they are kept: reports of the form in schema.json, in files and in links.

const REPORTS = 20;

/** What many runs of a part come to, as the engine's own program sums them up. */
export function figures(what, milliseconds) {
  const sorted = [...milliseconds].sort((a, b) => a - b);
  const at = (part) => sorted[Math.min(Math.floor((sorted.length * part) / 100), sorted.length - 1)];
  return { what, runs: sorted.length, median_ms: at(50), least_ms: at(0), p95_ms: at(95) };
}

/** Whether the runs differ so much that something else must have been running. */
export const isWide = ({ median_ms, p95_ms }) => p95_ms > 2 * median_ms;

/** Whether another runtime's answers are not Magpie's: floats summed in another order are nearer. */
export const isOther = ({ apart }) => apart > 0.01;

const isReport = (report) =>
  report?.schema === 2 &&
  ["program", "system", "device", "bundle"].every((key) => typeof report[key] === "string") &&
  Array.isArray(report.results) &&
  report.results.length < 100 &&
  report.results.every(
    (line) =>
      typeof line?.what === "string" &&
      ["runs", "median_ms", "least_ms", "p95_ms"].every((key) => Number.isFinite(line[key])),
  );

/** The reports of a file: one, as `magpie bench --json` prints it, or a list; null for anything else. */
export function parse(text) {
  let reports;
  try {
    reports = JSON.parse(text);
  } catch {
    return null;
  }
  if (!Array.isArray(reports)) reports = [reports];
  return reports.length > 0 && reports.length <= REPORTS && reports.every(isReport) ? reports : null;
}

const through = async (bytes, stream) =>
  new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());

/** Reports as the part of an address that no server sees. */
export async function toFragment(reports) {
  const bytes = new TextEncoder().encode(JSON.stringify(reports));
  const packed = await through(bytes, new CompressionStream("deflate-raw"));
  const text = btoa(String.fromCharCode(...packed));
  return `#r=${text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`;
}

/** The reports of an address; null where it holds none. */
export async function fromFragment(address) {
  const packed = /#r=([\w-]{1,20000})$/.exec(address)?.[1];
  if (!packed) return null;
  try {
    const text = atob(packed.replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
    const plain = await through(bytes, new DecompressionStream("deflate-raw"));
    return parse(new TextDecoder().decode(plain));
  } catch {
    return null;
  }
}
