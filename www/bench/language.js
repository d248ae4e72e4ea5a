// Sentences of the site in the visitor's language; English where it lacks one.
const sentences = async (code) => {
  const response = await fetch(`../text/${code}.json`);
  if (!response.ok) throw new Error(`no sentences in ${code}`);
  return response.json();
};

function kept() {
  try {
    // As the site's own page keeps it.
    const place = `magpie-language ${new URL("..", location.href).pathname}`;
    return localStorage.getItem(place) ?? localStorage.getItem("magpie-language");
  } catch {
    return null;
  }
}

const english = await sentences("en");
let [code, chosen] = ["en", english];
const wanted = [new URLSearchParams(location.search).get("lang"), kept(), ...navigator.languages];
for (const language of wanted) {
  const base = language?.split("-")[0].toLowerCase();
  if (base === "en") break;
  // A file that is not there is a language that is not offered; only plain codes are asked for.
  if (base === "zh") {
    const found = await sentences(base).catch(() => null);
    if (found) code = base;
    chosen = found ?? english;
    break;
  }
}
document.documentElement.lang = code;
const plural = new Intl.PluralRules(code);

/** A sentence with its `{name}`s replaced. */
export function say(key, values = {}) {
  const sentence = chosen[key] ?? english[key] ?? key;
  return sentence.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** The form of a sentence that the language has for this count. */
export const sayCount = (key, count) => say(`${key}.${plural.select(count)}`, { count });

for (const [attribute, put] of [
  ["data-text", (element, text) => (element.textContent = text)],
  ["data-label", (element, text) => element.setAttribute("aria-label", text)],
  ["data-content", (element, text) => element.setAttribute("content", text)],
]) {
  for (const element of document.querySelectorAll(`[${attribute}]`)) {
    put(element, say(element.getAttribute(attribute)));
  }
}
