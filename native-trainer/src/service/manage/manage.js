// The owner's page of a service: classes, entries, corrections and the gallery as a whole, through /v1.

import { $, Api, button, classPath, make, nameField, page, picture, Refused, say, show, sure, tell, wanted, work } from "./parts.js";

const KEY = "magpie.token";
const PAGE = 100;
/** Parts of a picture that become an entry. */
const PARTS = { both: "part.both", main: "part.main", middle: "part.middle", never: "part.never" };
/** Pictures, and bytes, that are sent by one request: each change copies the gallery. */
const TOGETHER = { files: 16, bytes: 12e6 };

// --- The token

function askForToken(text = "") {
  sessionStorage.removeItem(KEY);
  $("head").replaceChildren(make("h1", {}, "Magpie"));
  const input = make("input", { type: "password", autocomplete: "off", required: true });
  const form = make("form", { className: "token" }, make("label", {}, say("token"), input),
    make("p", {}, say("token.about")), make("button", { className: "main" }, say("open")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    work(null, () => begin(input.value.trim()));
  });
  $("main").replaceChildren(form);
  tell(text, Boolean(text));
  input.focus();
}

async function begin(token) {
  page.api = new Api(token);
  // Whoever may read the corrections, or is told that there are none, may change.
  await page.api.send("GET", "/v1/corrections?limit=1").catch((error) => {
    if (error.status !== 403) throw error;
  });
  sessionStorage.setItem(KEY, token);
  const about = await page.api.get("/v1/gallery");
  document.title = say("title", { title: about.title });
  const undo = button(say("undo"), async () => {
    await page.api.post("/v1/undo", undefined);
    await page.view();
    return say("undone");
  });
  const leave = make("button", { type: "button" }, say("leave"));
  leave.addEventListener("click", () => askForToken());
  const tabs = [["classes", classes], ["corrections", corrections], ["gallery", gallery]].map(([name, opens]) => {
    const tab = make("button", { type: "button" }, say(name));
    tab.addEventListener("click", () => work(null, () => open(opens, tab)));
    return tab;
  });
  $("head").replaceChildren(make("h1", {}, document.title), undo, leave, make("nav", { "aria-label": document.title }, tabs));
  function open(opens, tab) {
    for (const other of tabs) other.removeAttribute("aria-current");
    tab.setAttribute("aria-current", "page");
    page.view = opens;
    return page.view();
  }
  await open(classes, tabs[0]);
}

/** Leads to a field that is empty, and says what belongs there. */
function missing(field, text) {
  field.focus();
  return text;
}

// --- Pictures that are added

/** Sends pictures to a class, many in one request: what is said of them, and whether any came into the class. */
async function send(files, label) {
  const told = { added: 0, known: 0, left: [] };
  let done = 0;
  while (done < files.length) {
    let count = 0, bytes = 0;
    while (count < TOGETHER.files && done + count < files.length && (count === 0 || bytes + files[done + count].size < TOGETHER.bytes)) {
      bytes += files[done + count].size;
      count += 1;
    }
    await sendSome(files.slice(done, done + count), label, told);
    done += count;
    tell(say("add.going", { done, of: files.length }));
  }
  const lines = [say("add.done", told)];
  if (told.left.length > 0) lines.push(say("add.left", { left: told.left.join("\n") }));
  return { said: lines.join("\n"), came: told.added + told.known > 0 };
}

async function sendSome(files, label, told) {
  const form = new FormData();
  form.append("class", label);
  for (const file of files) form.append("image", file, file.name);
  try {
    const answer = await (await page.api.send("POST", "/v1/entries", { body: form, always: true })).json();
    told.added += answer.added;
    told.known += answer.known;
    for (const { name, problem } of answer.left_out ?? []) told.left.push(`${name}: ${problem.detail}`);
  } catch (error) {
    if (!(error instanceof Refused) || ![413, 415, 422].includes(error.status)) throw error;
    // None of them can be used; each is told by itself.
    if (files.length > 1) for (const file of files) await sendSome([file], label, told);
    else told.left.push(`${files[0].name}: ${error.message}`);
  }
}

