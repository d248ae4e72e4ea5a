// The element in TypeScript and in React; only compiled, never run.
import type { MagpieRecognizer } from "magpie-recognizer/react";

export function listen(element: HTMLElement): MagpieRecognizer {
  element.addEventListener("magpie-recognized", ({ detail }) => {
    const labels: (string | null)[] = detail.objects.map(({ label }) => label);
    console.log(labels);
  });
  element.addEventListener("magpie-error", ({ detail: { error } }) => console.log(error.message));
  const made = document.createElement("magpie-recognizer");
  const title: string | undefined = made.magpie?.title;
  console.log(title);
  return made;
}

export const App = () => <magpie-recognizer bundle="bundle/" top-k={2} backend="cpu" className="wide" />;

// @ts-expect-error There is no such backend.
export const Wrong = () => <magpie-recognizer backend="gpu" />;
