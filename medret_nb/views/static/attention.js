// Film and report side by side: point at a word to see where it looks, at a place to see which words it takes.
// data: names, items [{id, words, gaps, grid (W, h, w) or null, places (W, R) or null, boxes (R, 4), regions, truth [{name, box}]}], films,
// temperature. Texts, findings and all that is computed from them are private.

function softmax(scores, temperature) {      // weights that sum to 1; a missing score gets none
  const fine = scores.filter(Number.isFinite), high = Math.max(...fine);
  const raised = Array.from(scores, s => Number.isFinite(s) ? Math.exp((s - high) / temperature) : 0), total = raised.reduce((a, b) => a + b, 0);
  return raised.map(v => total ? v / total : 0);
}

function covered([x0, y0, x1, y1], r, c, rows, columns) {    // share of a cell that lies in a box
  const across = Math.min(x1, (c + 1) / columns) - Math.max(x0, c / columns), down = Math.min(y1, (r + 1) / rows) - Math.max(y0, r / rows);
  return Math.max(0, across) * Math.max(0, down) * rows * columns;
}

define("attention", (root, data, host) => {
  let item = null, look = null, turn = 0, temperature = host.get("temperature", data.temperature);      // look: {word} or {cell} or {region}, or null
  const film = h("img", { class: "film" }), heat = h("canvas", { "aria-hidden": "true" }), lines = svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" });
  const stage = h("div", { class: "film-stage", tabindex: 0, "data-lm-suppress-shortcuts": "true", role: "application", "aria-label": "film; the arrow keys move over its places, the words that take each place are shaded" }, film, heat, lines);
  const text = h("p", { class: "words report", dir: "auto" }), told = h("p", { class: "note", role: "status" }), beside = h("div"), regions = h("div", { class: "controls" }), own = h("div");
  const how = () => item.grid && (host.get("how") !== "regions" || !item.places) ? "grid" : "places";
  const column = (array, i, size) => { const out = []; for (let w = 0; w < item.words.length; w++) out.push(array[w * size + i]); return out; };
  const percent = v => `${(100 * v).toFixed(v < 0.1 ? 1 : 0)} %`;

  function weightsOf(word) { return softmax(how() === "grid" ? item.grid.row(word) : item.places.row(word), temperature); }
  function inside(weights, box) {              // share of a word's weight in a box; a place outside the grid counts with its own box
    if (how() === "grid") { const [, rows, columns] = item.grid.shape; return weights.reduce((s, v, i) => s + v * covered(box, Math.floor(i / columns), i % columns, rows, columns), 0); }
    return weights.reduce((s, v, i) => { const b = item.boxes.row(i), area = (b[2] - b[0]) * (b[3] - b[1]); if (!v || !(area > 0)) return s;
      const across = Math.max(0, Math.min(b[2], box[2]) - Math.max(b[0], box[0])), down = Math.max(0, Math.min(b[3], box[3]) - Math.max(b[1], box[1])); return s + v * across * down / area; }, 0);
  }
  function paint(weights) {                    // the heat over the film; null: none
    const [rows, columns] = how() === "grid" ? item.grid.shape.slice(1) : [200, 200], pen = heat.getContext("2d");
    heat.width = columns; heat.height = rows;
    pen.clearRect(0, 0, columns, rows);
    if (!weights) return;
    const high = Math.max(...weights, 1e-9);
    weights.forEach((v, i) => {
      pen.fillStyle = `rgba(255, 140, 0, ${0.75 * v / high})`;
      if (how() === "grid") pen.fillRect(i % columns, Math.floor(i / columns), 1, 1);
      else { const b = item.boxes.row(i); if (b[2] > b[0]) pen.fillRect(b[0] * 200, b[1] * 200, (b[2] - b[0]) * 200, (b[3] - b[1]) * 200); }
    });
  }
  function outline() {
    const chosen = look && look.region !== undefined ? rectangle(item.boxes.row(look.region), "chosen") : null;
    const cell = look && look.cell !== undefined ? (() => { const [, rows, columns] = item.grid.shape, r = Math.floor(look.cell / columns), c = look.cell % columns; return rectangle([c / columns, r / rows, (c + 1) / columns, (r + 1) / rows], "chosen"); })() : null;
    lines.replaceChildren(...item.truth.map(t => rectangle(t.box, "truth")), ...[chosen, cell].filter(Boolean));
  }
  function shade(weights) { const high = weights ? Math.max(...weights, 1e-9) : 1; [...text.querySelectorAll(".word")].forEach((b, i) => { b.style.background = weights ? `color-mix(in srgb, var(--c1) ${Math.round(70 * weights[i] / high)}%, transparent)` : ""; b.setAttribute("aria-pressed", String(Boolean(look) && look.word === i)); }); }

  function show() {
    outline();
    if (!item.words.length) { paint(null); told.textContent = "This report has no words."; beside.replaceChildren(); return; }
    if (!look) { paint(null); shade(null); told.textContent = "Point at a word, or at a place of the film. A click keeps it."; beside.replaceChildren(); return; }
    if (look.word !== undefined) {
      const weights = weightsOf(look.word), best = Math.max(...weights), even = 1 / weights.filter(v => v > 0).length;
      paint(weights); shade(null);
      told.textContent = `“${item.words[look.word]}” gives its strongest ${how() === "grid" ? "patch" : "region"} ${percent(best)}; spread evenly each would have ${percent(even)}.`;
      const truth = item.truth.flatMap(t => [{ name: t.name, value: inside(weights, t.box), colour: 1, told: `${percent(inside(weights, t.box))} (box: ${percent((t.box[2] - t.box[0]) * (t.box[3] - t.box[1]))} of the film)` }]);
      const places = item.places && how() === "places" ? item.regions.map((name, i) => ({ name, value: weights[i] })).filter(p => p.value > 0).sort((a, b) => b.value - a.value).slice(0, 8).map(p => ({ ...p, told: percent(p.value) })) : [];
      beside.replaceChildren(...[truth.length ? section("Share of this word's attention inside the true box", bars(truth, { top: 1 }), note("Spread evenly, as much would be inside as the box covers of the film.")) : note("Nothing is known to be on this film."), places.length ? section("Regions it looks at", bars(places)) : null].filter(Boolean));
    } else {
      const region = look.region !== undefined, scores = region ? column(item.places, look.region, item.regions.length) : column(item.grid, look.cell, item.grid.shape[1] * item.grid.shape[2]);
      const weights = softmax(scores, temperature);
      paint(null); shade(weights);
      const ranked = weights.map((value, i) => ({ name: item.words[i], value, told: percent(value) })).sort((a, b) => b.value - a.value).slice(0, 8);
      told.textContent = `${region ? item.regions[look.region] : `patch ${look.cell + 1}`} takes “${ranked[0].name}” most.`;
      beside.replaceChildren(section(region ? `Words that the ${item.regions[look.region]} takes` : "Words that this patch takes", bars(ranked)));
    }
  }
  const point = (what, keep = false) => { if (keep) host.set("look", what); look = what ?? host.get("look"); show(); };
  const release = () => point(null);

  function fillWords() {
    text.replaceChildren();
    item.words.forEach((word, i) => {
      text.append(item.gaps[i], h("button", { type: "button", class: "word", onmouseenter: () => point({ word: i }), onmouseleave: release, onfocus: () => point({ word: i }), onclick: () => point({ word: i }, true) }, word));
    });
    text.append(item.gaps[item.words.length] ?? "");
  }
  function fillRegions() {
    const usable = item.places ? item.regions.map((name, i) => [name, i]).filter(([, i]) => Number.isFinite(item.places[i])) : [];
    regions.replaceChildren(...usable.map(([name, i]) => h("button", { type: "button", class: "region", onmouseenter: () => point({ region: i }), onmouseleave: release, onfocus: () => point({ region: i }), onclick: () => point({ region: i }, true) }, name)));
    regions.hidden = !usable.length;
  }
  function at(event) {                         // what lies under the pointer: a patch, or the smallest region
    const place = stage.getBoundingClientRect(), x = (event.clientX - place.left) / place.width, y = (event.clientY - place.top) / place.height;
    if (how() === "grid") { const [, rows, columns] = item.grid.shape; return { cell: Math.min(rows - 1, Math.max(0, Math.floor(y * rows))) * columns + Math.min(columns - 1, Math.max(0, Math.floor(x * columns))) }; }
    let best = null, least = Infinity;
    item.regions.forEach((_, i) => { const b = item.boxes.row(i), area = (b[2] - b[0]) * (b[3] - b[1]); if (x >= b[0] && x <= b[2] && y >= b[1] && y <= b[3] && area < least && Number.isFinite(item.places[i])) { best = i; least = area; } });
    return best === null ? null : { region: best };
  }
  stage.addEventListener("mousemove", e => { if (item.words.length) point(at(e)); });
  stage.addEventListener("mouseleave", release);
  stage.addEventListener("click", e => { if (item.words.length) point(at(e), true); });
  stage.addEventListener("keydown", e => {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[e.key];
    if (!step || !item.words.length) return;
    e.preventDefault();
    if (how() === "grid") { const [, rows, columns] = item.grid.shape, now = look && look.cell !== undefined ? look.cell : -1, r = Math.floor(now / columns) + step[0], c = now % columns + step[1];
      point({ cell: now < 0 ? 0 : Math.min(rows - 1, Math.max(0, r)) * columns + Math.min(columns - 1, Math.max(0, c)) }, true); }
    else { const all = item.regions.map((_, i) => i).filter(i => Number.isFinite(item.places[i])), now = look && look.region !== undefined ? all.indexOf(look.region) : -1; point({ region: all[(now + step[0] + step[1] + all.length) % all.length] }, true); }
  });

  function take(next) {                        // show another film, or another text on the same film
    item = next; look = null; host.set("look", null);
    const address = data.films && item.film !== null && data.films.url(item.film);
    if (address) film.src = address; else film.removeAttribute("src");
    stage.classList.toggle("bare", !address); film.hidden = !address; film.alt = `radiograph of ${item.id}`;
    fillWords(); fillRegions();
    switcher.hidden = !(item.grid && item.places);
    own.replaceChildren(...[item.own ? h("button", { type: "button", onclick: () => take(item.own) }, "Back to its own report") : null, item.truth.length ? h("p", { class: "told" }, `known to be there (dashed): ${item.truth.map(t => t.name).join(", ")}`) : null].filter(Boolean));
    show();
  }
  async function say(words) {
    if (!words.trim()) return;
    const mine = ++turn, here = item.own ?? item;
    told.textContent = "Reading …";
    try { const got = await host.ask("say", { item: data.items.indexOf(here), text: words }); if (mine === turn) take({ ...here, ...got.read, own: here }); }
    catch (error) { if (mine === turn) told.textContent = error.message; }
  }
  const switcher = choice("Look by", [["grid", "patches"], ["regions", "regions"]], host.get("how", "grid"), v => { host.set("how", v); look = null; show(); });
  const logs = slider("Temperature", -3, 1, 0.1, Math.log10(temperature), v => { temperature = 10 ** v; logs.querySelector("output").textContent = temperature.toPrecision(2); host.set("temperature", temperature); show(); });
  logs.querySelector("output").textContent = temperature.toPrecision(2);
  put(root, h("div", { class: "controls" }, choice("Film", data.items.map((it, i) => [i, it.id]), host.get("chosen", 0), i => { host.set("chosen", i); take(data.items[i]); }), switcher, logs),
    host.can("say") ? h("div", { class: "controls" }, typed("A sentence on this film", "Large right pleural effusion.", say, "Look")) : null,
    h("div", { class: "columns even" }, h("div", {}, stage, regions, own), h("div", {}, text, told, beside)));
  host.on("chosen", i => { if (data.items[i] && data.items[i] !== (item.own ?? item)) take(data.items[i]); });
  host.on("look", v => { look = v; show(); });
  take(data.items[host.get("chosen", 0)] ?? data.items[0]);
});
