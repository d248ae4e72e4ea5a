// The page to try the service: it reads openapi.json and sends what it is told.

const $ = (id) => document.getElementById(id);

function element(name, text, into) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  if (into) into.append(made);
  return made;
}

async function send(method, path, body, type) {
  const headers = {};
  if (type) headers["content-type"] = type;
  if ($("token").value) headers.authorization = `Bearer ${$("token").value}`;
  const begin = performance.now();
  try {
    const answer = await fetch(path, { method, headers, body });
    const kind = answer.headers.get("content-type") ?? "";
    let text = /json|text/.test(kind) ? await answer.text() : `(${(await answer.blob()).size} bytes of ${kind})`;
    if (/json/.test(kind)) text = JSON.stringify(JSON.parse(text), null, 2);
    const tag = answer.headers.get("etag");
    const took = `${Math.round(performance.now() - begin)} ms`;
    return `${answer.status} ${answer.statusText}, ${took}${tag ? `, ETag ${tag}` : ""}\n${text}`;
  } catch (error) {
    return String(error);
  }
}

$("image").addEventListener("change", async () => {
  const [file] = $("image").files;
  if (!file) return;
  URL.revokeObjectURL($("shown").src);
  $("shown").src = URL.createObjectURL(file);
  $("shown").hidden = false;
  $("recognized").textContent = "…";
  const type = file.type || "application/octet-stream";
  $("recognized").textContent = await send("POST", "/v1/recognize", file, type);
});

function show(method, path, operation) {
  const box = element("details", "", $("operations"));
  const summary = element("summary", "", box);
  element("b", method.toUpperCase(), summary);
  element("code", path, summary);
  element("p", operation.summary ?? "", box);
  const fields = [];
  for (const parameter of operation.parameters ?? []) {
    if (parameter.in === "header") continue;
    const label = element("label", `${parameter.name}${parameter.required ? "" : " (optional)"}: ${parameter.description ?? ""}`, box);
    const input = element("input", "", label);
    input.type = "text";
    fields.push([parameter, input]);
  }
  const kinds = Object.keys(operation.requestBody?.content ?? {});
  let text, file;
  if (kinds.includes("application/json")) {
    text = element("textarea", "", element("label", "JSON", box));
    text.rows = 4;
  }
  if (kinds.some((kind) => kind === "application/octet-stream")) {
    file = element("input", "", element("label", "or a file", box));
    file.type = "file";
  }
  const button = element("button", "Send", box);
  const result = element("pre", "", box);
  button.addEventListener("click", async () => {
    let to = path;
    const query = new URLSearchParams();
    for (const [parameter, input] of fields) {
      if (parameter.in === "path") to = to.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      else if (input.value) query.append(parameter.name, input.value);
    }
    if ([...query].length) to += `?${query}`;
    result.textContent = "…";
    const chosen = file?.files[0];
    if (chosen) result.textContent = await send(method.toUpperCase(), to, chosen, chosen.type || "application/octet-stream");
    else if (text?.value) result.textContent = await send(method.toUpperCase(), to, text.value, "application/json");
    else result.textContent = await send(method.toUpperCase(), to);
  });
}

async function begin() {
  const description = await (await fetch("openapi.json")).json();
  // What programs ask for comes before the pages' own files.
  const isAsked = ([path]) => /^\/v1\/\w+(\/|$)/.test(path);
  const paths = Object.entries(description.paths);
  for (const [path, methods] of [...paths.filter(isAsked), ...paths.filter((one) => !isAsked(one))]) {
    for (const [method, operation] of Object.entries(methods)) show(method, path, operation);
  }
  for (const { name, status, title } of description["x-problems"] ?? []) {
    element("dt", `${name} (${status})`, $("problems")).id = name;
    element("dd", title, $("problems"));
  }
}

begin();
