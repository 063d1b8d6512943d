"use strict";
// An image to this server, its answer onto the page. What the server says is
// put in as text, never as markup.

const $ = (id) => document.getElementById(id);
const phaseNames = { decode: "Decode", resize: "Resize", queue: "Wait", run: "Run", explain: "Explain", encode: "Encode", total: "Whole" };

let models = [];
let file = null; // what was chosen or dropped last
let turn = 0; // of the newest request: older answers are ignored
let urls = []; // pictures that the browser holds for us

function element(name, text, className) {
  const e = document.createElement(name);
  if (text !== undefined) e.textContent = text;
  if (className) e.className = className;
  return e;
}

function hold(blob) {
  const url = URL.createObjectURL(blob);
  urls.push(url);
  return url;
}

function pngOf(base64) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  return new Blob([bytes], { type: "image/png" });
}

function show(id, on) { $(id).hidden = !on; }
function say(text) { $("status").textContent = text; }
function percent(share) { return (100 * share).toFixed(1) + "%"; }

function headers() {
  const token = $("token").value;
  return token ? { Authorization: "Bearer " + token } : {};
}

// ask fetches and turns everything that is no success into an error with the
// server's own words.
async function ask(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
  if (answer.ok) return answer;
  if (answer.status === 401) show("access", true);
  let text = "The server answered " + answer.status + ".";
  try { text = (await answer.json()).error || text; } catch { /* no JSON: the status says it */ }
  const later = answer.headers.get("Retry-After");
  throw new Error(later ? text + " Try again in " + later + " s." : text);
}

function fail(error) {
  $("error").textContent = error.message;
  show("error", true);
  say("No result.");
}

// ---- models ----

function current() { return models.find((m) => m.name === $("model").value); }

async function loadModels() {
  const answer = await ask("/v1/models");
  models = (await answer.json()).models;
  const chosen = $("model").value;
  $("model").replaceChildren(...models.map((m) => new Option(m.name, m.name)));
  if (models.some((m) => m.name === chosen)) $("model").value = chosen;
  showModel();
}

function showModel() {
  const m = current();
  $("digest").textContent = m && m.digest ? m.digest.slice(0, 12) : "";
  $("digest").title = m && m.digest ? m.digest : "";
  let task = m ? m.task : "";
  if (m && !m.ready) task = "no model is loaded yet";
  if (m && m.task === "super-resolution") task += ", " + m.scale + " ×";
  $("task").textContent = task;
  show("explain-field", !!m && m.task === "multilabel");
  $("file").disabled = !!m && m.ready && m.task === "tensor";
  if ($("file").disabled) say("This model takes tensors, not images: use the interface for programs.");
}

// ---- request ----

function choose(chosen) {
  if (!chosen || $("file").disabled) return;
  file = chosen;
  $("run").disabled = false;
  run();
}

function clear() {
  urls.forEach((u) => URL.revokeObjectURL(u));
  urls = [];
  for (const id of ["error", "scores", "details", "maps", "opacity-field", "split-field", "caveat", "save-field", "layer"]) show(id, false);
  $("method").textContent = "";
  $("layer").removeAttribute("src");
}

async function run() {
  const mine = ++turn;
  clear();
  $("picture").src = hold(file);
  show("viewer", true);
  say("Working …");
  try {
    if (!current() || !current().ready) await loadModels();
    const m = current();
    if (!m) throw new Error("This server has no model.");
    const explain = m.task === "multilabel" && $("explain").checked ? "?explain=true" : "";
    const answer = await ask("/v1/models/" + encodeURIComponent(m.name) + "/predict" + explain, { method: "POST", body: file });
    const kind = answer.headers.get("Content-Type");
    const body = kind === "image/png" ? await answer.blob() : await answer.json();
    if (mine !== turn) return;
    if (kind === "image/png") showEnlarged(body, answer); else showPrediction(body);
    showDetails(m, answer);
  } catch (error) {
    if (mine === turn) fail(error);
  }
}

// ---- scores and heat maps ----

function showPrediction(p) {
  const positive = p.predictions.filter((s) => s.positive);
  $("rows").replaceChildren(...p.predictions.map(row));
  show("scores", true);
  showMaps(p.explanations || [], p.caveat || "");
  say(positive.length ? positive.length + " of " + p.predictions.length + (positive.length === 1 ? " findings is positive: " : " findings are positive: ") + positive.map((s) => s.label).join(", ") + "."
    : "None of " + p.predictions.length + " findings is positive.");
}

