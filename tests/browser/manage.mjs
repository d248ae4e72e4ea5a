// The owner's page of a service, worked on by keyboard and mouse; prints what was seen.
//
// node manage.mjs ADDRESS TOKEN PICTURES SCREENSHOTS
//   ADDRESS   of a running `magpie serve --api --manage --corrections`
//   PICTURES  folder with a.png, b.png, c.png, broken.png and gallery.bin
import { join } from "node:path";

import { launch, watch } from "./chromium.mjs";
import { PATIENCE } from "./patience.mjs";

const [address, token, pictures, screenshots] = process.argv.slice(2);
const browser = await launch();
const seen = {};

const open = async (options) => {
  const context = await browser.newContext({ viewport: { width: 1100, height: 900 }, locale: "en-US", ...options });
  const page = await context.newPage();
  const { problems, origins } = watch(page);
  await page.goto(`${address}manage/`);
  return { page, problems, origins };
};
const status = (page) => page.locator("#status").textContent();
/** Waits until the page says something with these words; what it says. */
const saying = async (page, words) => {
  await page.waitForFunction((words) => document.querySelector("#status").textContent.includes(words), words, { timeout: PATIENCE });
  return status(page);
};
const heading = (page, text) => page.locator("h2", { hasText: text }).waitFor({ timeout: PATIENCE });
const still = (page) => page.waitForFunction(() => document.querySelector("#status").textContent === "", null, { timeout: PATIENCE });
const idle = (page) => page.waitForFunction(() => document.querySelector("#status").textContent !== "Working …", null, { timeout: PATIENCE });
const overflow = (page) => page.evaluate(() => Math.max(0, document.documentElement.scrollWidth - innerWidth));
/** Controls that a reader of the screen has no name for. */
const nameless = (page) => page.evaluate(() =>
  [...document.querySelectorAll("button, input, select, textarea")].filter((control) => {
    const labels = [...(control.labels ?? [])].map((label) => label.textContent.trim());
    return !(control.ariaLabel || control.textContent.trim() || labels.some(Boolean));
  }).map((control) => control.outerHTML.slice(0, 120)));
const picture = (name) => join(pictures, name);

const { page, problems, origins } = await open();
const sign = async (page, given) => {
  await page.locator("input[type=password]").fill(given);
  await page.keyboard.press("Enter");
};
await sign(page, "not-the-token-of-the-owner");
seen.wrong = await saying(page, "not that of the service");
await sign(page, token);
await heading(page, "Classes");
await still(page);
seen.classes = await page.locator("ul.cards li").count();
await page.waitForFunction(() => [...document.querySelectorAll("img.picture")].some((image) => image.naturalWidth > 0), null, { timeout: PATIENCE });
seen.focus = await page.evaluate(() => document.activeElement.textContent);

// Of pictures that cannot be used nothing comes, and the name stays for others.
const add = page.locator("fieldset", { hasText: "Add pictures" });
await add.locator("input[list]").fill("Gadget");
await add.locator("input[type=file]").setInputFiles([picture("broken.png")]);
await add.getByRole("button", { name: "Add" }).click();
seen.failed = await saying(page, "Left out");
seen.stayed = await add.locator("input[list]").inputValue();

// Pictures come into a class that is new, and one of them cannot be used.
await add.locator("input[list]").fill("Gizmo & <b>");
await add.locator("input[type=file]").setInputFiles([picture("a.png"), picture("broken.png"), picture("b.png")]);
await add.getByRole("button", { name: "Add" }).click();
seen.added = await saying(page, "Pictures added: 2");
await page.locator("input[type=search]").fill("gizmo");
await page.waitForFunction(() => document.querySelectorAll("ul.cards li").length === 1, null, { timeout: PATIENCE });
await page.screenshot({ path: join(screenshots, "manage-classes.png") });

// By the keyboard alone: into the class, its fact, its name.
await page.locator("ul.cards button").focus();
await page.keyboard.press("Enter");
await heading(page, "Gizmo & <b>");
await still(page);
seen.entries = await page.locator("ul.entries li").count();
await page.getByRole("button", { name: "Another fact" }).click();
await page.keyboard.type("price");
await page.keyboard.press("Tab");
await page.keyboard.type("9 €");
await page.getByLabel("Threshold of its own").fill("2");
await page.getByRole("button", { name: "Save the facts" }).click();
seen.range = await saying(page, "A threshold");
await page.getByLabel("Threshold of its own").fill("0.25");
await page.getByRole("button", { name: "Save the facts" }).click();
await saying(page, "Done.");
seen.fact = await page.locator(".fact input").inputValue();
const rename = page.locator("fieldset", { hasText: "Rename or merge" });
await rename.locator("input").fill("Gizmo");
await rename.getByRole("button", { name: "Rename or merge" }).click();
await heading(page, /^Gizmo$/);
seen.nameless = await nameless(page);
await page.screenshot({ path: join(screenshots, "manage-class.png"), fullPage: true });

