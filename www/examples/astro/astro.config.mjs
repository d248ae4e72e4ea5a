import { defineConfig } from "astro/config";

// A static page below /astro/ of any host; nothing in it is about the package.
export default defineConfig({ base: "/astro", trailingSlash: "always" });
