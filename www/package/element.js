// <magpie-recognizer bundle="./bundle/">: choose or drop a picture, see what is on it.
//
//   <script type="module" src="./element.js"></script>
//   <magpie-recognizer bundle="./bundle/"></magpie-recognizer>
//
// Attributes: bundle, assets, backend, src (a picture to begin with), top-k (classes to show of an object), camera (a
// button for it), teach (a field in which the picture is given a name). None has the name of a property, which
// frameworks would set in its place.
// Events: magpie-progress, magpie-ready, magpie-recognized, magpie-taught, magpie-error; what happened is in detail.
// Slots: prompt, button, camera, teach; the rest of its looks by ::part(drop), (camera), (picture), (video), (box),
// (label), (status), (answers), (answer), (thumbnail), (facts), (others), (teach), (name), (teach-button).
//
// Elements of one bundle share an engine, which ends a little after the last of them has left the page.

const STYLE = `
  :host { display: block; font: inherit; }
  .drop { position: relative; border: 2px dashed currentColor; border-radius: .5rem; padding: 1rem;
    text-align: center; }
  .drop.over { border-style: solid; }
  figure { position: relative; display: inline-block; margin: 2.5rem 0 0; max-width: 100%; }
  figure img, figure video { display: block; max-width: 100%; }
  [hidden] { display: none !important; }
  .camera { display: block; margin-top: .5rem; font: inherit; }
  .teach { display: flex; flex-wrap: wrap; gap: .5rem; margin: .75rem 0; }
  .teach input { flex: 1 1 10rem; }
  .teach input, .teach button { font: inherit; position: static; opacity: 1; width: auto; height: auto; }
  .box { position: absolute; border: 3px solid #0f766e; box-sizing: border-box; }
  .box.unknown { border-style: dashed; border-color: #78716c; }
  .label { position: absolute; left: -3px; bottom: 100%; max-width: max(100%, 12rem); background: #0f766e; color: #fff;
    padding: 0 .4em; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
  .unknown .label { background: #78716c; }
  ul { list-style: none; padding: 0; }
  li { margin-top: .75rem; overflow-wrap: anywhere; }
  li::after { content: ""; display: block; clear: both; }
  .thumbnail { float: left; width: 3rem; height: 3rem; object-fit: cover; margin-right: .75rem; }
  .others { clear: left; }
  .others .thumbnail { float: none; width: 1.5rem; height: 1.5rem; margin: 0 .5rem 0 0; vertical-align: middle; }
  dl, .others { margin: .25rem 0 0; font-size: .875em; }
  dt, dd { display: inline; margin: 0; }
  dt::after { content: ": "; }
  dd::after { content: "\\a"; white-space: pre; }
  label { cursor: pointer; text-decoration: underline; }
  input { position: absolute; opacity: 0; width: 1px; height: 1px; }
  input:focus-visible + slot { outline: 2px solid; }
`;

// Milliseconds that an engine waits for another element when its last one has left.
const GRACE = 1000;

// Engines by what was asked for.
const engines = new Map();

/** An engine that elements share: how many use it, and who hears of its progress. */
function share(bundle, { assets, backend }, onProgress) {
  const address = (text) => text && new URL(text, document.baseURI).href;
  const key = JSON.stringify([address(bundle), address(assets), backend]);
  let shared = engines.get(key);
  if (!shared || shared.magpie?.ended) {
    const end = new AbortController();
    const listeners = new Set();
    const tell = (progress) => {
      for (const listener of listeners) listener(progress);
    };
    shared = { key, end, listeners, users: 0, timer: undefined, magpie: null };
    const options = { assets, backend, onProgress: tell, signal: end.signal };
    // Where the module cannot be loaded, the element says so.
    const loading = import("./magpie.js").then(({ Magpie }) => Magpie.load(bundle, options));
    shared.loading = loading.then(
      (magpie) => (shared.magpie = magpie),
      (error) => {
        if (engines.get(key) === shared) engines.delete(key);
        throw error;
      },
    );
    shared.loading.catch(() => {});
    engines.set(key, shared);
  }
  clearTimeout(shared.timer);
  shared.users += 1;
  shared.listeners.add(onProgress);
  return shared;
}