/** A form that adds pictures, also those that are dropped on it. */
function adding(label) {
  const name = label === undefined ? nameField(say("add.class")) : null;
  const files = make("input", { type: "file", accept: "image/*", multiple: true });
  const box = make("fieldset", {}, make("legend", {}, say("add")), make("p", {}, say("add.about")), name?.element ?? null,
    make("label", {}, say("add.files"), files));
  const add = async (chosen) => {
    const to = label ?? name.input.value;
    if (!to.trim()) return missing(name.input, say("choose.class"));
    if (chosen.length === 0) return missing(files, say("choose.files"));
    const { said, came } = await send([...chosen], to);
    // Where nothing came of it, name and pictures stay as they were given.
    if (came) await page.view();
    return said;
  };
  box.append(button(say("add.do"), () => add(files.files), { className: "main" }));
  box.addEventListener("dragover", (event) => {
    event.preventDefault();
    box.classList.add("over");
  });
  box.addEventListener("dragleave", () => box.classList.remove("over"));
  box.addEventListener("drop", (event) => {
    event.preventDefault();
    box.classList.remove("over");
    const dropped = [...event.dataTransfer.files];
    // Without a class they wait in the field.
    if (label === undefined && !name.input.value.trim()) {
      files.files = event.dataTransfer.files;
      name.input.focus();
    } else work(null, () => add(dropped));
  });
  return box;
}

// --- Classes

let sought = "";

async function classes() {
  const search = make("input", { type: "search", value: sought });
  const list = make("ul", { className: "cards" });
  const more = button(say("more"), () => load(list.childElementCount));
  const load = async (offset) => {
    const query = `limit=${PAGE}&offset=${offset}${sought ? `&q=${encodeURIComponent(sought)}` : ""}`;
    const { classes: found, next } = await page.api.get(`/v1/classes?${query}`, { shown: offset === 0 });
    const card = (one) => {
      const opens = make("button", { type: "button", className: "card" }, picture(`${classPath(one.label)}/thumbnail`, one.thumbnail, page.api.tag),
        make("b", {}, one.label), make("span", {}, say("class.own", one)));
      opens.addEventListener("click", () => work(null, () => go(() => oneClass(one.label))));
      return make("li", {}, opens);
    };
    const cards = found.map(card);
    if (offset === 0) list.replaceChildren(...cards);
    else list.append(...cards);
    if (list.childElementCount === 0) list.append(make("li", {}, say("class.none")));
    more.hidden = next === null;
  };
  let timer;
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      sought = search.value.trim();
      work(null, () => load(0));
    }, 250);
  });
  await load(0);
  show(say("classes"), adding(), make("label", {}, say("search"), search), list, more);
}

function go(opens) {
  page.view = opens;
  return page.view();
}

async function oneClass(label) {
  const one = await page.api.get(classPath(label), { shown: true }).catch((error) => {
    // It has gone meanwhile, by undo or by another page.
    if (error.status === 404) return null;
    throw error;
  });
  if (!one) return go(classes);
  const back = button(say("back"), () => go(classes));
  const name = nameField(say("named"), label);
  const rename = button(say("rename"), async () => {
    const to = name.input.value.trim();
    const other = to === label ? null : await page.api.get(classPath(to)).catch(() => null);
    if (other && !(await sure(say("join.sure", { label: other.label }), say("rename")))) return;
    await page.api.post(classPath(label), { label: to }, "PATCH");
    await go(() => oneClass(to));
    return say("done");
  });
  const remove = button(say("remove"), async () => {
    if (!(await sure(say("remove.sure", { label, entries: one.entries }), say("remove")))) return;
    await page.api.send("DELETE", classPath(label));
    await go(classes);
    return say("done");
  });
  show(label, make("div", { className: "row" }, back, remove),
    make("ul", { className: "cards" }, make("li", {}, picture(`${classPath(label)}/thumbnail`, one.thumbnail, page.api.tag))),
    adding(label), make("fieldset", {}, make("legend", {}, say("rename")), make("p", {}, say("rename.sure")), name.element, rename),
    facts(one), await entries(label));
}

