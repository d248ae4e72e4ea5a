// Pictures that are drawn in the page: one for each number, the same in every browser.

// Runs in the page, and so stands alone.
function drawn(number) {
  const context = new OffscreenCanvas(64, 64).getContext("2d");
  for (let i = 0; i < 40; i += 1) {
    const [x, y] = [(number * 37 + i * 29) % 64, (number * 53 + i * 41) % 64];
    context.fillStyle = `hsl(${(number * 97 + i * 31) % 360} 80% ${20 + ((i * 17) % 60)}%)`;
    context.fillRect(x, y, 30, 30);
  }
  return context.getImageData(0, 0, 64, 64);
}

/** Has `window.drawn(number)` make a picture in a page. */
export const teachDrawing = (page) => page.evaluate(`void (window.drawn = ${drawn})`);
