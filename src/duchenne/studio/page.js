const at = (id) => document.getElementById(id);
const form = at("ask");
const TAKES = {
  image: "A picture or a video",
  clip: "A video, or all frames of a clip as pictures",
  pair: "A video of a micro-expression, or its frames as pictures",
};
let about, model, running;
let files = [], analysed = false; // the chosen files, and whether they were sent to any network
let made = []; // addresses of blobs that the result shows

/** Make an element: attributes, then children (nodes or text). */
function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("--")) node.style.setProperty(key, value);
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

function show(id, text) {
  at(id).textContent = text ?? "";
  at(id).hidden = !text;
}

/** Answer of the server as an object; its error, or none at all, is thrown as a message. */
async function asked(address, options) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("duchenne studio does not answer: is it still running?");
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  throw new Error(said.error ?? `duchenne studio answers ${answer.status}`);
}

async function chooseModel() {
  const name = at("model").value;
  at("facts").replaceChildren();
  model = undefined;
  running?.abort();
  ready();
  show("error");
  show("state");
  at("result").hidden = true;
  at("empty").hidden = false;
  try {
    const found = await (await asked(`model?${new URLSearchParams({ name })}`)).json();
    if (name !== at("model").value) return;
    model = found;
  } catch (error) {
    show("error", error.message);
    return;
  }
  const facts = {
    Network: model.title,
    Takes: { image: "single faces", clip: `clips of ${model.frames} frames`, pair: "onset and apex" }[model.takes],
    Classes: model.classes.join(", "),
    "Trained on": model.trained_on && `${model.trained_on}, fold ${model.fold}`,
    Runs: `${model.precision} on ${model.device}`,
  };
  for (const [key, value] of Object.entries(facts)) if (value) at("facts").append(el("dt", {}, key), el("dd", {}, value));
  at("takes").textContent = `${TAKES[model.takes]}, up to ${about.max_mb} MB`;
  for (const field of at("options").querySelectorAll("[data-takes]")) {
    const fits = field.dataset.takes.split(" ").includes(model.takes) && !(model.aligned && field.querySelector("[name=faces]"));
    field.hidden = !fits;
    field.querySelector("input, select").disabled = !fits;
  }
  form.elements.faces.value = model.takes === "image" && !model.aligned ? "all" : "largest";
  ready();
  if (files.length && !analysed) form.requestSubmit();
}

function ready() {
  at("run").disabled = !model || !files.length || Boolean(running);
}

function chooseFiles(list) {
  files = [...list].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  if (!files.length) return;
  URL.revokeObjectURL(at("preview").src);
  at("preview").hidden = true;
  const picture = files.length === 1 && files[0].type.startsWith("image/");
  at("preview").src = picture ? URL.createObjectURL(files[0]) : "";
  at("chosen").textContent = files.length === 1 ? files[0].name : `${files.length} files, ${files[0].name} to ${files.at(-1).name}`;
  analysed = false;
  ready();
  if (!at("run").disabled) form.requestSubmit();
}

/** Files that were dropped; of a folder, its pictures. */
async function dropped(items) {
  const found = [];
  for (const entry of [...items].map((item) => item.webkitGetAsEntry()).filter(Boolean)) {
    if (entry.isFile) found.push(await new Promise((take, fail) => entry.file(take, fail)));
    else {
      const reader = entry.createReader();
      for (;;) {
        const some = await new Promise((take, fail) => reader.readEntries(take, fail)); // at most 100 at a time
        if (!some.length) break;
        const own = some.filter((each) => each.isFile).map((each) => new Promise((take, fail) => each.file(take, fail)));
        found.push(...(await Promise.all(own)).filter((file) => file.type.startsWith("image/")));
      }
    }
  }
  return found;
}