/** What is told of a class, and its threshold. */
function facts(one) {
  const rows = make("div");
  const row = (name = "", text = "") => {
    const out = make("button", { type: "button" }, say("describe.out"));
    const made = make("div", { className: "fact" }, make("input", { type: "text", value: name, "aria-label": say("describe.name"), placeholder: say("describe.name") }),
      make("textarea", { rows: 1, value: text, "aria-label": say("describe.text"), placeholder: say("describe.text") }), out);
    out.addEventListener("click", () => made.remove());
    rows.append(made);
    return made;
  };
  for (const [name, text] of Object.entries(one.metadata)) row(name, text);
  const another = make("button", { type: "button", "data-another": "" }, say("describe.add"));
  another.addEventListener("click", () => row().firstChild.focus());
  const least = make("input", { type: "number", min: -1, max: 1, step: "any", value: one.min_similarity === null ? "" : Number(one.min_similarity.toPrecision(6)) });
  const save = button(say("describe.save"), async () => {
    // What is no number reads as empty, which takes the threshold away.
    if (!least.checkValidity()) return missing(least, say("describe.range"));
    const metadata = Object.fromEntries(Object.keys(one.metadata).map((name) => [name, null]));
    for (const { children: [name, text] } of rows.children) if (name.value.trim()) metadata[name.value.trim()] = text.value;
    const min_similarity = least.value === "" ? null : Number(least.value);
    await page.api.post(classPath(one.label), { metadata, min_similarity }, "PATCH");
    await page.view();
    return say("done");
  }, { className: "main" });
  return make("fieldset", {}, make("legend", {}, say("describe")), rows, another,
    make("label", {}, say("describe.least"), least), save);
}

/** Entries of a class, those first that are the least similar to the others. */
async function entries(label) {
  const shown = [];
  const list = make("ul", { className: "entries" });
  const chosen = () => [...new Set([...list.querySelectorAll(":checked")].map((box) => box.value))];
  const draw = () => {
    const before = new Set(chosen());
    const mean = shown.length > 0 ? shown[0].embedding.map((_, place) => shown.reduce((sum, one) => sum + one.embedding[place], 0)) : [];
    const length = Math.hypot(...mean) || 1;
    const cosine = (one) => one.embedding.reduce((sum, value, place) => sum + value * mean[place], 0) / length;
    const sorted = shown.map((one) => [cosine(one), one.id]).sort(([a], [b]) => a - b);
    list.replaceChildren(...sorted.map(([alike, id]) => make("li", {}, make("label", { className: "choice" },
      make("input", { type: "checkbox", value: id, checked: before.has(id), "aria-label": say("entry.choose", { id }) }), make("code", {}, id),
      make("span", {}, say("alike", { cosine: alike.toFixed(3) }))))));
  };
  const more = button(say("more"), () => load(shown.length));
  const load = async (offset) => {
    const { entries: found, next } = await page.api.get(`/v1/entries?embeddings=true&limit=${PAGE}&offset=${offset}&class=${encodeURIComponent(label)}`);
    shown.push(...found);
    more.hidden = next === null;
    draw();
  };
  const to = nameField(say("move.to"));
  const move = button(say("move"), async () => {
    const ids = chosen();
    if (ids.length === 0) return say("choose.entries");
    if (!to.input.value.trim()) return missing(to.input, say("choose.class"));
    await page.api.post("/v1/entries/move", { ids, class: label, to: to.input.value });
    await page.view();
    return say("done");
  });
  const remove = button(say("remove.entries"), async () => {
    const ids = chosen();
    if (ids.length === 0) return say("choose.entries");
    if (!(await sure(say("remove.entries.sure", { count: ids.length }), say("remove.entries")))) return;
    await page.api.post("/v1/entries/remove", { ids, class: label });
    await page.view();
    return say("done");
  });
  await load(0);
  return make("fieldset", {}, make("legend", {}, say("entries")), make("p", {}, say("entries.about")), list, more, to.element,
    make("div", { className: "row" }, move, remove));
}

// --- Corrections

