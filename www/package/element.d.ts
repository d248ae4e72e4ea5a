import type { ImageLike, Magpie, MagpieError, Recognition } from "./magpie.js";

export interface MagpieRecognizerEvents {
  "magpie-progress": CustomEvent<{ loaded: number; total: number }>;
  "magpie-ready": CustomEvent<{ magpie: Magpie }>;
  "magpie-recognized": CustomEvent<Recognition>;
  /** Also where the engine's modules cannot be loaded. */
  "magpie-error": CustomEvent<{ error: MagpieError | Error }>;
}

/** The element's own attributes. */
export interface MagpieRecognizerAttributes {
  /** Address of a bundle's folder or of its manifest. */
  bundle?: string;
  /** Address of a folder with the engine's files; by default those beside the module. */
  assets?: string;
  backend?: "auto" | "cpu" | "webgpu";
  /** Address of a picture to begin with. */
  src?: string;
  /** Classes to show of an object: an integer from 1 to 100; 1 unless given. */
  "top-k"?: number | string;
}

/**
 * `<magpie-recognizer bundle="…" assets="…" backend="…" src="…" top-k="…">`
 *
 * Elements of one bundle share an engine; it ends a second after the last of them has left the page.
 */
export class MagpieRecognizer extends HTMLElement {
  /** The loaded bundle, once there is one; other elements may use the same. */
  readonly magpie: Magpie | null;
  recognize(picture: ImageLike): Promise<Recognition>;
}

declare global {
  interface HTMLElementTagNameMap {
    "magpie-recognizer": MagpieRecognizer;
  }
  interface HTMLElementEventMap extends MagpieRecognizerEvents {}
  namespace JSX {
    interface IntrinsicElements {
      "magpie-recognizer": MagpieRecognizerAttributes & {
        id?: string;
        class?: string;
        slot?: string;
        style?: unknown;
        ref?: unknown;
        key?: unknown;
        children?: unknown;
      };
    }
  }
}