/** Events of a prediction, one line of JSON each. */
async function* events(address, body, signal) {
  const headers = { "Content-Type": "application/octet-stream" };
  const answer = await asked(address, { method: "POST", headers, body, signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let parts = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = value.split("\n");
    while (lines.length > 1) {
      parts.push(lines.shift());
      yield JSON.parse(parts.join(""));
      parts = [];
    }
    parts.push(lines[0]);
  }
}

async function analyse() {
  const size = files.reduce((sum, file) => sum + file.size, 0);
  analysed = true;
  show("error");
  at("result").hidden = true;
  at("empty").hidden = true;
  if (size > about.max_mb * 1e6) {
    show("error", `${(size / 1e6).toPrecision(3)} MB are too large: at most ${about.max_mb} MB can be sent`);
    return;
  }
  running = new AbortController();
  at("stop").hidden = false;
  at("progress").hidden = false;
  at("progress").removeAttribute("value");
  show("state", "Analysing …");
  ready();
  const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => typeof value === "string"));
  const head = JSON.stringify(files.map((file) => [file.name, file.size]));
  let result;
  try {
    for await (const event of events(`predict?${query}`, new Blob([`${head}\n`, ...files]), running.signal)) {
      if (event.error) throw new Error(event.error);
      if (event.waiting) show("state", "Waiting for another analysis to end …");
      if (event.frames > 1) {
        show("state", `Analysing: frame ${event.frames}${event.of ? ` of ${event.of}` : ""} …`);
        if (event.of) at("progress").value = Math.min(1, event.frames / event.of);
      }
      result = event.result ?? result;
    }
    if (!result) throw new Error("the analysis ended early: look at the terminal of duchenne studio");
    draw(result);
    show("state");
  } catch (error) {
    if (error.name === "AbortError") show("state", "Stopped.");
    else {
      show("state");
      show("error", error.message);
    }
  } finally {
    running = undefined;
    at("stop").hidden = true;
    at("progress").hidden = true;
    ready();
  }
}

/** A choice between pictures of the same thing; `after` is shown with the second one. */
function switched(name, choices, image, after) {
  const box = el("div", { class: "switch", role: "radiogroup", "aria-label": "Shown" });
  choices.forEach(([words, source, alt], k) => {
    const input = el("input", { type: "radio", name, class: "unseen", ...(k ? {} : { checked: "" }) });
    const choose = () => {
      image.src = source;
      image.alt = alt;
      if (after) after.hidden = k === 0;
    };
    input.addEventListener("change", choose);
    if (!k) choose();
    box.append(el("label", {}, input, words));
  });
  return box;
}

function regions() {
  const items = about.regions.map(({ name, colour }) => el("li", {}, el("i", { "--colour": colour }), name));
  return el("ul", { class: "legend", "aria-label": "Regions of the action units", hidden: "" }, ...items);
}

function picture(found) {
  const image = el("img", { class: "shown" });
  const names = found.faces.map((face) => `${face.title}: ${face.emotion}`).join("; ") || "no face";
  const choices = [["Boxes", found.picture.boxes, `${found.name} with boxes. ${names}`]];
  if (found.picture.points) choices.push(["Landmarks, AU regions", found.picture.points, `${found.name} with 68 landmarks and the regions of the action units`]);
  const legend = regions();
  return [choices.length > 1 ? switched("picture", choices, image, legend) : (image.src = choices[0][1], image.alt = choices[0][2], null), image, legend];
}

function video(data) {
  const [head, content] = data.split(",");
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const address = URL.createObjectURL(new Blob([bytes], { type: head.slice(5).split(";")[0] }));
  made.push(address);
  return el("video", { class: "shown", src: address, controls: "", loop: "", muted: "", playsinline: "" });
}

function bars(face) {
  const best = Math.max(...face.probabilities.map((each) => each.share));
  const rows = face.probabilities.map(({ name, share, colour }) =>
    el("li", share === best ? { class: "top" } : {},
      el("span", share === best ? { class: "top" } : {}, name),
      el("span", { class: "track", "aria-hidden": "true" }, el("i", { "--share": `${100 * share}%`, "--colour": colour })),
      el("span", { class: "number" }, percent(share))));
  return el("ul", { class: "bars", "aria-label": "Probabilities" }, ...rows);
}

function tile({ name, most, image }) {
  const caption = el("figcaption", {}, name, el("span", { class: "scale", "aria-hidden": "true" }), el("span", { class: "ends" }, el("span", {}, "0"), el("span", {}, most)));
  return el("figure", {}, el("img", { src: image, alt: `${name}: where it lies in the face` }), caption);
}

/** Maps of a face; of several faces, those of the first are open and have the caption. */
function maps({ tiles, caption }, k, count) {
  const parts = Map.groupBy ? Map.groupBy(tiles, (each) => each.part) : new Map([["", tiles]]);
  const grids = [...parts].flatMap(([part, own]) => [part && el("h4", {}, part), el("div", { class: "tiles" }, ...own.map(tile))]);
  const shown = [...grids.filter(Boolean), ...(k ? [] : [el("p", { class: "fine" }, caption)])];
  if (count === 1) return [el("h3", {}, "What it attends to"), ...shown];
  return [el("details", k ? {} : { open: "" }, el("summary", {}, "What it attends to"), ...shown)];
}

/** Text of an SVG as an element. */
function drawing(text, most = "62rem") {
  const parsed = new DOMParser().parseFromString(text, "text/html").querySelector("svg");
  return el("div", { class: "across", tabindex: "0", "--most": most }, document.importNode(parsed, true));
}

