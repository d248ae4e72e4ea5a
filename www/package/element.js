// <magpie-recognizer bundle="./bundle/">: choose or drop a picture, see what is on it.
//
//   <script type="module" src="./element.js"></script>
//   <magpie-recognizer bundle="./bundle/"></magpie-recognizer>
//
// Attributes: bundle, assets, backend, src (a picture to begin with), top-k.
// Events: magpie-progress, magpie-ready, magpie-recognized, magpie-error; what happened is in detail.
// Slots: prompt, button; the rest of its looks by ::part(drop), (picture), (box), (label), (status),
// (answers), (answer).
import { Magpie, MagpieError } from "./magpie.js";
import { showable } from "./pixels.js";

const STYLE = `
  :host { display: block; font: inherit; }
  .drop { position: relative; border: 2px dashed currentColor; border-radius: .5rem; padding: 1rem;
    text-align: center; }
  .drop.over { border-style: solid; }
  figure { position: relative; display: inline-block; margin: 1rem 0 0; max-width: 100%; }
  figure[hidden] { display: none; }
  img { display: block; max-width: 100%; }
  .box { position: absolute; border: 3px solid #0f766e; box-sizing: border-box; }
  .box.unknown { border-style: dashed; border-color: #78716c; }
  .label { position: absolute; left: -3px; bottom: 100%; background: #0f766e; color: #fff;
    padding: 0 .4em; white-space: nowrap; }
  .unknown .label { background: #78716c; }
  label { cursor: pointer; text-decoration: underline; }
  input { position: absolute; opacity: 0; width: 1px; height: 1px; }
  input:focus-visible + slot { outline: 2px solid; }
`;

export class MagpieRecognizer extends HTMLElement {
  static observedAttributes = ["bundle", "src"];
  #magpie = null;
  #loading = null;
  #ending = null;
  #running = null;
  #address = null;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
    const make = (tag, attributes = {}, ...children) => {
      const element = document.createElement(tag);
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      element.append(...children);
      return element;
    };
    const input = make("input", { type: "file", accept: "image/*" });
    const button = make("slot", { name: "button" }, "choose one");
    const prompt = make("slot", { name: "prompt" }, "Drop a picture here, or ");
    const drop = make("div", { class: "drop", part: "drop" }, prompt, make("label", {}, input, button));
    const image = make("img", { part: "picture", alt: "" });
    const figure = make("figure", { hidden: "" }, image);
    const status = make("p", { part: "status", role: "status" });
    const answers = make("ul", { part: "answers" });
    root.append(drop, figure, status, answers);
    this.parts = { drop, figure, image, status, answers };
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
  }

  disconnectedCallback() {
    this.#end();
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.#address = null;
  }

  attributeChangedCallback(name, before, now) {
    if (!this.isConnected || before === now) return;
    if (name === "bundle") {
      this.#end();
      this.#open();
    } else if (name === "src" && now) {
      this.#recognizeAddress(now);
    }
  }

  /** The loaded bundle, once there is one. */
  get magpie() {
    return this.#magpie;
  }

  /** Says what is in a picture, and shows it. */
  async recognize(source) {
    this.#running?.abort();
    const running = new AbortController();
    this.#running = running;
    try {
      const magpie = await this.#loading;
      if (!magpie) throw new MagpieError("bundle", "no bundle is loaded");
      await this.#show(source);
      this.#say("…");
      const topK = Number(this.getAttribute("top-k")) || undefined;
      const result = await magpie.recognize(source, { topK, signal: running.signal });
      this.#draw(result);
      this.#tell("recognized", result);
      return result;
    } catch (error) {
      if (!running.signal.aborted) this.#failed(error);
      throw error;
    }
  }

  #open() {
    const bundle = this.getAttribute("bundle");
    if (!bundle || this.#loading) return;
    const ending = new AbortController();
    this.#ending = ending;
    const onProgress = (detail) => {
      this.#say(`${Math.round((100 * detail.loaded) / detail.total)} %`);
      this.#tell("progress", detail);
    };
    const [assets, backend] = ["assets", "backend"].map((a) => this.getAttribute(a) ?? undefined);
    this.#loading = Magpie.load(bundle, { assets, backend, onProgress, signal: ending.signal }).then(
      (magpie) => {
        if (ending.signal.aborted) {
          magpie.dispose();
          return null;
        }
        this.#magpie = magpie;
        this.#say(magpie.title);
        this.#tell("ready", { magpie });
        if (this.getAttribute("src")) this.#recognizeAddress(this.getAttribute("src"));
        return magpie;
      },
      (error) => {
        if (!ending.signal.aborted) this.#failed(error);
        return null;
      },
    );
  }

  #end() {
    this.#running?.abort();
    this.#ending?.abort();
    this.#magpie?.dispose();
    this.#magpie = this.#loading = this.#ending = null;
  }

  async #recognizeAddress(address) {
    try {
      const response = await fetch(new URL(address, document.baseURI));
      if (!response.ok) throw new MagpieError("fetch", `${address}: ${response.status}`);
      await this.recognize(await response.blob());
    } catch (error) {
      if (error.name !== "AbortError") this.#failed(error);
    }
  }

  async #show(source) {
    const { figure, image, answers } = this.parts;
    figure.querySelectorAll(".box").forEach((box) => box.remove());
    answers.replaceChildren();
    figure.hidden = !(source instanceof Blob);
    if (figure.hidden) return;
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.#address = URL.createObjectURL(await showable(source));
    image.src = this.#address;
    // What the browser cannot show may still be recognised.
    await image.decode().catch(() => {
      figure.hidden = true;
    });
  }

  #draw({ width, height, objects }) {
    const { figure, answers } = this.parts;
    const percent = (part, whole) => `${(100 * part) / whole}%`;
    for (const { box, known, answers: best } of objects) {
      const text = known ? best[0].label : "?";
      const frame = document.createElement("div");
      frame.className = known ? "box" : "box unknown";
      frame.setAttribute("part", "box");
      frame.style.left = percent(box.x, width);
      frame.style.top = percent(box.y, height);
      frame.style.width = percent(box.width, width);
      frame.style.height = percent(box.height, height);
      const label = document.createElement("span");
      label.className = "label";
      label.setAttribute("part", "label");
      label.textContent = text;
      frame.append(label);
      figure.append(frame);
      const line = document.createElement("li");
      line.setAttribute("part", "answer");
      const sure = best[0] ? ` (${Math.round(100 * best[0].similarity)} %)` : "";
      line.textContent = text + sure;
      answers.append(line);
    }
    this.#say(this.#magpie?.title ?? "");
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

if (!customElements.get("magpie-recognizer")) {
  customElements.define("magpie-recognizer", MagpieRecognizer);
}
