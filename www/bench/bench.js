// Measures this device part by part, shows the figures, keeps and compares them.
import { defaultThreads, moduleName } from "../engine.js";
import { Magpie } from "../magpie.js";
import { say, sayCount } from "./language.js";
import { measurePeer } from "./peers.js";
import { figures, fromFragment, isOther, isWide, parse, toFragment } from "./results.js";

const PICTURE = [1280, 960];
const MINUTE = 60_000;
const find = (id) => document.querySelector(`#${id}`);

// Parts by the names that they have in reports.
const STAGES = [
  ["detector network", "detector-network"],
  ["detect", "detect"],
  ["extractor network", "extractor-network"],
  ["embed 1", { stage: "embed", batch: 1 }],
  ["embed 4", { stage: "embed", batch: 4 }],
  ["embed 16", { stage: "embed", batch: 16 }],
  ["search", "search"],
  ["search in 1000", { stage: "search", entries: 1000 }],
  ["search in 10000", { stage: "search", entries: 10_000 }],
  ["search in 100000", { stage: "search", entries: 100_000 }],
  ["recognize", "recognize"],
];

function partName(what) {
  const [, kind, count] = /^(\D*?)(?: (\d+))?$/.exec(what) ?? [];
  if (kind === "embed" && count) return sayCount("bench.part.embed", Number(count));
  if (kind === "search in" && count) {
    return say("bench.part.search.in", { count: Number(count).toLocaleString() });
  }
  const known = {
    "first visit, first picture": "bench.part.first",
    "open, first picture": "bench.part.open",
    detect: "bench.part.detect",
    "detector network": "bench.part.detector",
    "extractor network": "bench.part.extractor",
    search: "bench.part.search",
    recognize: "bench.part.recognize",
    recognise: "bench.part.recognize", // An old name.
  }[what];
  return known ? say(known) : what;
}

const engineName = (device) =>
  ({ cpu: say("engine.cpu"), webgpu: say("engine.webgpu") })[device] ?? device;

// Who computed a report's figures, and how.
function computer({ program, device, arithmetic }) {
  const engine = engineName(device);
  const whole = arithmetic === "i8" ? say("engine.whole", { engine }) : engine;
  return program.startsWith("magpie") ? whole : `${program}, ${whole}`;
}

const shown = { reports: [], compared: [] };

function status(text, kind = "busy") {
  find("status").textContent = text;
  find("status").className = kind;
}

const make = (tag, text = "", attributes = {}) => {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};

const milliseconds = (value) =>
  value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toFixed(3);

// One row a part, one column a report. Bars are as long as the figure is beside the row's longest; of one
// report alone, beside the longest of what happens again with every picture.
function draw() {
  const reports = [...shown.reports, ...shown.compared];
  find("results").hidden = reports.length === 0;
  const head = make("tr");
  head.append(make("th", say("bench.part"), { scope: "col" }));
  for (const report of reports) {
    const cell = make("th", computer(report), { scope: "col" });
    const { cores, threads = 1 } = report;
    const cpu = report.device === "cpu" && say("bench.cpu", { threads, cores });
    const adapter = cpu || (report.adapter ?? "");
    cell.append(make("br"), make("small", [report.system, adapter].filter(Boolean).join(" · ")));
    head.append(cell);
  }
  find("columns").replaceChildren(head);
  const parts = [...new Set(reports.flatMap(({ results }) => results.map(({ what }) => what)))];
  const again = reports[0]?.results.filter(({ what }) => !what.includes("first picture")) ?? [];
  const most = Math.max(...again.map(({ median_ms }) => median_ms));
  const lines = (what) => reports.map(({ results }) => results.find((line) => line.what === what));
  const rows = parts.map((what) => {
    const row = make("tr");
    row.append(make("th", partName(what), { scope: "row" }));
    const cells = lines(what);
    const longest = reports.length > 1 ? Math.max(...cells.map((line) => line?.median_ms ?? 0)) : most;
    for (const line of cells) {
      const cell = make("td");
      if (line) {
        cell.append(milliseconds(line.median_ms), " ");
        cell.append(make("small", `(${milliseconds(line.p95_ms)})`));
        if (isOther(line)) cell.append(" ≠");
        const bar = make("span", "", { class: "bar" });
        bar.style.width = `${longest > 0 ? Math.min(100, (100 * line.median_ms) / longest) : 0}%`;
        // What happens once would leave no room for the rest.
        bar.classList.toggle("cut", line.median_ms > longest);
        cell.append(bar);
        cell.classList.toggle("wide-spread", isWide(line));
      }
      row.append(cell);
    }
    return row;
  });
  find("rows").replaceChildren(...rows);
  find("other").hidden = !reports.some(({ results }) => results.some(isOther));
  find("wide").hidden = !reports.some(({ results }) => results.some(isWide));
  drawMinute(reports.find(({ minute }) => minute?.length > 1)?.minute);
}

