import { Magpie } from "./magpie/magpie.js";

const [picture, status, objects] = ["picture", "status", "objects"].map(
  (id) => /** @type {HTMLInputElement} */ (document.getElementById(id)),
);

const magpie = await Magpie.load("bundle/", {
  onProgress: ({ loaded, total }) => {
    status.textContent = `${Math.round((100 * loaded) / total)} %`;
  },
});
status.textContent = magpie.title;
picture.disabled = false;

/** @type {AbortController | null} */
let last = null;
picture.addEventListener("change", async () => {
  const [file] = picture.files ?? [];
  if (!file) return;
  // Only the newest picture matters.
  last?.abort();
  last = new AbortController();
  status.textContent = "Looking…";
  try {
    const found = await magpie.recognize(file, { signal: last.signal });
    const lines = found.objects.map(({ label, answers }) => {
      const line = document.createElement("li");
      const similarity = answers[0]?.similarity.toFixed(2);
      line.textContent = label === null ? "unknown" : `${label} (${similarity})`;
      return line;
    });
    objects.replaceChildren(...lines);
    status.textContent = `${lines.length} found`;
  } catch (error) {
    if (error.name !== "AbortError") status.textContent = error.message;
  }
});
