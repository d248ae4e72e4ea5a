// `import "magpie-recognizer/preact"` brings the element, and its tag's types for Preact.
import type { HTMLAttributes } from "preact";

import type { MagpieRecognizer, MagpieRecognizerAttributes } from "./element.js";

export * from "./element.js";

declare module "preact" {
  namespace JSX {
    interface IntrinsicElements {
      "magpie-recognizer": HTMLAttributes<MagpieRecognizer> & MagpieRecognizerAttributes;
    }
  }
}
