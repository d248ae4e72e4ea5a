// The page's camera in trouble, one line a scenario; prints what a visitor saw as JSON.
//
// node camera.mjs BROWSER SITE SHARDS PICTURE [SCENARIO,…]
//   BROWSER  chromium or firefox
//   SHARDS   folder of the site with its gallery in shards
import { readFileSync } from "node:fs";

import { launchNamed } from "./browsers.mjs";
import { give, keepAnswers, saying, settle, watch } from "./chromium.mjs";
import { start } from "./host.mjs";
import { playAll } from "./scenarios.mjs";

const [which, site, shards, picture, only] = process.argv.slice(2);
const sleep = (ms) => new Promise((then) => setTimeout(then, ms));
const browser = await launchNamed(which);

// A camera made of a canvas that shows the picture moving. After `hold` the browser gives it at `give` alone.
function stub(bytes) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [640, 480];
  const film = { canvas, held: null, streams: [], asked: 0 };
  film.hold = () => {
    film.held = new Promise((then) => (film.give = then));
  };
  window.film = film;
  const context = canvas.getContext("2d");
  // In Firefox events that a script makes reach no track: whoever listens is called.
  const heard = new Map();
  const overhear = (whom) => {
    const listeners = {};
    heard.set(whom, listeners);
    whom.addEventListener = (what, listener) => {
      listeners[what] ??= new Set();
      listeners[what].add(listener);
    };
    whom.removeEventListener = (what, listener) => listeners[what]?.delete(listener);
  };
  overhear(navigator.mediaDevices);
  let step = 0;
  createImageBitmap(new Blob([new Uint8Array(bytes)])).then((bitmap) => {
    setInterval(() => {
      step += 1;
      context.fillStyle = "#777";
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.drawImage(bitmap, 20 + 4 * (step % 20), 40, 400, 400);
    }, 60);
  });
  navigator.mediaDevices.getUserMedia = async () => {
    film.asked += 1;
    await film.held;
    const stream = canvas.captureStream(15);
    film.streams.push(stream);
    stream.getTracks().forEach(overhear);
    if (film.dead) for (const track of stream.getTracks()) track.stop();
    return stream;
  };
  // Cameras that are plugged in, by name.
  film.devices = ["canvas"];
  MediaStreamTrack.prototype.getSettings = () => ({ deviceId: "canvas" });
  navigator.mediaDevices.enumerateDevices = async () =>
    film.devices.map((deviceId) => ({ kind: "videoinput", deviceId }));
  film.hide = (hidden) => {
    Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  };
  film.track = () => film.streams.at(-1).getTracks()[0];
  film.tell = (what, whom = film.track()) => {
    for (const listener of heard.get(whom)?.[what] ?? []) listener.call(whom, new Event(what));
  };
}

async function open(folder = site) {
  const host = await start(folder, /\.shard$/);
  const context = await browser.newContext({ serviceWorkers: "block" });
  const page = await context.newPage();
  const watched = watch(page);
  // What a page that may keep nothing says of it.
  const problems = () => watched.problems.filter((words) => !/Service Worker|installing/.test(words));
  await keepAnswers(page);
  await page.addInitScript(stub, [...readFileSync(picture)]);
  await page.goto(`${host.address}?backend=cpu&lang=en`);
  await settle(page);
  const answers = () => page.evaluate(() => window.answers.length);
  return {
    page,
    host,
    problems,
    answers,
    press: () => page.locator("#camera").click(),
    /** Frames that were answered in a while. */
    async rate(ms = 700) {
      const before = await answers();
      await sleep(ms);
      return (await answers()) - before;
    },
    /** Waits while frames that are under way are answered; one that goes on filming is not waited for. */
    async still() {
      const waiting = () => page.evaluate(() => window.given - window.answers.length);
      // A frame that is being read is given a moment later.
      await sleep(500);
      for (let tries = 0; (await waiting()) > 0 && tries < 40; tries += 1) await sleep(200);
    },
    async running(more = 2) {
      const before = await answers();
      await page.waitForFunction((least) => window.answers.length >= least, before + more);
    },
    look: () =>
      page.evaluate(() => ({
        button: document.querySelector("#camera").textContent,
        status: document.querySelector("#status").textContent,
        live: window.film.streams.filter((stream) => stream.active).length,
        asked: window.film.asked,
        labels: [...document.querySelectorAll("#answers h3 .label")].map((label) => label.textContent),
        shown: document.querySelector("#video").srcObject !== null,
      })),
    async close() {
      await context.close();
      host.close();
    },
  };
}

