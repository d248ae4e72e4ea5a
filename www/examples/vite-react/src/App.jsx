import { Magpie } from "magpie-recognizer";
import { useEffect, useState } from "react";

/** @typedef {import("magpie-recognizer").RecognizedObject} RecognizedObject */

/** A loaded bundle, and what is to be said meanwhile; the engine ends with the component. */
function useMagpie(bundle) {
  const [state, setState] = useState({ magpie: /** @type {Magpie | null} */ (null), status: "Loading…" });
  useEffect(() => {
    const end = new AbortController();
    /** @type {Magpie | null} */
    let loaded = null;
    const onProgress = ({ loaded, total }) =>
      setState({ magpie: null, status: `${Math.round((100 * loaded) / total)} %` });
    Magpie.load(bundle, { onProgress, signal: end.signal }).then(
      (magpie) => {
        loaded = magpie;
        if (end.signal.aborted) magpie.dispose();
        else setState({ magpie, status: magpie.title });
      },
      (error) => {
        if (!end.signal.aborted) setState({ magpie: null, status: error.message });
      },
    );
    return () => {
      end.abort();
      loaded?.dispose();
    };
  }, [bundle]);
  return state;
}

export function App() {
  const { magpie, status } = useMagpie("bundle/");
  const [objects, setObjects] = useState(/** @type {RecognizedObject[]} */ ([]));
  const [failure, setFailure] = useState(null);

  const look = async ({ target }) => {
    if (!magpie) return;
    try {
      setObjects((await magpie.recognize(target.files[0])).objects);
      setFailure(null);
    } catch (error) {
      setFailure(error.message);
    }
  };

  return (
    <main>
      <h1>What is in the picture?</h1>
      <label>
        Picture <input type="file" accept="image/*" disabled={!magpie} onChange={look} />
      </label>
      <p id="status">{failure ?? status}</p>
      <ol id="objects">
        {objects.map(({ box, label }, index) => (
          <li key={index}>
            {label ?? "unknown"} at {Math.round(box.x)}, {Math.round(box.y)}
          </li>
        ))}
      </ol>
    </main>
  );
}
