// The shared script of all views. Python joins core.js, the files of the views and nothing else into one ES module, which
// anywidget mounts in JupyterLab (export default) and one more line starts in a self-contained page (bootstrap).
//
// A view is a function (root, data, host) registered by define(name, draw): it fills the element `root`.
//   data       what Python packed: numbers, texts, lists, typed arrays (rows of a 2-D array: data.x.row(i)), images
//   host.can(kind)             whether Python answers requests of this kind; never without a kernel
//   host.ask(kind, fields)     a promise of the answer
//   host.get(key, otherwise), host.set(key, value), host.on(key, call)    what the user has chosen, kept in step with Python
//   host.leave(call)           to be called when the view is removed
// Texts reach the page by textContent alone: no string of a report is ever read as HTML.

const VIEWS = {};
function define(name, draw) { VIEWS[name] = draw; }

// ---- elements -----------------------------------------------------------------------------------------------------

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(2).filter(c => c !== null && c !== undefined && c !== false));       // a string becomes a text node
  return node;
}

function h(tag, attributes = {}, ...children) { return fill(document.createElement(tag), attributes, children); }
function svg(tag, attributes = {}, ...children) { return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children); }

function put(node, ...children) { return fill(node, {}, children); }      // append, leaving out what is null

function note(text) { return h("p", { class: "note" }, text); }
function section(title, ...children) { return h("section", { class: "panel" }, h("h3", {}, title), ...children); }

function report(text) {                      // a text as it stands, in its own direction; long ones scroll in place
  const long = text.length > 600;
  return h("div", { class: "report", dir: "auto", tabindex: long ? 0 : null, role: long ? "region" : null, "aria-label": long ? "report, scrolls" : null }, text);
}

function rectangle([x0, y0, x1, y1], kind) {  // over a film, in an svg of 100 x 100; the box in fractions
  return svg("rect", { class: kind, x: 100 * x0, y: 100 * y0, width: Math.max(0, 100 * (x1 - x0)), height: Math.max(0, 100 * (y1 - y0)), "vector-effect": "non-scaling-stroke" });
}

function number(value, digits = 3) { return value === null || value === undefined || Number.isNaN(value) ? "–" : Number(value).toFixed(digits); }

function choice(label, options, value, onpick) {         // options: texts or [value, text]
  const all = options.map(o => Array.isArray(o) ? o : [o, o]);
  const box = h("select", { "aria-label": label, onchange: () => onpick(all[box.selectedIndex][0]) }, all.map(([, text]) => h("option", {}, text)));
  box.selectedIndex = Math.max(0, all.findIndex(([v]) => v === value));
  const node = h("label", { class: "control" }, h("span", {}, label), box);
  node.pick = v => { box.selectedIndex = Math.max(0, all.findIndex(([w]) => w === v)); };
  return node;
}

function slider(label, low, high, step, value, onmove) {
  const told = h("output", {}, String(value));
  const bar = h("input", { type: "range", min: low, max: high, step, value, oninput: () => { told.textContent = bar.value; onmove(Number(bar.value)); } });
  return h("label", { class: "control" }, h("span", {}, label), bar, told);
}

function toggle(label, value, onflip) {
  const box = h("input", { type: "checkbox", onchange: () => onflip(box.checked) });
  box.checked = value;
  return h("label", { class: "control" }, box, h("span", {}, label));
}

function typed(label, placeholder, onenter, button = null, live = false) {    // a line of text; Enter or the button, or each pause in typing
  let timer = 0;
  const box = h("input", { type: "text", "aria-label": label, placeholder, onkeydown: e => { if (e.key === "Enter") onenter(box.value); },
    oninput: () => { if (live) { clearTimeout(timer); timer = setTimeout(() => onenter(box.value), 150); } } });
  return h("label", { class: "control wide" }, h("span", {}, label), box, button && h("button", { type: "button", onclick: () => onenter(box.value) }, button));
}

function card({ title = "", images = null, film = null, text = "", told = "", verdict = null, onpick = null, colour = null }) {
  const head = onpick ? h("button", { type: "button", class: "link", onclick: onpick }, title) : h("strong", {}, title);
  const word = verdict === null ? "" : verdict ? "hit" : "miss";
  const address = images && film !== null ? images.url(film) : null;
  return h("article", { class: `card ${word}`, style: colour === null ? null : `border-left-color: var(--c${colour})` },
    h("div", { class: "head" }, head, word && h("span", { class: "verdict" }, word)),
    address && h("img", { src: address, alt: `radiograph, ${title}` }),
    told && h("div", { class: "told" }, told), text && report(text));
}

function cards(list, { empty = "Nothing to show.", small = false } = {}) { return h("div", { class: small ? "cards small" : "cards" }, list.length ? list.map(card) : note(empty)); }

function bars(rows, { top = null, unit = "", digits = 2 } = {}) {   // rows: {name, value, colour, told}; a list of horizontal bars with their numbers
  const high = top ?? Math.max(1e-12, ...rows.map(r => Math.abs(r.value) || 0));
  return h("ul", { class: "bars" }, rows.map(r => h("li", {},
    h("span", { class: "name", dir: "auto" }, r.name),
    h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: "bar", style: `width:${Math.min(100, 100 * Math.abs(r.value || 0) / high)}%;background:var(--c${r.colour ?? 0})` })),
    h("span", { class: "value" }, r.told ?? `${number(r.value, digits)}${unit}`))));
}

