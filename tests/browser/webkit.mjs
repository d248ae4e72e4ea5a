// The published page in WebKitGTK, driven through its WebDriver on a display of its own; prints what it saw.
//
// node webkit.mjs ADDRESS SCREENSHOT_FOLDER PICTURE COUNT
//   ADDRESS  of the site; PICTURE  path of a picture on it
//   COUNT    pictures that one page recognizes in a row
import { spawn } from "node:child_process";
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const [address, screenshots, picture, count] = process.argv.slice(2);
const sleep = (ms) => new Promise((then) => setTimeout(then, ms));

// Where distributions put the browser that the driver starts.
const places = ["4.1", "4.0"].flatMap((version) =>
  [`/usr/lib/${process.arch === "arm64" ? "aarch64" : "x86_64"}-linux-gnu`, "/usr/lib64", "/usr/libexec"].map((folder) =>
    join(folder, `webkit2gtk-${version}`, "MiniBrowser"),
  ),
);
const binary = places.find(existsSync);
if (!binary) throw new Error(`no MiniBrowser in ${places.join(", ")}`);

/** Starts a program that prints a number on a line, and waits for it. */
async function display() {
  const program = spawn("Xvfb", ["-displayfd", "1", "-screen", "0", "1280x1024x24", "-nolisten", "tcp"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  const [line] = await new Promise((then, fail) => {
    program.stdout.once("data", (data) => then(String(data).trim().split("\n")));
    program.once("exit", () => fail(new Error("Xvfb ended")));
  });
  return { program, name: `:${line}` };
}

const screen = await display();
const port = 20_000 + (process.pid % 20_000);
const driver = spawn("WebKitWebDriver", [`--port=${port}`], {
  // The browser's sandbox takes rights that a test machine may not have.
  env: { ...process.env, DISPLAY: screen.name, WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS: "1" },
  stdio: "ignore",
});

async function ask(method, path, body) {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    method,
    headers: { "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  });
  const { value } = await response.json();
  if (value?.error) throw new Error(`${value.error}: ${value.message}`);
  return value;
}

async function begin() {
  const options = { binary, args: ["--automation"] };
  const capabilities = { alwaysMatch: { browserName: "MiniBrowser", "webkitgtk:browserOptions": options } };
  for (let tries = 0; ; tries += 1) {
    try {
      return await ask("POST", "/session", { capabilities });
    } catch (error) {
      // The driver takes a moment to listen.
      if (tries === 50) throw error;
      await sleep(100);
    }
  }
}

const { sessionId, capabilities } = await begin();
const session = `/session/${sessionId}`;
await ask("POST", `${session}/timeouts`, { script: 480_000, pageLoad: 60_000 });
const go = (url) => ask("POST", `${session}/url`, { url });
/** Runs a function in the page; it may wait. */
const run = (code, ...args) =>
  ask("POST", `${session}/execute/async`, {
    script: `const done = arguments[arguments.length - 1]; (${code})(...Array.from(arguments).slice(0, -1)).then((value) => done({ value }), (error) => done({ failure: String(error) }));`,
    args,
  }).then(({ value, failure }) => {
    if (failure) throw new Error(failure);
    return value;
  });
const screenshot = async (name) =>
  writeFileSync(join(screenshots, name), Buffer.from(await ask("GET", `${session}/screenshot`), "base64"));

/** Megabytes that the browser's processes hold, and the seconds of a processor that they have taken. */
function processes() {
  const parents = new Map();
  for (const id of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const fields = readFileSync(`/proc/${id}/stat`, "utf8").replace(/^.*\) /, "").split(" ");
      parents.set(Number(id), { parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]), pages: Number(fields[21]) });
    } catch {
      // It has ended.
    }
  }
  const isOurs = (id) => id === driver.pid || (parents.has(id) && isOurs(parents.get(id).parent));
  const own = [...parents].filter(([id]) => isOurs(id)).map(([, numbers]) => numbers);
  const sum = (key) => own.reduce((sum, numbers) => sum + numbers[key], 0);
  return { megabytes: (sum("pages") * 4096) / 1e6, seconds: sum("ticks") / 100 };
}

const waitFor = async (test, what) => {
  const end = Date.now() + 60_000;
  while (!(await test())) {
    if (Date.now() > end) throw new Error(`no ${what}`);
    await new Promise((then) => setTimeout(then, 50));
  }
};
const page = `const waitFor = ${waitFor};
  const text = (selector) => document.querySelector(selector)?.textContent ?? null;
  const settled = () => /done|failed/.test(document.querySelector("#status").className);
  const labels = () => [...document.querySelectorAll("#answers h3 .label")].map((label) => label.textContent);
  const give = async (address) => {
    const blob = await (await fetch(address)).blob();
    const given = new DataTransfer();
    given.items.add(new File([blob], "picture.jpg", { type: "image/jpeg" }));
    const input = document.querySelector("#file");
    document.querySelector("#status").className = "";
    input.files = given.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
    await waitFor(() => settled() && labels().length, "answer");
  };`;

const seen = { browser: capabilities.browserVersion };
try {
  await go(`${address}?lang=en`);
  await run(`async () => { ${page} await waitFor(settled, "engine"); }`);
  Object.assign(
    seen,
    await run(`async (picture) => { ${page} await give(picture);
      return { status: text("#status"), labels: labels(), boxes: document.querySelectorAll("#boxes .box").length, isolated: crossOriginIsolated }; }`, picture),
  );
  await screenshot("webkit.png");
  // Where there is no storage, what is taught holds as long as the page.
  Object.assign(
    seen,
    await run(`async (picture) => { ${page}
      document.querySelector(".correction button").click();
      const input = document.querySelector(".correction input");
      input.value = "my thing";
      input.form.requestSubmit();
      await waitFor(() => text("#status").includes("Learned"), "lesson");
      await give(picture);
      return { taught: labels()[0], kept: text("#kept"), storage: Boolean(navigator.storage?.getDirectory) }; }`, picture),
  );
  // One page, many pictures: neither memory nor work is left behind.
  await go(`${address}bench/`);
  await run(`async (picture) => {
    const { Magpie } = await import("../magpie.js");
    window.magpie = await Magpie.load("../bundle/", { backend: "cpu" });
    window.picture = await (await fetch("../" + picture)).blob();
  }`, picture);
  const rounds = [];
  for (let round = 0; round < 3; round += 1) {
    await run(`async (count) => { for (let i = 0; i < count; i += 1) await window.magpie.recognize(window.picture); }`, Math.ceil(Number(count) / 3));
    rounds.push(processes().megabytes);
  }
  await sleep(1000);
  const before = processes().seconds;
  await sleep(2000);
  Object.assign(seen, { megabytes: rounds, idle: (processes().seconds - before) / 2 });
} finally {
  await ask("DELETE", session).catch(() => {});
  driver.kill();
  screen.program.kill();
}
console.log(JSON.stringify(seen));
process.exit(0);
