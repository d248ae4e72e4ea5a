// How far a long command has come: a line on a terminal, one now and then elsewhere; on the standard error, so that the
// standard output holds the answer alone.

// Milliseconds between two lines where there is no terminal, and between two drawings of one.
const INTERVAL = 10_000;
const DRAWN = 100;
const WIDTH = 30;

export class Progress {
  #what;
  #done = 0;
  #of;
  #start = performance.now();
  #said;
  #terminal = process.stderr.isTTY === true;

  constructor(what, of) {
    this.#what = what;
    this.#of = of;
    this.#said = this.#start;
  }

  advance() {
    this.to(this.#done + 1, this.#of, this.#what);
  }

  /** This many are done, of a number that was not known before. */
  to(done, of, what) {
    if (what !== this.#what || done < this.#done) this.#start = performance.now();
    [this.#done, this.#of, this.#what] = [done, of, what];
    const now = performance.now();
    if (now - this.#said < (this.#terminal ? DRAWN : INTERVAL)) return;
    this.#said = now;
    const left = done ? Math.ceil(((now - this.#start) / done) * (of - done) / 1000) : null;
    const rest = left === null || left < 1 ? "" : `, about ${left} s left`;
    if (!this.#terminal) return process.stderr.write(`${done}/${of} ${what}${rest}\n`);
    const full = of ? Math.round((WIDTH * done) / of) : 0;
    process.stderr.write(`\r\x1b[K${"█".repeat(full)}${"░".repeat(WIDTH - full)} ${done}/${of} ${what}${rest}`);
  }

  /** Prints a line above. */
  around(text) {
    if (text === null) return;
    process.stderr.write(`${this.#terminal ? "\r\x1b[K" : ""}${text}\n`);
  }

  end() {
    if (this.#terminal) process.stderr.write("\r\x1b[K");
  }
}
