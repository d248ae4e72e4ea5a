// Runs the scenarios of a script.

/**
 * Plays scenarios one after the other, all or those whose names `only` lists, prints what each saw as JSON and ends the
 * program. `play` is given each with its name; `close` comes at the end. With `TIMES` in the environment the
 * milliseconds of each go to the error stream.
 */
export async function playAll(scenarios, only, play, close) {
  const names = only ? only.split(",") : Object.keys(scenarios);
  const unknown = names.find((name) => !Object.hasOwn(scenarios, name));
  if (unknown !== undefined) throw new Error(`there is no scenario ${unknown}`);
  const seen = {};
  for (const name of names) {
    const begun = performance.now();
    seen[name] = await play(scenarios[name], name);
    if (process.env.TIMES) console.error(name, Math.round(performance.now() - begun));
  }
  console.log(JSON.stringify(seen));
  await close();
  process.exit(0);
}
