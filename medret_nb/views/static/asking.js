// What a kernel adds to a query: regions picked by name, a box drawn on the query's film, a film from the disk.
// What is chosen lies in the state: regions [names]; box [x0, y0, x1, y1] in fractions of the film; stands_for, the region that the box means, or null:
// the one that it overlaps best; rho, the weight; find, "films" or "reports", or null: what fits the query.

const PIECE = 2 << 20;                       // bytes in one message; notebook servers hang up on more than 10 MB

async function upload(host, file, limit) {   // a file, piece by piece -> the answer to the last one
  if (file.size > limit) throw new Error(`${file.name}: ${(file.size / 1e6).toFixed(1)} MB are more than the limit of ${Math.round(limit / 1e6)} MB`);
  const parts = Math.max(1, Math.ceil(file.size / PIECE)), mark = `${Date.now()}-${Math.random()}`;
  let got = null;
  for (let part = 0; part < parts; part++) {
    const data = await file.slice(part * PIECE, (part + 1) * PIECE).arrayBuffer();
    got = await host.ask("film", { upload: mark, name: file.name, part, parts, size: file.size, data: new DataView(data) });
  }
  return got;
}

function drawable(onbox) {                   // a film on which one box can be drawn, with the pointer or with the arrow keys
  let box = null, start = null, outlines = [], said = "";
  const film = h("img", { class: "film", draggable: "false" }), lines = svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" });
  const node = h("div", { class: "film-stage drawable", tabindex: 0, role: "application", "data-lm-suppress-shortcuts": "true" }, film, lines);
  const within = v => Math.min(1, Math.max(0, v)), at = e => { const place = node.getBoundingClientRect(); return [within((e.clientX - place.left) / place.width), within((e.clientY - place.top) / place.height)]; };
  const between = ([a, b], [c, d]) => [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)];
  function paint(now = box) {
    lines.replaceChildren(...outlines.map(o => rectangle(o.box, o.kind)), ...(now ? [rectangle(now, "drawn")] : []));
    node.setAttribute("aria-label", `${said}; drag to draw a box, or move it by the arrow keys, with Shift its right lower corner; Delete takes it away. ${now ? `Box: ${now.map(v => Math.round(100 * v)).join(", ")} percent` : "No box"}.`);
  }
  node.addEventListener("pointerdown", e => { if (e.button) return; e.preventDefault(); node.focus({ preventScroll: true }); start = at(e); node.setPointerCapture(e.pointerId); });
  node.addEventListener("pointermove", e => { if (start) paint(between(start, at(e))); });
  node.addEventListener("pointercancel", () => { start = null; paint(); });
  node.addEventListener("pointerup", e => {
    if (!start) return;
    const made = between(start, at(e));
    start = null;
    if (made[2] - made[0] > 0.02 && made[3] - made[1] > 0.02) onbox(made); else paint();       // less is a click
  });
  node.addEventListener("keydown", e => {
    const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[e.key];
    if (step || e.key === "Delete" || e.key === "Backspace") { e.preventDefault(); e.stopPropagation(); }
    if (e.key === "Delete" || e.key === "Backspace") onbox(null);
    else if (step && !box) onbox([0.35, 0.35, 0.65, 0.65]);
    else if (step) onbox(e.shiftKey ? [box[0], box[1], within(Math.max(box[0] + 0.04, box[2] + 0.02 * step[0])), within(Math.max(box[1] + 0.04, box[3] + 0.02 * step[1]))]
      : [0, 1, 0, 1].map((axis, corner) => box[corner] + Math.min(1 - box[axis + 2], Math.max(-box[axis], 0.02 * step[axis]))));
  });
  return { node, show(address, alt) { film.src = address; film.alt = said = alt; paint(); }, update(now, around) { box = now; outlines = around; if (!start) paint(); } };
}

