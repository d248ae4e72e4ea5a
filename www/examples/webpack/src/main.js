import "magpie-recognizer/element";
import { Magpie } from "magpie-recognizer";

// An engine of its own, beside the one that the page's elements share.
const magpie = await Magpie.load("bundle/");
const { classes } = await magpie.gallery.list();
/** @type {HTMLElement} */ (document.querySelector("#classes")).textContent = String(classes);
magpie.dispose();
