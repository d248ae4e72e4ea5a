// What the owner's page is made of: sentences, elements, questions, requests with the token.


const all = await (await fetch("sentences.json")).json();
export const wanted = navigator.languages.map((tag) => tag.slice(0, 2)).find((tag) => tag in all) ?? "en";
document.documentElement.lang = wanted;

/** A sentence, with values in its braces. */
export function say(name, values = {}) {
  return all[wanted][name].replace(/\{(\w+)\}/g, (whole, key) => values[key] ?? whole);
}

export const $ = (id) => document.getElementById(id);

/** An element with properties, listeners ("onclick") and children; of null nothing becomes. */
export function make(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made && !key.startsWith("aria")) made[key] = value;
    else if (value !== null) made.setAttribute(key, value);
  }
  made.append(...children.flat(2).filter((child) => child !== null));
  return made;
}

/** Says how something went; it stays until something else is said, or until it is closed. */
export function tell(text, isWrong = false) {
  $("status").replaceChildren(text);
  if (text && text !== say("working")) {
    const close = make("button", { type: "button", className: "close", "aria-label": say("close") });
    close.addEventListener("click", () => tell(""));
    $("status").append(close);
  }
  $("status").classList.toggle("wrong", isWrong);
}

// What the owner has written or chosen himself.
document.addEventListener("input", ({ target }) => target.setAttribute("data-typed", ""));

/** Fields that take texts or files, by their names and places. */
function fields() {
  const counts = new Map();
  return new Map([...$("main").querySelectorAll("input:not([type=checkbox]), textarea")].map((field) => {
    const name = field.getAttribute("aria-label") ?? field.labels[0]?.firstChild.textContent ?? "";
    const count = counts.get(name) ?? 0;
    counts.set(name, count + 1);
    return [`${name} ${count}`, field];
  }));
}

/** Draws the view anew and puts back what was typed and not sent. */
async function drawAgain() {
  const typed = [...fields()].filter(([, field]) => field.hasAttribute("data-typed"));
  await page.view();
  for (const [key, before] of typed) {
    let field = fields().get(key);
    if (!field) {
      $("main").querySelector("[data-another]")?.click();
      field = fields().get(key);
    }
    if (!field) continue;
    if (field.type === "file") field.files = before.files;
    else field.value = before.value;
    field.setAttribute("data-typed", "");
  }
}

/** A problem that the service answers. */
export class Refused extends Error {
  constructor(status, { type = "", detail = "" }) {
    super(detail || String(status));
    this.status = status;
    this.kind = type.split("#").pop();
  }
}

/** Requests with the owner's token. */
export class Api {
  #token;
  #pictures = new Map();
  /** Tag of the gallery that is shown: a change is one of that, or none. */
  tag = "";

  constructor(token) {
    this.#token = token;
  }

  async send(method, path, { json, body, type, always, shown } = {}) {
    const headers = { authorization: `Bearer ${this.#token}` };
    if (json !== undefined) headers["content-type"] = "application/json";
    else if (type) headers["content-type"] = type;
    if (method !== "GET" && this.tag && !always) headers["if-match"] = this.tag;
    const content = json === undefined ? body : JSON.stringify(json);
    const answer = await fetch(`..${path}`, { method, headers, body: content, cache: "no-store" });
    if (!answer.ok) throw new Refused(answer.status, await answer.json().catch(() => ({})));
    if (shown || method !== "GET") this.tag = answer.headers.get("etag") ?? this.tag;
    return answer;
  }

  /** Reads; what a view begins with is `shown`, and later parts of it, names and pictures are not. */
  async get(path, { shown = false } = {}) {
    return (await this.send("GET", path, { shown })).json();
  }

  async post(path, json, method = "POST") {
    return (await this.send(method, path, { json })).json();
  }

  /** The address of a picture that needs the token. */
  async picture(path, version) {
    const before = this.#pictures.get(path);
    if (before?.version === version) return before.url;
    const blob = await (await this.send("GET", path)).blob();
    if (before) URL.revokeObjectURL(before.url);
    const url = URL.createObjectURL(blob);
    this.#pictures.set(path, { version, url });
    return url;
  }
}

/** Who asks, and what draws anew what is shown. */
export const page = { api: null, view: () => {}, askForToken: () => {} };

/** Does something that takes a while; a button waits with it. */
export async function work(button, does) {
  if (button) button.disabled = true;
  tell(say("working"));
  try {
    tell((await does()) ?? "");
  } catch (error) {
    if (!(error instanceof Refused)) return tell(say("failed", { error: error.message }), true);
    if (error.status === 401) return page.askForToken(say("token.wrong"));
    if (error.kind === "changed") {
      // Not every view begins with an answer about the gallery.
      await page.api.get("/v1/gallery", { shown: true });
      await drawAgain();
      return tell(say("changed"), true);
    }
    tell(error.message, true);
  } finally {
    if (button) button.disabled = false;
  }
}

export function button(text, does, properties = {}) {
  const made = make("button", { type: "button", ...properties }, text);
  made.addEventListener("click", () => work(made, does));
  return made;
}

/** Asks before something goes that undo alone brings back. */
export function sure(question, yes) {
  return new Promise((resolve) => {
    const form = make("form", { method: "dialog" }, make("p", {}, question), make("div", { className: "row" },
      make("button", { value: "yes", className: "main" }, yes), make("button", { value: "" }, say("cancel"))));
    const dialog = make("dialog", { "aria-label": question }, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

let lists = 0;

/** A field for the name of a class, which offers those that there are. */
export function nameField(label, value = "") {
  lists += 1;
  const list = make("datalist", { id: `names-${lists}` });
  const input = make("input", { type: "text", value, autocomplete: "off", maxLength: 1000 });
  input.setAttribute("list", list.id);
  input.addEventListener("input", async () => {
    const found = await page.api.get(`/v1/classes?limit=20&q=${encodeURIComponent(input.value)}`).catch(() => null);
    if (found) list.replaceChildren(...found.classes.map((one) => make("option", { value: one.label })));
  });
  return { element: make("label", {}, label, input, list), input };
}

export function picture(path, has, version) {
  const image = make("img", { className: "picture", alt: has ? "" : say("no.picture") });
  if (has) page.api.picture(path, version).then((url) => { image.src = url; }, () => {});
  return image;
}

export const classPath = (label) => `/v1/classes/${encodeURIComponent(label)}`;

/** Shows a part of the page; its heading has the focus, so that a reader hears where it is. */
export function show(heading, ...children) {
  const title = make("h2", { tabIndex: -1 }, heading);
  $("main").replaceChildren(title, ...children.filter((child) => child !== null));
  title.focus({ preventScroll: true });
}

