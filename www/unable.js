// Says that the page cannot start where its modules cannot be loaded: opened as a file, blocked, or missing on
// the host. Not a module itself, since those are what fails.
addEventListener(
  "error",
  ({ target }) => {
    if (!(target instanceof HTMLScriptElement) || target.type !== "module") return;
    const show = () => {
      const unable = document.querySelector("#unable");
      if (location.protocol === "file:") {
        unable.textContent =
          "This page has to come from a web server: browsers load no modules from files. " +
          "For a look at it, run: magpie serve FOLDER";
      } else {
        unable.textContent = `A file of this page cannot be loaded: ${target.src}. Reload the page.`;
      }
      unable.hidden = false;
      document.querySelector("#status").hidden = true;
    };
    if (document.querySelector("#unable")) show();
    else addEventListener("DOMContentLoaded", show);
  },
  true,
);