function drawMinute(minute) {
  find("drift").hidden = !minute;
  if (!minute) return;
  const most = Math.max(...minute);
  const points = minute.map((value, index) => {
    const x = (600 * index) / (minute.length - 1);
    return `${x.toFixed(1)},${(118 - (116 * value) / most).toFixed(1)}`;
  });
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", points.join(" "));
  find("drift-chart").setAttribute("preserveAspectRatio", "none");
  find("drift-chart").replaceChildren(line);
  const part = Math.max(1, Math.floor(minute.length / 6));
  const median = (times) => milliseconds(figures("", times).median_ms);
  const [first, last] = [median(minute.slice(0, part)), median(minute.slice(-part))];
  find("drift-said").textContent = say("bench.drift.said", { first, last });
}

async function adapter() {
  const found = await navigator.gpu?.requestAdapter().catch(() => null);
  if (!found) return null;
  const { vendor = "", architecture = "", device = "", description = "" } = found.info ?? {};
  const software = found.info?.isFallbackAdapter ?? found.isFallbackAdapter ?? false;
  const name = [vendor, architecture, device, description].filter(Boolean).join(" ");
  return { name: name || "?", software };
}

function browser() {
  const brands = navigator.userAgentData?.brands?.filter(({ brand }) => !/not.?a.?brand/i.test(brand));
  if (brands?.length) return brands.map(({ brand, version }) => `${brand} ${version}`).join(", ");
  return /(Firefox|Version|Chrome)\/[\d.]+/.exec(navigator.userAgent)?.[0] ?? navigator.userAgent;
}

const system = () => navigator.userAgentData?.platform || navigator.platform || "?";
const heap = () => performance.memory?.usedJSHeapSize;

function describe(found) {
  const gigabytes = navigator.deviceMemory ? `${navigator.deviceMemory} GB` : null;
  const graphics = found
    ? found.name + (found.software ? ` (${say("bench.software")})` : "")
    : say("bench.none");
  const megabytes = heap() ? `${(heap() / 1e6).toFixed(0)} MB` : null;
  const lines = [
    ["bench.browser", browser()],
    ["bench.system", system()],
    ["bench.cores", String(navigator.hardwareConcurrency ?? "?")],
    ["bench.memory", gigabytes],
    ["bench.heap", megabytes],
    ["bench.isolated", say(crossOriginIsolated ? "bench.yes" : "bench.no")],
    ["bench.adapter", graphics],
  ].filter(([, value]) => value);
  find("device").replaceChildren(
    ...lines.flatMap(([key, value]) => [make("dt", say(key)), make("dd", value)]),
  );
}

// The picture that `magpie bench` draws: something everywhere.
function drawn() {
  const [width, height] = PICTURE;
  const rgba = new Uint8ClampedArray(width * height * 4);
  for (let pixel = 0; pixel < width * height; pixel += 1) {
    for (let channel = 0; channel < 3; channel += 1) {
      rgba[pixel * 4 + channel] = ((pixel * 3 + channel) * 7) % 251;
    }
    rgba[pixel * 4 + 3] = 255;
  }
  return new ImageData(rgba, width, height);
}

const bundle = new URLSearchParams(location.search).get("bundle") ?? "bundle/";

// What all reports say that were measured in this page.
const measuredHere = (backend, graphics) => ({
  schema: 2,
  system: `${browser()}, ${system()}`,
  cores: navigator.hardwareConcurrency ?? 1,
  device: backend,
  ...(backend === "webgpu" && graphics
    ? { adapter: graphics.name, software_adapter: graphics.software }
    : {}),
  isolated: crossOriginIsolated,
  picture: PICTURE,
});

async function measure(backend, arithmetic, { runs, minute, threads, signal, graphics }) {
  const engine = engineName(backend);
  const results = [];
  const picture = drawn();
  let magpie = null;
  const opened = [];
  try {
    for (let time = 0; time < 4; time += 1) {
      status(say("bench.opening", { engine }));
      magpie?.dispose();
      const start = performance.now();
      const address = new URL(`../${bundle}`, location.href);
      magpie = await Magpie.load(address, { backend, threads, arithmetic, signal });
      await magpie.recognize(picture, { signal });
      opened.push(performance.now() - start);
    }
    results.push(figures("first visit, first picture", opened.slice(0, 1)));
    results.push(figures("open, first picture", opened.slice(1)));
    for (const [what, stage] of STAGES) {
      if (stage.startsWith?.("detect") && !magpie.detects) continue;
      status(say("bench.running", { engine, part: partName(what) }));
      results.push(figures(what, await magpie.measure(stage, { runs, signal })));
    }
    const times = [];
    const begin = performance.now();
    while (minute && performance.now() - begin < MINUTE) {
      const seconds = Math.floor((performance.now() - begin) / 1000);
      status(say("bench.drifting", { engine, seconds }));
      times.push(...(await magpie.measure("recognize", { runs: 1, signal })));
    }
    const { classes, entries } = await magpie.gallery.list();
    const last = await magpie.recognize(picture, { signal });
    return {
      ...measuredHere(backend, graphics),
      program: "magpie, in a page",
      threads: last.threads,
      arithmetic: magpie.arithmetic,
      ...(heap() ? { page_bytes: heap() } : {}),
      bundle: magpie.title,
      gallery: [classes, entries],
      results,
      ...(times.length ? { minute: times } : {}),
    };
  } finally {
    magpie?.dispose();
  }
}

