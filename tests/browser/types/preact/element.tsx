// The element in Preact; only compiled, never run.
import "magpie-recognizer/preact";

export const App = () => <magpie-recognizer bundle="bundle/" top-k={2} class="wide" camera teach />;

// @ts-expect-error There is no such backend.
export const Wrong = () => <magpie-recognizer backend="gpu" />;