// An entry goes to another class, one goes, and that is undone.
await saying(page, "Done.");
await page.locator("ul.entries input").first().check();
await page.getByLabel("To the class").fill("Widget");
await page.getByRole("button", { name: "Move the chosen entries", exact: true }).click();
await page.waitForFunction(() => document.querySelectorAll("ul.entries li").length === 1, null, { timeout: PATIENCE });
await page.locator("ul.entries input").first().check();
await page.getByRole("button", { name: "Remove the chosen entries" }).click();
await page.locator("dialog").waitFor();
seen.question = await page.locator("dialog p").textContent();
await page.keyboard.press("Escape");
await page.waitForFunction(() => !document.querySelector("dialog"));
seen.kept = await page.locator("ul.entries li").count();
await page.getByRole("button", { name: "Remove the chosen entries" }).click();
await page.locator("dialog").getByRole("button", { name: "Remove the chosen entries" }).click();
await page.waitForFunction(() => document.querySelectorAll("ul.entries li").length === 0, null, { timeout: PATIENCE });
await page.getByRole("button", { name: "Undo" }).click();
await saying(page, "taken back");
seen.undone = await page.locator("ul.entries li").count();
// Two classes become one.
await rename.locator("input").fill("Widget");
await rename.getByRole("button", { name: "Rename or merge" }).click();
await page.locator("dialog").getByRole("button", { name: "Rename or merge" }).click();
await heading(page, /^Widget$/);
await saying(page, "Done.");
seen.merged = await page.locator("ul.entries li").count();
// What is not chosen is asked for.
await page.getByRole("button", { name: "Move the chosen entries", exact: true }).click();
seen.asked = await saying(page, "Choose entries first.");
await page.getByRole("button", { name: "Close this message" }).click();
await still(page);
// Somebody else changes the gallery: nothing happens to what was not seen, and what was typed stays.
await page.getByRole("button", { name: "Another fact" }).click();
await page.keyboard.type("maker");
await page.getByLabel("Another name").fill("Thing");
await page.evaluate(async (token) => {
  await fetch("/v1/classes/Widget", { method: "PATCH", headers: { authorization: `Bearer ${token}`, "content-type": "application/json" }, body: JSON.stringify({ metadata: { by: "another" } }) });
}, token);
await page.getByRole("button", { name: "Remove the class" }).click();
await page.locator("dialog").getByRole("button", { name: "Remove the class" }).click();
seen.changed = await saying(page, "changed meanwhile");
seen.typed = [await page.locator(".fact input").last().inputValue(), await page.getByLabel("Another name").inputValue()];

// Visitors, who have no token, say what things are.
seen.sent = await page.evaluate(async () => {
  const told = [];
  for (const [name, label] of [["a", "Ruby"], ["c", "Ruby"], ["b", "<i>"]]) {
    const canvas = new OffscreenCanvas(60, 60);
    const context = canvas.getContext("2d");
    context.fillStyle = { a: "crimson", b: "teal", c: "gold" }[name];
    context.fillRect(0, 0, 60, 60);
    context.fillStyle = "white";
    context.fillRect(10, 10, 20 + name.charCodeAt(0) % 20, 30);
    const blob = await canvas.convertToBlob();
    const answer = await fetch(`/v1/corrections?class=${encodeURIComponent(label)}`, { method: "POST", body: blob });
    told.push(answer.status);
  }
  return told;
});
await page.getByRole("button", { name: "Corrections" }).click();
await page.waitForFunction(() => document.querySelectorAll("ul.wide > li").length === 3, null, { timeout: PATIENCE });
await page.waitForFunction(() => [...document.querySelectorAll("img.picture")].every((image) => image.naturalWidth > 0), null, { timeout: PATIENCE });
await page.screenshot({ path: join(screenshots, "manage-corrections.png"), fullPage: true });
const card = page.locator("ul.wide > li").first();
await card.locator("input[list]").fill("Red stone");
await card.getByRole("button", { name: "Accept" }).click();
seen.accepted = await saying(page, "Accepted");
await page.waitForFunction(() => document.querySelectorAll("ul.wide > li").length === 2, null, { timeout: PATIENCE });
await page.getByLabel("Choose all").check();
await page.getByRole("button", { name: "Reject the chosen ones" }).click();
seen.rejected = await saying(page, "Rejected");
seen.left = await page.locator("main").textContent();

// The gallery as a whole: a small one in its place, which is measured and learns.
await page.getByRole("button", { name: "Gallery" }).click();
await heading(page, "Gallery");
seen.figures = await page.locator("dl").textContent();
await page.locator("input[type=file]").setInputFiles(picture("gallery.bin"));
await page.getByRole("button", { name: "Put another gallery" }).click();
await page.locator("dialog").getByRole("button", { name: "Put another gallery" }).click();
await saying(page, "Done.");
await page.getByRole("button", { name: "Measure" }).click();
await idle(page);
seen.measured = await status(page);
await page.getByRole("button", { name: "Learn" }).click();
await idle(page);
seen.learned = await status(page);
const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download the gallery" }).click()]);
seen.downloaded = download.suggestedFilename();
await page.screenshot({ path: join(screenshots, "manage-gallery.png"), fullPage: true });
seen.reloaded = await page.reload().then(() => heading(page, "Classes")).then(() => true);
await page.getByRole("button", { name: "Forget the token" }).click();
seen.forgotten = await page.evaluate(() => sessionStorage.length);
seen.overflow = await overflow(page);

// In Chinese, in the dark, on a phone.
const small = await open({ viewport: { width: 390, height: 800 }, locale: "zh-CN", colorScheme: "dark" });
await sign(small.page, token);
await heading(small.page, "类别");
await still(small.page);
seen.small = [await overflow(small.page)];
await small.page.screenshot({ path: join(screenshots, "manage-small.png") });
await small.page.locator("ul.cards button").first().click();
await small.page.locator("ul.entries").waitFor();
seen.small.push(await overflow(small.page));
await small.page.screenshot({ path: join(screenshots, "manage-small-class.png"), fullPage: true });
for (const tab of ["更正", "图库"]) {
  await small.page.getByRole("button", { name: tab, exact: true }).click();
  await heading(small.page, tab);
  seen.small.push(await overflow(small.page));
}
// What the browser says of a refused request is what the page tells.
const isOwn = (text) => !text.startsWith("Failed to load resource");
seen.problems = [...problems, ...small.problems].filter(isOwn);
seen.origins = origins.size;
await browser.close();
console.log(JSON.stringify(seen));
