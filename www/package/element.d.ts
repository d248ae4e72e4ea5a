import type { GalleryView, ImageLike, Magpie, MagpieError, Recognition } from "./magpie.js";

export interface MagpieRecognizerEvents {
  "magpie-progress": CustomEvent<{ loaded: number; total: number }>;
  "magpie-ready": CustomEvent<{ magpie: Magpie }>;
  "magpie-recognized": CustomEvent<Recognition>;
  /** A picture was added to a class; the change stays in this browser. */
  "magpie-taught": CustomEvent<{ label: string; gallery: GalleryView }>;
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
  /** A button for the camera. */
  camera?: boolean | "";
  /** A field in which the picture that was recognized is given a name. */
  teach?: boolean | "";
}

/**
 * `<magpie-recognizer bundle="…" assets="…" backend="…" src="…" top-k="…" camera teach>`
 *
 * Elements of one bundle share an engine; it ends a second after the last of them has left the page.
 */
export class MagpieRecognizer extends HTMLElement {
  /** The loaded bundle, once there is one; other elements may use the same. */
  readonly magpie: Magpie | null;
  recognize(picture: ImageLike): Promise<Recognition>;
  /** Recognizes what is before the camera, frame by frame, until it is stopped or a picture takes its place. */
  startCamera(): Promise<void>;
  stopCamera(): void;
  /** Adds the picture that was recognized last, or the camera's, to a class; changes stay in this browser. */
  learn(label: string): Promise<GalleryView>;
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
