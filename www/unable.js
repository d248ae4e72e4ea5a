// Says why the page cannot start: what this browser lacks, before anything large is downloaded, and where modules
// cannot be loaded (opened as a file, blocked, missing on the host). Not a module itself, since those are what
// fails, and in words that old browsers read.
{
  // As in text/en.json, which may be missing as well.
  const ENGLISH = {
    "unable.file":
      "This page has to come from a web server: browsers load no modules from files. For a look at it, run: magpie serve FOLDER",
    "unable.module": "A file of this page cannot be loaded: {reason}. Reload the page.",
    "unable.simd":
      "This browser's WebAssembly has no SIMD, which the engine computes with. Chrome 91, Edge 91, Firefox 89, Safari 16.4 and newer browsers have it.",
    "unable.wasm":
      "This browser has no WebAssembly, or it is switched off. The page needs it to recognize pictures: allow it in the browser's settings, or use another browser.",
    "unable.bundle":
      "This page takes the data of its own site alone. Open it again without “bundle” in its address.",
    "unable.other": "This page cannot start: {reason}",
    "unable.stopped": "This page has stopped: {reason}. Reload it.",
  };
  // A module whose only function splats and counts by SIMD.
  const SIMD_PROBE = new Uint8Array([
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
  ]);

  // The visitor's language, as the page itself chooses it.
  const language = () => {
    let kept = null;
    try {
      const place = `magpie-language ${new URL(".", location.href).pathname}`;
      kept = localStorage.getItem(place) || localStorage.getItem("magpie-language");
    } catch (_refused) {
      // A browser that keeps nothing.
    }
    const wanted = [new URLSearchParams(location.search).get("lang"), kept].concat(navigator.languages || []);
    const codes = wanted.filter(Boolean).map((code) => code.split("-")[0].toLowerCase());
    return codes.find((code) => code === "en" || code === "zh") || "en";
  };

  const put = (sentence, reason) => {
    const show = () => {
      const unable = document.querySelector("#unable");
      if (!unable) return;
      unable.removeAttribute("data-text");
      unable.textContent = sentence.replace("{reason}", () => reason);
      unable.hidden = false;
      document.querySelector("#status").hidden = true;
    };
    if (document.querySelector("#unable")) show();
    else addEventListener("DOMContentLoaded", show);
  };

  /** Shows a sentence in the place of the page's own; the first one stays. */
  const say = (key, reason = "") => {
    if (window.unable.said) return;
    window.unable.said = key;
    put(ENGLISH[key], reason);
    if (language() === "en") return;
    const sentences = fetch(`text/${language()}.json`).then((response) => response.json());
    sentences.then(
      (found) => found[key] && put(found[key], reason),
      () => {},
    );
  };
  window.unable = { said: null, say };

  addEventListener(
    "error",
    ({ target }) => {
      if (!(target instanceof HTMLScriptElement) || target.type !== "module") return;
      if (location.protocol === "file:") say("unable.file");
      else say("unable.module", target.src);
    },
    true,
  );

  if (typeof WebAssembly === "undefined") say("unable.wasm");
  else if (!WebAssembly.validate(SIMD_PROBE)) say("unable.simd");
}
