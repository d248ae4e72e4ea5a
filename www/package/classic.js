// <script src="magpie/classic.js"></script>: the element for pages that load no modules themselves. `magpieRecognizer`
// is then a promise of { Magpie, MagpieError, MagpieRecognizer }.
{
  const { src } = /** @type {HTMLScriptElement} */ (document.currentScript);
  const modules = ["element.js", "magpie.js"].map((name) => import(new URL(name, src).href));
  /** @type {any} */ (globalThis).magpieRecognizer = Promise.all(modules).then(([element, magpie]) => ({
    ...element,
    ...magpie,
  }));
}