const scenarios = {
  // Pressed again before the browser has given a camera.
  async twice({ page, press, running, look }) {
    await page.evaluate(() => window.film.hold());
    await press();
    await press();
    await page.evaluate(() => window.film.give());
    await running();
    const on = await look();
    await press();
    return { on, off: await look() };
  },

  // The browser never says whether there is a camera, and then gives one too late.
  async unanswered({ page, press, running, look }) {
    await page.evaluate(() => {
      const { setTimeout } = window;
      window.setTimeout = (act, ms, ...more) => setTimeout(act, ms === 30_000 ? 300 : ms, ...more);
      window.film.hold();
    });
    await press();
    await saying(page, "cannot be used");
    const given = await look();
    await page.evaluate(() => window.film.give());
    await page.waitForFunction(() => window.film.streams.length > 0);
    await sleep(300);
    const late = await look();
    await press();
    await running();
    return { given, late, again: await look() };
  },

  // A picture is given while the browser still asks its visitor.
  async meanwhile({ page, press, look, rate }) {
    await page.evaluate(() => window.film.hold());
    await press();
    await give(page, picture);
    const answered = await look();
    await page.evaluate(() => window.film.give());
    await page.waitForFunction(() => window.film.streams.length > 0);
    await sleep(300);
    return { answered, later: await look(), frames: await rate() };
  },

  async unplugged({ page, press, running, look, rate }) {
    await press();
    await running();
    await page.evaluate(() => {
      window.film.track().stop();
      window.film.tell("ended");
    });
    await saying(page, "camera is gone");
    const gone = { ...(await look()), frames: await rate() };
    await press();
    await running();
    // This time only the list of devices tells.
    await page.evaluate(() => {
      window.film.track().stop();
      window.film.tell("devicechange", navigator.mediaDevices);
    });
    await saying(page, "camera is gone");
    const unlisted = { ...(await look()), frames: await rate() };
    // Another device comes, then the one that was unplugged.
    const plug = (device) =>
      page.evaluate((device) => {
        window.film.devices.push(device);
        window.film.tell("devicechange", navigator.mediaDevices);
      }, device);
    await page.evaluate(() => (window.film.devices = []));
    await plug("another");
    await sleep(200);
    const other = await look();
    await plug("canvas");
    await running();
    return { gone, unlisted, other, back: await look() };
  },

  // It has ended by the time that it is given.
  async dead({ page, press, look }) {
    await page.evaluate(() => {
      window.film.dead = true;
    });
    await press();
    await saying(page, "camera is gone");
    return look();
  },

  // Another program takes the camera, and gives it back.
  async taken({ page, press, running, still, look, rate }) {
    await press();
    await running();
    // With a frame on its way.
    await page.evaluate(() => window.film.tell("mute"));
    await still();
    const away = { ...(await look()), frames: await rate() };
    await page.evaluate(() => window.film.tell("unmute"));
    await running();
    return { away, back: await look() };
  },

  // The stream is there and its film never begins.
  async silent({ page, press, running, look }) {
    await page.evaluate(() => {
      const { play } = HTMLMediaElement.prototype;
      window.film.play = () => (HTMLMediaElement.prototype.play = play);
      HTMLMediaElement.prototype.play = () => new Promise(() => {});
    });
    await press();
    await page.waitForFunction(() => document.querySelector("#camera").textContent === "Stop camera");
    await press();
    const stopped = await look();
    await press();
    await saying(page, "shows nothing");
    const late = await look();
    await page.evaluate(() => window.film.play());
    await press();
    await running();
    return { stopped, late, again: await look() };
  },

  // Nobody looks at the page for a while; then the system takes the camera from a page in the background.
  async background({ page, press, running, still, look, rate }) {
    await press();
    await running();
    await page.evaluate(() => window.film.hide(true));
    await still();
    const hidden = { ...(await look()), frames: await rate() };
    await page.evaluate(() => window.film.hide(false));
    await running();
    const back = await look();
    await page.evaluate(() => {
      window.film.hide(true);
      window.film.track().stop();
      window.film.tell("ended");
    });
    await saying(page, "camera is gone");
    const taken = await look();
    await page.evaluate(() => window.film.hide(false));
    await running();
    const again = await look();
    // The same without a word of the browser's.
    await page.evaluate(() => {
      window.film.hide(true);
      window.film.track().stop();
      window.film.hide(false);
    });
    await running();
    return { hidden, back, taken, again, untold: await look() };
  },

  // The host does not give what a frame needs for a while.
  async fails({ page, host, press, running, look }) {
    host.status = 503;
    await press();
    await page.waitForFunction(() => document.querySelector("#status").className === "failed");
    const away = await look();
    host.status = null;
    await running(3);
    return { away, back: await look() };
  },

  // What is taught from a frame is what its card says.
  async taught({ page, press, running, look }) {
    await press();
    await running(3);
    // A slow finger: the button stays under it.
    const [x, y] = await page.evaluate(() => {
      const button = document.querySelector(".correction button");
      button.scrollIntoView({ block: "center" });
      const { left, top, width, height } = button.getBoundingClientRect();
      return [left + width / 2, top + height / 2];
    });
    await page.mouse.move(x, y);
    await page.mouse.down();
    await sleep(400);
    await page.mouse.up();
    const held = await look();
    await page.keyboard.type("my thing");
    await page.keyboard.press("Enter");
    await saying(page, "Learned");
    const learned = await look();
    await press();
    await running(3);
    return { held, learned, running: await look() };
  },

  // A file is still looked at when the film begins: its answer is not shown on a frame.
  async overtaken({ page, press, look }) {
    await page.evaluate(() => {
      const { postMessage } = Worker.prototype;
      // No frame is answered, and the file late.
      Worker.prototype.postMessage = function (message, ...more) {
        if (message.Recognize?.follow) return;
        const wait = message.Recognize ? 2000 : 0;
        setTimeout(() => postMessage.call(this, message, ...more), wait);
      };
    });
    const before = await page.evaluate(() => window.answers.length);
    await page.locator("#file").setInputFiles(picture);
    await saying(page, "Looking");
    await press();
    await page.waitForFunction((before) => window.answers.length > before, before);
    await sleep(300);
    return look();
  },

  // Frames reach the engine in their own size; the one that is shown is the one that was answered.
  async whole({ page, press, running }) {
    await page.evaluate(() => Object.assign(window.film.canvas, { width: 1600, height: 900 }));
    await press();
    await running();
    return page.evaluate(() => {
      const { width, height } = window.answers.at(-1).result;
      const canvas = document.querySelector("#canvas");
      return { frame: [width, height], shown: [canvas.width, canvas.height] };
    });
  },
};

async function play(scenario, name) {
  const visit = await open(name === "fails" ? shards : site);
  try {
    const seen = { ...(await scenario(visit)), problems: visit.problems() };
    await visit.close();
    return seen;
  } catch (error) {
    throw new Error(`${name}: ${error.message}; ${JSON.stringify(await visit.look())}`);
  }
}
await playAll(scenarios, only, play, () => browser.close());