function placesPanel(host, names, onfold) {  // regions, box, weight and what to find, as a panel that can be folded away
  const rounded = box => box && box.map(v => Math.round(1000 * v) / 1000), about = { question: null, shown: null, boxes: null, picture: null };
  let turn = 0, hint = null;
  const stage = drawable(box => box ? host.set("box", rounded(box)) : away()), told = h("p", { class: "note", role: "status" });
  const ticks = names.map(name => {
    const node = toggle(name, false, on => host.set("regions", names.filter(other => other === name ? on : host.get("regions", []).includes(other))));
    for (const [event, now] of [["mouseenter", name], ["mouseleave", null], ["focusin", name], ["focusout", null]]) node.addEventListener(event, () => { hint = now; paint(); });
    return node;
  });
  const fields = ["left", "top", "right", "bottom"].map(name => h("input", { type: "number", min: 0, max: 100, step: 1, "aria-label": `box, ${name} edge, percent of the film`, onchange: typedBox, onkeydown: e => { if (e.key === "Enter") typedBox(); } }));
  const weight = slider("Weight of the place (rho)", 0, 1, 0.05, host.get("rho", 0.5), v => host.set("rho", v));
  const find = choice("Find", [[null, "what fits the query"], ["reports", "reports"], ["films", "films"]], host.get("find"), v => host.set("find", v));
  const stands = choice("The box stands for", [[null, "the region it overlaps best"], ...names.map(n => [n, n])], host.get("stands_for"), v => host.set("stands_for", v));
  const away = () => { host.set("box", null); host.set("stands_for", null); }, button = h("button", { type: "button", onclick: () => away() }, "Take the box away");
  const edges = h("div", { class: "controls" }, ["left", "top", "right", "bottom"].map((name, k) => h("label", { class: "control" }, h("span", {}, `${name} %`), fields[k])), button);
  const onFilm = h("div", {}, stage.node, told, h("fieldset", {}, h("legend", {}, "Box on the film"), edges, stands));
  const head = h("summary");
  const node = h("details", { class: "panel places", ontoggle: () => { load(); onfold(); } }, head, h("fieldset", {}, h("legend", {}, "Regions that count"), h("div", { class: "controls" }, ticks)), onFilm, h("div", { class: "controls" }, weight, find));

  function typedBox() {
    const values = fields.map(f => f.value === "" ? NaN : Number(f.value) / 100);
    if (values.every(Number.isFinite)) { if (values[2] > values[0] && values[3] > values[1] && Math.min(...values) >= 0 && Math.max(...values) <= 1) host.set("box", rounded(values)); else told.textContent = "The box must have its left edge left of its right one, its top above its bottom, and lie between 0 and 100 %."; }
  }
  const filmAsked = () => Boolean(about.question) && ("film" in about.question || about.question.side === "film");
  const box = () => filmAsked() ? host.get("box") : null;
  function paint() {
    const picked = host.get("regions", []), kinds = name => picked.includes(name) ? "chosen" : name === hint ? "truth" : null;
    stage.update(host.get("box"), about.boxes ? names.flatMap((name, k) => { const kind = kinds(name), b = about.boxes.row(k); return kind && Number.isFinite(b[0]) ? [{ box: b, kind }] : []; }) : []);
  }
  function follow() {                          // the controls show what the state says
    const picked = host.get("regions", []), drawn = host.get("box"), parts = [...picked, ...(box() ? ["a box"] : [])];
    ticks.forEach((tick, k) => { tick.querySelector("input").checked = picked.includes(names[k]); });
    fields.forEach((field, k) => { const value = drawn ? String(Math.round(100 * drawn[k])) : ""; if (field.value !== value) field.value = value; });
    const bar = weight.querySelector("input"), rho = String(host.get("rho", 0.5));
    if (bar.value !== rho) { bar.value = rho; weight.querySelector("output").textContent = rho; }
    find.pick(host.get("find")); stands.pick(host.get("stands_for"));
    stands.hidden = button.hidden = !drawn;
    head.textContent = parts.length ? `Ask at a place: ${parts.join(", ")}` : "Ask at a place";
    paint();
  }
  async function load() {                      // fetch the film to draw on, once it is to be seen
    onFilm.hidden = !filmAsked();
    const key = filmAsked() ? JSON.stringify([about.question.film, about.question.row]) : null;
    if (!key || !node.open || key === about.shown) return;
    const mine = ++turn;
    about.shown = key;
    try {
      const got = await host.ask("stage", about.question), alt = about.question.film === undefined ? "the query's film" : "your film";
      if (mine !== turn) return got.picture.free();
      about.picture?.free();
      about.picture = got.picture; about.boxes = got.boxes;
      stage.show(got.picture.url(0), alt);
      told.textContent = `Drag on the film to draw a box. The regions' boxes ${got.given ? "came with the film" : "were drawn by the model"}.`;
      paint();
    } catch (error) { if (mine === turn) { about.shown = null; told.textContent = error.message; } }
  }
  node.open = Boolean(host.get("regions", []).length || host.get("box"));
  host.leave(() => about.picture?.free());
  return { node, away, active: () => Boolean(host.get("regions", []).length || box() || host.get("find")),
    fields: () => ({ regions: host.get("regions", []), box: box(), stands_for: host.get("stands_for"), rho: host.get("rho", 0.5), find: host.get("find") }),
    about(question) { about.question = question; follow(); load(); } };
}