function row(s) {
  const tr = element("tr", undefined, s.positive ? "positive" : "");
  const name = element("th", s.label);
  name.scope = "row";
  const score = element("td");
  const box = element("div", undefined, "score");
  const bar = element("div", undefined, "bar");
  bar.setAttribute("aria-hidden", "true");
  bar.style.setProperty("--score", percent(s.score));
  bar.style.setProperty("--threshold", percent(s.threshold));
  box.append(element("span", s.score.toFixed(3)), bar);
  score.append(box);
  tr.append(name, score, element("td", s.threshold.toFixed(3), "number"), element("td", s.decision, "decision"),
    element("td", s.urgency, "urgency " + s.urgency));
  return tr;
}

function showMaps(explanations, caveat) {
  const none = { label: "none", about: "" };
  const maps = explanations.map((e) => ({ label: e.label, about: about(e), url: hold(pngOf(e.png)) }));
  const choices = [...maps, none].map((map, i) => {
    const label = element("label");
    const radio = element("input");
    radio.type = "radio";
    radio.name = "map";
    radio.checked = i === 0;
    radio.addEventListener("change", () => showMap(map));
    label.append(radio, " " + map.label);
    return label;
  });
  $("map-choices").replaceChildren(...choices);
  show("maps", maps.length > 0);
  if (maps.length) showMap(maps[0]);
  $("caveat").textContent = caveat;
  show("caveat", caveat !== "" && maps.length > 0);
}

function about(e) {
  const how = { cam: "class activation map", occlusion: "occlusion", model: "the model's own heat map" }[e.method] || e.method;
  return e.label + ": " + how + (e.exact ? ", exact" : "") + (e.note ? ". " + e.note : "");
}

function showMap(map) {
  show("layer", !!map.url);
  show("opacity-field", !!map.url);
  $("method").textContent = map.about;
  if (!map.url) return;
  $("layer").className = "heat";
  $("layer").src = map.url;
  $("layer").alt = "Heat map of " + map.label;
}

// ---- super-resolution ----

function showEnlarged(blob, answer) {
  const url = hold(blob);
  $("layer").className = "after";
  $("layer").src = url;
  $("layer").alt = "The enlarged image";
  $("save").href = url;
  for (const id of ["layer", "split-field", "save-field"]) show(id, true);
  const size = answer.headers.get("Penstock-Image-Size");
  say("Enlarged " + answer.headers.get("Penstock-Scale") + " times" + (size ? ", to " + size.replace("x", " × ") + " pixels." : "."));
}

// ---- details ----

function describe(list, pairs) {
  $(list).replaceChildren(...pairs.flatMap(([name, value]) => {
    const dd = element("dd");
    dd.append(value);
    return [element("dt", name), dd];
  }));
}

function showDetails(m, answer) {
  const timings = (answer.headers.get("Server-Timing") || "").split(",").map((part) => {
    const [name, ...params] = part.trim().split(";");
    const dur = params.map((p) => p.trim()).find((p) => p.startsWith("dur="));
    return [phaseNames[name] || name, dur ? Number(dur.slice(4)).toFixed(1) + " ms" : ""];
  });
  describe("timings", timings);
  const digest = answer.headers.get("Penstock-Model-Digest") || "";
  describe("provenance", [["Model", m.name], ["Digest", element("code", digest)],
    ["Request", element("code", answer.headers.get("Penstock-Request-Id") || "")]]);
  show("details", true);
}

// ---- events ----

$("file").addEventListener("change", () => choose($("file").files[0]));
$("form").addEventListener("submit", (event) => { event.preventDefault(); if (file) run(); });
$("model").addEventListener("change", () => { showModel(); if (file && !$("file").disabled) run(); });
$("explain").addEventListener("change", () => { if (file) run(); });
$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  loadModels().then(() => { show("error", false); say("The token is accepted."); if (file) run(); }).catch(fail);
});
$("opacity").addEventListener("input", () => {
  $("layer").style.setProperty("--opacity", String($("opacity").value / 100));
  $("opacity-value").textContent = $("opacity").value + "%";
});
$("split").addEventListener("input", () => {
  $("layer").style.setProperty("--split", $("split").value + "%");
  $("split-value").textContent = $("split").value + "%";
});
for (const kind of ["dragenter", "dragover"]) {
  $("drop").addEventListener(kind, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
}
for (const kind of ["dragleave", "drop"]) {
  $("drop").addEventListener(kind, () => $("drop").classList.remove("over"));
}
$("drop").addEventListener("drop", (event) => { event.preventDefault(); choose(event.dataTransfer.files[0]); });

loadModels().catch(fail);