// ---- what Python packed ---------------------------------------------------------------------------------------------

const ARRAYS = { float32: Float32Array, uint8: Uint8Array, uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array };

function bytesOf(data) {                     // base64 in a page, a DataView from a kernel
  if (typeof data === "string") {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(data);
    const letters = atob(data), out = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) out[i] = letters.charCodeAt(i);
    return out;
  }
  const view = data.buffer ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data);
  return view.byteOffset % 4 ? view.slice() : view;
}

function toArray({ $array, shape, data }) {
  const bytes = bytesOf(data), Kind = ARRAYS[$array];
  const out = new Kind(bytes.buffer, bytes.byteOffset, bytes.byteLength / Kind.BYTES_PER_ELEMENT);
  const width = shape.slice(1).reduce((a, b) => a * b, 1);
  out.shape = shape;
  out.row = i => out.subarray(i * width, (i + 1) * width);
  return out;
}

function toImages({ $images, ends, data }) {
  const bytes = bytesOf(data), stops = toArray(ends), made = new Map();
  const start = i => i ? stops[i - 1] : 0;
  const url = i => {
    if (!(i >= 0 && i < stops.length) || stops[i] === start(i)) return null;
    if (!made.has(i)) made.set(i, URL.createObjectURL(new Blob([bytes.subarray(start(i), stops[i])], { type: $images })));
    return made.get(i);
  };
  return { length: stops.length, url, free: () => { for (const u of made.values()) URL.revokeObjectURL(u); made.clear(); } };
}

function unpack(value, kept) {
  if (Array.isArray(value)) return value.length && typeof value[0] !== "object" ? value : value.map(v => unpack(v, kept));
  if (!value || typeof value !== "object") return value;
  if ("$array" in value) return toArray(value);
  if ("$images" in value) { const images = toImages(value); kept.push(images); return images; }
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, unpack(v, kept)]));
}

// ---- a table --------------------------------------------------------------------------------------------------------

// columns: [{name, get: i => text or number, digits, extra: left out where it is narrow}]; count rows, 0..count-1. onpick(i). Pages of `size`; a head's button sorts.
function table({ columns, count, caption, onpick, size = 12 }) {
  let shown = Array.from({ length: count }, (_, i) => i), sorted = null, page = 0, chosen = -1;
  const body = h("tbody"), where = h("span", { class: "where", role: "status" });
  const turn = step => { page = Math.min(Math.max(0, page + step), Math.max(0, Math.ceil(shown.length / size) - 1)); draw(); };
  const heads = columns.map((c, k) => h("th", { scope: "col", class: c.extra ? "extra" : null }, h("button", { type: "button", class: "link", onclick: () => sort(k) }, c.name)));
  const node = h("div", { class: "table" }, h("div", { class: "scroll" }, h("table", {}, h("caption", {}, caption), h("thead", {}, h("tr", {}, heads)), body)),
    h("div", { class: "pages" }, h("button", { type: "button", onclick: () => turn(-1), "aria-label": "page back" }, "‹"), where, h("button", { type: "button", onclick: () => turn(1), "aria-label": "page on" }, "›")));
  function cell(c, i) { const v = c.get(i); return typeof v === "number" ? number(v, c.digits ?? 0) : v ?? "–"; }
  function draw() {
    body.replaceChildren(...shown.slice(page * size, (page + 1) * size).map(i => h("tr", { class: i === chosen ? "chosen" : null, "data-row": i, onclick: () => onpick(i) },
      columns.map((c, k) => k ? h("td", { dir: "auto", class: c.digits === undefined ? (c.extra ? "extra" : null) : "num" }, cell(c, i)) : h("td", {}, h("button", { type: "button", class: "link", "aria-pressed": String(i === chosen), onclick: e => { e.stopPropagation(); onpick(i); } }, cell(c, i)))))));
    where.textContent = shown.length ? `${page * size + 1}–${Math.min(shown.length, (page + 1) * size)} of ${shown.length.toLocaleString("en")}` : "none";
    heads.forEach((head, k) => head.setAttribute("aria-sort", sorted && sorted.k === k ? (sorted.down ? "descending" : "ascending") : "none"));
  }
  function arrange() {
    if (!sorted) return;
    const { get } = columns[sorted.k], key = new Map(shown.map(i => [i, get(i)])), sign = sorted.down ? -1 : 1;
    const rank = v => v === null || v === undefined || Number.isNaN(v);
    shown.sort((a, b) => { const x = key.get(a), y = key.get(b); return rank(x) - rank(y) || sign * (typeof x === "number" ? x - y : String(x).localeCompare(String(y))) || a - b; });
  }
  function sort(k, down = null) { sorted = { k, down: down ?? (sorted && sorted.k === k ? !sorted.down : false) }; page = 0; arrange(); draw(); }
  draw();
  return { node, sort, show(rows) { shown = [...rows]; page = 0; arrange(); draw(); },
    choose(i) { chosen = i; const at = shown.indexOf(i); if (at >= 0) page = Math.floor(at / size); draw(); } };
}
