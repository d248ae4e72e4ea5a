import type { ImageLike, Magpie, MagpieError, Recognition } from "./magpie.js";

export interface MagpieRecognizerEvents {
  "magpie-progress": CustomEvent<{ loaded: number; total: number }>;
  "magpie-ready": CustomEvent<{ magpie: Magpie }>;
  "magpie-recognized": CustomEvent<Recognition>;
  "magpie-error": CustomEvent<{ error: MagpieError | Error }>;
}

/** `<magpie-recognizer bundle="…" assets="…" backend="…" src="…" top-k="…">` */
export class MagpieRecognizer extends HTMLElement {
  /** The loaded bundle, once there is one. */
  readonly magpie: Magpie | null;
  recognize(picture: ImageLike): Promise<Recognition>;
}

declare global {
  interface HTMLElementTagNameMap {
    "magpie-recognizer": MagpieRecognizer;
  }
  interface HTMLElementEventMap extends MagpieRecognizerEvents {}
}