function one(face, k, all) {
  const best = face.probabilities.find((each) => each.name === face.emotion);
  const words = el("div", {},
    all.length > 1 ? el("p", { class: "soft" }, face.title) : null,
    el("p", { class: "verdict" }, face.emotion, " ", el("span", {}, percent(best.share))),
    bars(face),
    face.about ? el("p", { class: "fine" }, face.about) : null,
    face.note ? el("p", { class: "note" }, face.note) : null);
  const section = el("section", { class: "face" });
  if (face.crop) {
    const image = el("img"), legend = regions();
    const aligned = ["Aligned", face.crop, `${face.title}, aligned`];
    const marked = ["Landmarks", face.landmarks, `${face.title}, aligned, with 68 landmarks and the regions of the action units`];
    const choose = face.landmarks ? switched(`face-${k}`, [aligned, marked], image, legend) : (image.src = face.crop, image.alt = aligned[2], null);
    section.append(el("div", { class: "who" }, el("div", {}, el("figure", {}, image), ...[choose, legend].filter(Boolean)), words));
  } else section.append(el("div", { class: "who bare" }, words));
  if (face.curve) section.append(el("h3", {}, "When it attends"), drawing(face.curve, "34rem"));
  if (face.maps) section.append(...maps(face.maps, k, all.length));
  return section;
}

function table(found) {
  const { columns, rows } = found.table;
  const file = URL.createObjectURL(new Blob([found.csv], { type: "text/csv" }));
  made.push(file);
  const link = el("a", { class: "button", href: file, download: `${found.name.replace(/\.[^.]*$/, "") || "rows"}.csv` }, "Download CSV");
  const cells = (name, values, more = {}) => el("tr", {}, ...values.map((value) => el(name, more, value)));
  const body = el("table", {}, el("thead", {}, cells("th", columns, { scope: "col" })), el("tbody", {}, ...rows.map((row) => cells("td", row))));
  const more = rows.length < found.rows ? el("p", { class: "fine" }, `The first ${rows.length} of ${found.rows} rows; the file has all.`) : null;
  return el("section", {}, ...[el("div", { class: "head" }, el("h2", {}, "Rows"), link), el("div", { class: "table", tabindex: "0" }, body), more].filter(Boolean));
}

function draw(found) {
  made.forEach((address) => URL.revokeObjectURL(address));
  made = [];
  const count = found.faces.length;
  const first = el("section", {}, el("div", { class: "head" }, el("h2", {}, found.name)));
  if (!count) first.append(el("p", { class: "note" }, found.notes.join("; ") || "no face found"));
  if (found.picture) {
    const [choose, image, legend] = picture(found);
    if (choose) first.querySelector(".head").append(choose);
    first.append(image, legend);
  }
  if (found.video) first.append(video(found.video));
  const parts = [first];
  if (found.displacement) parts.push(el("section", {}, el("h2", {}, "Onset, apex and displacement"), el("div", { class: "across", tabindex: "0" }, el("img", { src: found.displacement, alt: "Onset, apex and the displacement between them" }))));
  if (found.timeline) parts.push(el("section", {}, el("h2", {}, "Probabilities over time"), drawing(found.timeline)));
  if (count) parts.push(el("section", {}, el("h2", {}, count === 1 ? "Face" : `${count} faces`), ...found.faces.map(one)));
  const explained = found.faces.filter((face) => face.maps).length;
  if (explained && explained < count && found.faces.some((face) => face.crop)) parts.at(-1).append(el("p", { class: "fine" }, `Maps are drawn for the first ${explained} faces.`));
  parts.push(table(found));
  at("result").replaceChildren(...parts);
  at("result").hidden = false;
  at("result").focus({ preventScroll: matchMedia("(min-width: 52rem)").matches });
}

at("model").addEventListener("change", chooseModel);
at("file").addEventListener("change", () => chooseFiles(at("file").files));
at("preview").addEventListener("load", () => { at("preview").hidden = false; });
at("stop").addEventListener("click", () => running?.abort());
form.addEventListener("submit", (event) => { event.preventDefault(); analyse(); });
for (const kind of ["dragover", "drop", "dragleave"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") dropped(event.dataTransfer.items).then(chooseFiles);
  });
}
document.addEventListener("paste", (event) => chooseFiles(event.clipboardData.files));

try {
  about = await (await asked("about")).json();
  at("model").append(...about.models.map((name) => el("option", { value: name }, name)));
  await chooseModel();
} catch (error) {
  show("error", error.message);
}