async function corrections() {
  const list = make("ul", { className: "cards wide" });
  const shown = [];
  const decide = async (how, chosen) => {
    if (chosen.length === 0) return say("choose.corrections");
    let said = "";
    const to = new Map();
    // Those that become one class are one change.
    for (const one of chosen) {
      const name = how === "accept" ? one.name.input.value : "";
      to.set(name, [...(to.get(name) ?? []), one.id]);
    }
    const sum = { added: 0, known: 0, count: 0 };
    for (const [name, ids] of to) {
      const answer = how === "accept" ? await (await page.api.send("POST", "/v1/corrections/accept", { json: { ids, to: name }, always: true })).json()
        : await (await page.api.send("POST", "/v1/corrections/reject", { json: { ids }, always: true })).json();
      sum.added += answer.added ?? 0;
      sum.known += answer.known ?? 0;
      sum.count += answer.rejected ?? 0;
      said = say(how === "accept" ? "accepted" : "rejected", sum);
    }
    await page.view();
    return said;
  };
  const card = (one) => {
    const box = make("input", { type: "checkbox", "aria-label": one.class });
    const name = nameField(say("correction.class"), one.class);
    const own = { id: one.id, name, box };
    shown.push(own);
    const { said } = one;
    const values = said && { class: said.class, similarity: said.similarity.toFixed(2) };
    const time = new Date(one.time * 1000);
    return make("li", {}, make("div", { className: "card" },
      picture(`/v1/corrections/${one.id}/thumbnail`, one.thumbnail, ""),
      make("label", { className: "choice" }, box, make("b", {}, one.class)),
      one.class_known ? null : make("span", {}, say("class.unknown")),
      said ? make("span", {}, say(said.known ? "correction.said" : "correction.unsure", values)) : null,
      make("time", { dateTime: time.toISOString() }, time.toLocaleString(wanted)), name.element,
      make("div", { className: "row" }, button(say("accept"), () => decide("accept", [own]), { className: "main" }),
        button(say("reject"), () => decide("reject", [own])))));
  };
  const more = button(say("more"), () => load(shown.length));
  const load = async (offset) => {
    const { corrections: found, next } = await page.api.get(`/v1/corrections?limit=${PAGE}&offset=${offset}`);
    list.append(...found.map(card));
    more.hidden = next === null;
  };
  try {
    await load(0);
  } catch (error) {
    if (error.status !== 403) throw error;
    return show(say("corrections"), make("p", {}, say("corrections.off")));
  }
  if (shown.length === 0) return show(say("corrections"), make("p", {}, say("corrections.none")));
  const every = make("input", { type: "checkbox" });
  every.addEventListener("change", () => shown.forEach(({ box }) => { box.checked = every.checked; }));
  const chosen = () => shown.filter(({ box }) => box.checked);
  show(say("corrections"), make("div", { className: "row" }, make("label", { className: "choice" }, every, say("all")),
    button(say("accept.all"), () => decide("accept", chosen())), button(say("reject.all"), () => decide("reject", chosen()))), list, more);
}

// --- The gallery as a whole

async function gallery() {
  const about = await page.api.get("/v1/gallery", { shown: true });
  const yes = (is) => say(is ? "yes" : "no");
  const numbers = [["entries", about.entries], ["classes", about.classes], ["version", about.version], ["model", about.model], ["dim", about.dim],
    ["index", about.index], ["crop", say(PARTS[about.crop])], ["detector", yes(about.detector)], ["rule", about.rule],
    ["least", about.min_similarity.toFixed(3)], ["probabilities", yes(about.calibrated)], ["map", about.map ?? say("none")]];
  const learned = async (path, json) => {
    const { lines } = await page.api.post(path, json);
    await page.view();
    return (lines ?? [say("done")]).join("\n");
  };
  const kinds = ["auto", "whitening", "lda", "none"];
  const kind = make("select", {}, kinds.map((value) => make("option", { value }, say(`adapt.kind.${value}`))));
  const always = make("input", { type: "checkbox" });
  const file = make("input", { type: "file" });
  const download = button(say("download"), async () => {
    const blob = await (await page.api.send("GET", "/v1/gallery/file")).blob();
    const link = make("a", { href: URL.createObjectURL(blob), download: "gallery.bin" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  });
  const replace = button(say("file.replace"), async () => {
    const [chosen] = file.files;
    if (!chosen) return missing(file, say("choose.file"));
    if (!(await sure(say("file.sure", { name: chosen.name }), say("file.replace")))) return;
    await page.api.send("PUT", "/v1/gallery/file", { body: chosen, type: "application/octet-stream" });
    await page.view();
    return say("done");
  });
  show(say("gallery"), make("h3", {}, say("numbers")),
    make("dl", {}, numbers.map(([name, value]) => [make("dt", {}, say(`number.${name}`)), make("dd", {}, String(value))])),
    make("fieldset", {}, make("legend", {}, say("adapt")), make("p", {}, say("adapt.about")), make("label", {}, say("adapt.kind"), kind),
      button(say("adapt"), () => learned("/v1/gallery/adapt", { kind: kind.value }), { className: "main" })),
    make("fieldset", {}, make("legend", {}, say("calibrate")), make("p", {}, say("calibrate.about")),
      make("label", { className: "choice" }, always, say("calibrate.always")),
      button(say("calibrate"), () => learned("/v1/gallery/calibrate", { always: always.checked }), { className: "main" })),
    make("fieldset", {}, make("legend", {}, say("file")), download, make("label", {}, say("file"), file), replace));
}

page.askForToken = askForToken;
const kept = sessionStorage.getItem(KEY);
if (kept) work(null, () => begin(kept));
else askForToken();
