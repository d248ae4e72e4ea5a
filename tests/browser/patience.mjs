/**
 * Milliseconds that a test waits for what has to happen. A slow machine that does other work beside needs many of
 * what a fast one does in a second; only a fault waits as long as this.
 */
export const PATIENCE = 240_000;
