// How long a lesson takes in a page that knows many classes, and a picture beside it; prints milliseconds.
//
// node lessons.mjs SITE [CLASSES [LESSONS]]
//   CLASSES  as many are made where the site has fewer (2000)
//   LESSONS  to be timed (100)
import { teachDrawing } from "./drawn.mjs";
import { openMeasured } from "./measured.mjs";

const [site, classes = "2000", lessons = "100"] = process.argv.slice(2);
const { page, problems, close } = await openMeasured(site);
await teachDrawing(page);
const seen = await page.evaluate(
  async ([classes, lessons]) => {
    const { Magpie } = await import("../magpie.js");
    const magpie = await Magpie.load("../bundle/", { backend: "cpu" });
    // Of a thing of its own each.
    const picture = window.drawn;
    let view = await magpie.gallery.list();
    const published = view.classes;
    while (view.classes < classes) view = await magpie.gallery.add(`made ${view.classes}`, picture(view.classes));
    const quantiles = (times) => {
      const sorted = times.sort((a, b) => a - b);
      const at = (part) => Number(sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))].toFixed(1));
      return { median: at(0.5), "95 of 100": at(0.95), most: at(1) };
    };
    const timed = async (count, act) => {
      const times = [];
      for (let index = 0; index < count; index += 1) {
        const began = performance.now();
        await act(index);
        times.push(performance.now() - began);
      }
      return quantiles(times);
    };
    const thing = picture(7);
    const before = await timed(20, () => magpie.recognize(thing));
    const lesson = await timed(lessons, (index) => magpie.gallery.add(`lesson ${index % 50}`, picture(10_000 + index)));
    // Asked for together with a lesson: it waits for that.
    const beside = await timed(20, async (index) => {
      const taught = magpie.gallery.add("beside", picture(20_000 + index));
      await magpie.recognize(thing);
      await taught;
    });
    const undo = await timed(Math.min(20, lessons), () => magpie.gallery.undo());
    const { kept } = await magpie.gallery.list();
    magpie.dispose();
    return { published, classes: view.classes, lesson, undo, recognize: before, beside, kept };
  },
  [Number(classes), Number(lessons)],
);
await close();
console.log(JSON.stringify({ ...seen, problems }));
