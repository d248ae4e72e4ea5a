// `import "magpie-recognizer/react"` brings the element, and its tag's types for React.
import type { DetailedHTMLProps, HTMLAttributes } from "react";

import type { MagpieRecognizer, MagpieRecognizerAttributes } from "./element.js";

export * from "./element.js";

declare module "react" {
  namespace JSX {
    interface IntrinsicElements {
      "magpie-recognizer": DetailedHTMLProps<HTMLAttributes<MagpieRecognizer>, MagpieRecognizer> &
        MagpieRecognizerAttributes;
    }
  }
}
