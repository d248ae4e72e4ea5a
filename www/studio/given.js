// What an owner gives: files that were chosen, dropped or pasted, those of folders, and those of ZIP archives.
import { entriesOf } from "./unzip.js";

// Files of a folder that was dropped, with those of its folders.
async function filesOf(entry, found) {
  if (entry.isFile) {
    const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
    if (file) found.push({ file, path: entry.fullPath });
    return;
  }
  const reader = entry.createReader();
  // Each call gives some, until there are none.
  for (;;) {
    const entries = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!entries.length) return;
    for (const inner of entries) await filesOf(inner, found);
  }
}

// The files of an archive lie where it lay; those of one without folders are of the class that it is named after.
async function unpacked({ file, path }) {
  const [, folder, stem] = /^(.*?)([^/]*)\.zip$/i.exec(path);
  try {
    const entries = await entriesOf(file);
    const isFlat = entries.every((entry) => !entry.path.includes("/"));
    const root = isFlat ? `${folder}${stem}/` : folder;
    return entries.map((entry) => ({ file: entry, path: root + entry.path }));
  } catch {
    // Named as a file that is no photograph.
    return [{ file, path }];
  }
}

/** Files with their paths: `file` is one, or gives one by `open`. */
export async function given(source) {
  const found = [];
  if (source instanceof FileList) {
    for (const file of source) found.push({ file, path: file.webkitRelativePath || file.name });
  } else {
    // Only now does the browser say what they are.
    const items = [...source.items].filter(({ kind }) => kind === "file");
    const entries = items.map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
    for (const entry of entries) {
      if (entry instanceof File) found.push({ file: entry, path: entry.name });
      else if (entry) await filesOf(entry, found);
    }
  }
  const all = [];
  for (const one of found) all.push(...(/\.zip$/i.test(one.path) ? await unpacked(one) : [one]));
  return all;
}

/** The file itself. */
export const opened = (file) => (file instanceof File ? file : file.open());