function release(shared, onProgress) {
  shared.listeners.delete(onProgress);
  shared.users -= 1;
  if (shared.users > 0) return;
  shared.timer = setTimeout(() => {
    if (engines.get(shared.key) === shared) engines.delete(shared.key);
    shared.end.abort();
    shared.magpie?.dispose();
  }, GRACE);
}

const failure = (code, message) => Object.assign(new Error(message), { name: "MagpieError", code });

/** What a promise comes to, unless the signal is first. */
const unlessAborted = (promise, signal) =>
  new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) return stop();
    signal.addEventListener("abort", stop, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// A cosine: 1 is the same.
const similarityOf = ({ similarity }) => similarity.toFixed(2);

// Servers that render pages import modules, too, and know no elements.
const Base = globalThis.HTMLElement ?? class {};

export class MagpieRecognizer extends Base {
  static observedAttributes = ["bundle", "src", "camera", "teach"];
  /** @type {import("./magpie.js").Magpie | null} */
  #magpie = null;
  /** @type {Promise<import("./magpie.js").Magpie | null> | null} */
  #loading = null;
  // Ends with the use of an engine.
  /** @type {AbortController | null} */
  #using = null;
  // The picture that is looked at, and the one that is fetched for that.
  /** @type {AbortController | null} */
  #running = null;
  /** @type {AbortController | null} */
  #fetching = null;
  // Ends with the camera.
  /** @type {AbortController | null} */
  #filming = null;
  // What was recognized last, and may be taught.
  /** @type {any} */
  #seen = null;
  // Why the bundle cannot be loaded.
  /** @type {Error | null} */
  #refusal = null;
  // The address that was looked at last.
  /** @type {string | null} */
  #src = null;
  // Object addresses of the picture and of what is shown about it.
  /** @type {string | null} */
  #picture = null;
  /** @type {string[]} */
  #thumbnails = [];

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
    const input = make("input", { type: "file", accept: "image/*" });
    const button = make("slot", { name: "button" }, "choose one");
    const prompt = make("slot", { name: "prompt" }, "Drop a picture here, or ");
    const drop = make("div", { class: "drop", part: "drop" }, prompt, make("label", {}, input, button));
    const camera = make("button", { type: "button", class: "camera", part: "camera", "aria-pressed": "false" });
    camera.append(make("slot", { name: "camera" }, "Camera"));
    const image = make("img", { part: "picture", alt: "" });
    const video = make("video", { part: "video", playsinline: "", hidden: "" });
    video.muted = true;
    const figure = make("figure", { hidden: "" }, image, video);
    const status = make("p", { part: "status", role: "status" });
    const answers = make("ul", { part: "answers", "aria-live": "polite" });
    const name = make("input", { part: "name", "aria-label": "Name", maxlength: "200", autocomplete: "off" });
    name.required = true;
    const teach = make("form", { class: "teach", part: "teach" }, name);
    teach.append(make("button", { part: "teach-button" }, make("slot", { name: "teach" }, "Teach this name")));
    root.append(drop, camera, figure, status, answers, teach);
    this.parts = { drop, camera, figure, image, video, status, answers, teach, name };
    this.#offer();
    camera.addEventListener("click", () => {
      if (this.#filming) this.stopCamera();
      else this.startCamera().catch(() => {});
    });
    teach.addEventListener("submit", (event) => {
      event.preventDefault();
      this.learn(name.value).then(
        () => teach.reset(),
        () => {},
      );
    });
    input.addEventListener("change", () => {
      if (input.files[0]) this.recognize(input.files[0]).catch(() => {});
    });
    for (const kind of ["dragover", "dragleave", "drop"]) {
      drop.addEventListener(kind, (event) => {
        event.preventDefault();
        drop.classList.toggle("over", kind === "dragover");
        const file = kind === "drop" ? event.dataTransfer.files[0] : null;
        if (file) this.recognize(file).catch(() => {});
      });
    }
  }

  connectedCallback() {
    this.#open();
    this.#lookAtSource();
  }

  disconnectedCallback() {
    // An element that is moved is put back at once.
    setTimeout(() => {
      if (!this.isConnected) this.#close();
    });
  }

  attributeChangedCallback(name, before, now) {
    if (before === now) return;
    if (name === "camera" || name === "teach") return this.#offer();
    if (!this.isConnected) return;
    if (name === "bundle") {
      this.#close();
      // What was seen with another bundle tells nothing of this one.
      this.#clear();
      this.parts.figure.hidden = true;
      this.parts.image.removeAttribute("src");
      this.#say("");
      this.#src = null;
      this.#open();
    }
    this.#lookAtSource();
  }

  /** The loaded bundle, once there is one. */
  get magpie() {
    return this.#magpie;
  }

  // Shows the controls that somebody asks for, once they can do something.
  #offer() {
    const { camera, teach } = this.parts;
    camera.hidden = !this.hasAttribute("camera");
    if (camera.hidden) this.stopCamera();
    teach.hidden = !this.hasAttribute("teach") || this.#seen === null;
  }

  /** Says what is before the camera, frame by frame, until it is stopped or a picture takes its place. */
  async startCamera() {
    if (this.#filming) return;
    this.#stop();
    const filming = new AbortController();
    this.#filming = filming;
    const { camera, figure, image, video, answers } = this.parts;
    camera.setAttribute("aria-pressed", "true");
    // Nobody can listen to every frame.
    answers.setAttribute("aria-live", "off");
    const { signal } = filming;
    /** @type {MediaStream | null} */
    let stream = null;
    try {
      const asked = navigator.mediaDevices?.getUserMedia({ video: { facingMode: "environment" } });
      if (!asked) throw failure("device", "there is no camera: browsers give it to pages of https alone");
      stream = await asked.catch((error) => {
        throw failure("device", `the camera cannot be used: ${error.message}`);
      });
      if (signal.aborted) return;
      for (const track of stream.getTracks()) track.addEventListener("ended", () => filming.abort(), { signal });
      this.#clear();
      video.srcObject = stream;
      [image.hidden, video.hidden, figure.hidden] = [true, false, false];
      await unlessAborted(video.play(), signal);
      const magpie = await unlessAborted(this.#loading ?? Promise.resolve(null), signal);
      if (!magpie) throw this.#refusal ?? failure("bundle", "no bundle is loaded");
      while (!signal.aborted) await this.#film(magpie, signal);
    } catch (error) {
      if (signal.aborted) return;
      this.#failed(error);
      throw error;
    } finally {
      for (const track of stream?.getTracks() ?? []) track.stop();
      if (this.#filming === filming) this.stopCamera();
    }
  }

  // Recognizes one frame, and waits for the next.
  async #film(magpie, signal) {
    const { video } = this.parts;
    const shown = this.#shownAnswers();
    const result = await magpie.recognize(video, { topK: Math.max(5, shown), signal, follow: true });
    if (signal.aborted) return;
    this.#draw(result, shown);
    this.#seen = video;
    this.#offer();
    this.#tell("recognized", result);
    // None is drawn while nobody sees the page.
    await unlessAborted(new Promise((next) => requestAnimationFrame(next)), signal);
  }

  /** Ends the camera. */
  stopCamera() {
    const filming = this.#filming;
    if (!filming) return;
    this.#filming = null;
    const { camera, figure, image, video, answers } = this.parts;
    camera.setAttribute("aria-pressed", "false");
    answers.setAttribute("aria-live", "polite");
    [image.hidden, video.hidden, figure.hidden] = [false, true, true];
    video.srcObject = null;
    this.#clear();
    this.#forget();
    filming.abort();
  }

  /** Adds the picture that was recognized last, or the camera's, to a class; changes stay in this browser. */
  async learn(label) {
    const magpie = this.#magpie;
    try {
      if (this.#seen === null || !magpie) throw failure("argument", "no picture was recognized yet");
      const gallery = await magpie.gallery.add(String(label).trim(), this.#seen);
      this.#say("");
      this.#tell("taught", { label: String(label).trim(), gallery });
      // It shows what it has learned; a camera does so by itself.
      if (!this.#filming && this.#seen !== null) await this.recognize(this.#seen);
      return gallery;
    } catch (error) {
      this.#failed(error);
      throw error;
    }
  }

  // Nothing is there that may be taught.
  #forget() {
    this.#seen = null;
    this.#offer();
  }

  /** Says what is in a picture, and shows it. */
  async recognize(source) {
    this.stopCamera();
    this.#stop();
    const running = new AbortController();
    this.#running = running;
    const { signal } = running;
    try {
      // Another element, or a program, may have ended the engine.
      if (this.#magpie?.ended) {
        this.#leave();
        this.#open();
      }
      const magpie = await unlessAborted(this.#loading ?? Promise.resolve(null), signal);
      if (!magpie) throw this.#refusal ?? failure("bundle", "no bundle is loaded");
      await this.#show(source, signal);
      this.#say("…");
      const shown = this.#shownAnswers();
      const result = await magpie.recognize(source, { topK: Math.max(5, shown), signal });
      if (signal.aborted) throw signal.reason;
      this.#draw(result, shown);
      this.#seen = source;
      this.#offer();
      this.#tell("recognized", result);
      return result;
    } catch (error) {
      if (!signal.aborted) this.#failed(error);
      throw error;
    } finally {
      if (this.#running === running) this.#running = null;
    }
  }

  // Classes to show of each object.
  #shownAnswers() {
    const asked = Number(this.getAttribute("top-k"));
    return Number.isInteger(asked) && asked >= 1 && asked <= 100 ? asked : 1;
  }

  #stop() {
    this.#fetching?.abort();
    this.#running?.abort();
    this.#fetching = this.#running = null;
  }

  #open() {
    const bundle = this.getAttribute("bundle");
    if (!bundle || this.#loading) return;
    const using = new AbortController();
    const onProgress = (detail) => {
      this.#say(`${Math.round((100 * detail.loaded) / detail.total)} %`);
      this.#tell("progress", detail);
    };
    const [assets, backend] = ["assets", "backend"].map((a) => this.getAttribute(a) ?? undefined);
    let shared;
    try {
      shared = share(bundle, { assets, backend }, onProgress);
    } catch (error) {
      this.#refusal = failure("argument", error.message);
      return this.#failed(this.#refusal);
    }
    using.signal.addEventListener("abort", () => release(shared, onProgress));
    this.#using = using;
    this.#loading = unlessAborted(shared.loading, using.signal).then(
      (magpie) => {
        shared.listeners.delete(onProgress);
        this.#magpie = magpie;
        this.#say(magpie.title);
        this.#tell("ready", { magpie });
        return magpie;
      },
      (error) => {
        if (!using.signal.aborted) {
          this.#refusal = error;
          this.#failed(error);
        }
        return null;
      },
    );
  }

  #close() {
    this.stopCamera();
    this.#forget();
    // What was not looked at to the end is looked at when the element comes back.
    if (this.#running || this.#fetching) this.#src = null;
    this.#stop();
    this.#leave();
    if (this.#picture) URL.revokeObjectURL(this.#picture);
    this.#picture = null;
  }

  #leave() {
    this.#using?.abort();
    this.#magpie = this.#loading = this.#using = this.#refusal = null;
  }

  async #lookAtSource() {
    const address = this.getAttribute("src");
    if (!address || address === this.#src || !this.#loading) return;
    this.#stop();
    const fetching = new AbortController();
    [this.#src, this.#fetching] = [address, fetching];
    try {
      const { signal } = fetching;
      const response = await fetch(new URL(address, document.baseURI), { signal });
      if (!response.ok) throw failure("fetch", `${address}: the host answered ${response.status}`);
      const blob = await response.blob();
      if (signal.aborted) return;
      this.#fetching = null;
      // A failure is told already.
      await this.recognize(blob).catch(() => {});
    } catch (error) {
      if (!fetching.signal.aborted) this.#failed(error);
    }
  }

  async #show(source, signal) {
    if (signal.aborted) throw signal.reason;
    const { figure, image } = this.parts;
    this.#clear();
    this.#forget();
    figure.hidden = !(source instanceof Blob);
    if (figure.hidden) return;
    if (this.#picture) URL.revokeObjectURL(this.#picture);
    const { showable } = await import("./pixels.js");
    const picture = await showable(source);
    // The next picture may have taken its place.
    if (signal.aborted) throw signal.reason;
    this.#picture = URL.createObjectURL(picture);
    image.src = this.#picture;
    const shown = await image.decode().then(
      () => true,
      () => false,
    );
    if (signal.aborted) throw signal.reason;
    // What the browser cannot show may still be recognized.
    figure.hidden = !shown;
  }

  #clear() {
    for (const box of this.parts.figure.querySelectorAll(".box")) box.remove();
    this.parts.answers.replaceChildren();
    for (const address of this.#thumbnails) URL.revokeObjectURL(address);
    this.#thumbnails = [];
  }

  #draw({ width, height, objects }, shown) {
    this.#clear();
    const { figure, answers } = this.parts;
    const percent = (part, whole) => `${(100 * part) / whole}%`;
    for (const { box, known, answers: best } of objects) {
      const text = known ? best[0].label : "?";
      const label = make("span", { class: "label", part: "label" }, text);
      const frame = make("div", { class: known ? "box" : "box unknown", part: "box" }, label);
      frame.style.left = percent(box.x, width);
      frame.style.top = percent(box.y, height);
      frame.style.width = percent(box.width, width);
      frame.style.height = percent(box.height, height);
      figure.append(frame);
      answers.append(this.#line(text, known, best, shown));
    }
    this.#say(objects.length ? "" : "–");
  }

  // An object's class with what is known of it, and those that come next.
  #line(text, known, best, shown) {
    const line = make("li", { part: "answer" });
    const [first, ...others] = best.slice(0, shown);
    if (known) line.append(...this.#thumbnailOf(first));
    const sure = first ? ` (${similarityOf(first)})` : "";
    line.append(make("span", {}, text + sure));
    const facts = known ? Object.entries(first.metadata) : [];
    if (facts.length) {
      const list = make("dl", { part: "facts" });
      for (const [name, value] of facts) list.append(make("dt", {}, name), make("dd", {}, value));
      line.append(list);
    }
    // What is not known is near to something all the same.
    const nearest = known || shown === 1 ? others : best.slice(0, shown);
    for (const answer of nearest) {
      const words = `${answer.label} (${similarityOf(answer)})`;
      line.append(make("div", { class: "others", part: "others" }, ...this.#thumbnailOf(answer), words));
    }
    return line;
  }

  // The picture of a class, if it has one.
  #thumbnailOf({ thumbnail }) {
    if (!thumbnail) return [];
    const address = URL.createObjectURL(thumbnail);
    this.#thumbnails.push(address);
    return [make("img", { class: "thumbnail", part: "thumbnail", alt: "", src: address })];
  }

  #say(text) {
    this.parts.status.textContent = text;
  }

  #failed(error) {
    this.#say(error.message);
    this.#tell("error", { error });
  }

  #tell(what, detail) {
    this.dispatchEvent(new CustomEvent(`magpie-${what}`, { detail, bubbles: true, composed: true }));
  }
}

if (globalThis.customElements && !customElements.get("magpie-recognizer")) {
  customElements.define("magpie-recognizer", MagpieRecognizer);
}
