// Starts the page, or says that this browser cannot run it.
import init from "./web.js";

try {
  await init();
} catch (error) {
  document.querySelector("#status").hidden = true;
  document.querySelector("#unable").hidden = false;
  throw error;
}