let running = null;

async function run(graphics) {
  running = new AbortController();
  const { signal } = running;
  find("start").disabled = true;
  find("stop").disabled = false;
  const runs = Math.min(1000, Math.max(3, Number(find("runs").value) || 20));
  const minute = find("minute").checked;
  const threads = Math.min(64, Math.max(1, Math.round(Number(find("threads").value)) || 1));
  shown.reports = [];
  draw();
  let failure = null;
  const attempt = async (engine, measured) => {
    if (signal.aborted) return;
    try {
      shown.reports.push(await measured());
    } catch (error) {
      if (!signal.aborted) failure = say("bench.failed", { engine, reason: error.message });
    }
    draw();
  };
  const options = { runs, minute, threads, signal, graphics };
  for (const backend of ["cpu", "webgpu"].filter((name) => find(`use-${name}`).checked)) {
    const wanted = backend === "cpu" ? find("arithmetic").value.split(",") : [""];
    for (const arithmetic of wanted) {
      const measured = () => measure(backend, arithmetic || undefined, options);
      await attempt(engineName(backend), measured);
    }
    for (const { value: runtime } of document.querySelectorAll("#peers input:checked")) {
      const program = `${runtime} ${peers.runtimes[runtime]}`;
      const engine = `${program}, ${engineName(backend)}`;
      const running = (what) => status(say("bench.running", { engine, part: partName(what) }));
      const { signal, runs } = options;
      const threads = backend === "cpu" ? options.threads : 1;
      await attempt(engine, async () => ({
        ...measuredHere(backend, graphics),
        program,
        threads,
        bundle: shown.reports[0]?.bundle ?? "",
        gallery: shown.reports[0]?.gallery ?? [0, 0],
        results: await measurePeer(runtime, peers.networks, {
          backend,
          threads,
          runs,
          signal,
          running,
        }),
      }));
    }
  }
  describe(graphics);
  if (signal.aborted) status(say("bench.stopped"), "done");
  else if (failure) status(failure, "failed");
  else status(say("bench.done"), "done");
  find("start").disabled = false;
  find("stop").disabled = true;
}

// Results of other devices stand beside this one's; unreadable ones change nothing.
function compare(reports) {
  if (!reports) return status(say("bench.unreadable"), "failed");
  shown.compared.push(...reports);
  draw();
}

const graphics = await adapter();
// What the site's owner put beside Magpie's engine.
const peers = await (await fetch("peers.json")).json();
// They have the networks of the site's own bundle.
const offered = new URLSearchParams(location.search).has("bundle") ? {} : peers.runtimes;
find("peers").hidden = Object.keys(offered).length === 0;
for (const [runtime, version] of Object.entries(offered)) {
  const label = make("label");
  const box = make("input", "", { type: "checkbox", value: runtime });
  box.checked = new URLSearchParams(location.search).has("peers");
  label.append(box, ` ${runtime} ${version}`);
  find("peers").append(label);
}
// Only relaxed SIMD computes in 8-bit integers.
find("arithmetic").disabled = moduleName("cpu") !== "relaxed";
describe(graphics);
find("use-webgpu").disabled = !graphics;
find("threads").disabled = !crossOriginIsolated;
find("threads").value = crossOriginIsolated ? defaultThreads() : 1;
find("no-threads").hidden = crossOriginIsolated;
// A software adapter is measured only where somebody asks for it.
find("use-webgpu").checked = !!graphics && !graphics.software;
find("start").addEventListener("click", () => run(graphics));
find("stop").addEventListener("click", () => running?.abort());
find("save").addEventListener("click", () => {
  const reports = [...shown.reports, ...shown.compared];
  const text = JSON.stringify(reports.length === 1 ? reports[0] : reports, null, 2);
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  make("a", "", { href: url, download: "magpie-bench.json" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
});
find("link").addEventListener("click", async () => {
  const link = new URL(await toFragment([...shown.reports, ...shown.compared]), location.href);
  history.replaceState(null, "", link);
  try {
    await navigator.clipboard.writeText(link.href);
    status(say("bench.copied"), "done");
  } catch {
    // The address of this page is the link now.
    status(link.href, "done");
  }
});
find("compare").addEventListener("change", async ({ target }) => {
  const file = target.files[0];
  target.value = "";
  if (file) compare(parse(await file.text()));
});
document.addEventListener("paste", async ({ clipboardData }) => {
  const text = clipboardData?.getData("text/plain").trim();
  if (text?.includes("#r=")) compare(await fromFragment(text));
});
if (location.hash) compare(await fromFragment(location.href));
document.documentElement.dataset.ready = "";
if (new URLSearchParams(location.search).has("run")) run(graphics);
