// A map of up to 100,000 points on two canvases: the points below, marks and the pointer's point above, so that moving
// the pointer draws almost nothing. A grid over the plane finds the nearest point without looking at all of them.

function inkOf(node, name) {                 // a colour of the theme, resolved
  const probe = h("span", { style: `color: var(${name}); display: none` });
  node.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

function gridOf(x, y) {                      // points with a place, in cells of about four
  const n = x.length, fine = new Uint8Array(n);
  let [x0, x1, y0, y1, count] = [Infinity, -Infinity, Infinity, -Infinity, 0];
  for (let i = 0; i < n; i++) {
    if (!Number.isFinite(x[i]) || !Number.isFinite(y[i])) continue;
    fine[i] = 1; count++;
    x0 = Math.min(x0, x[i]); x1 = Math.max(x1, x[i]); y0 = Math.min(y0, y[i]); y1 = Math.max(y1, y[i]);
  }
  if (!count) [x0, x1, y0, y1] = [0, 1, 0, 1];
  const span = Math.max(x1 - x0, y1 - y0) || 1, side = Math.max(1, Math.ceil(Math.sqrt(count / 4)));
  const column = v => Math.min(side - 1, Math.max(0, Math.floor((v - x0) / span * side)));
  const line = v => Math.min(side - 1, Math.max(0, Math.floor((v - y0) / span * side)));
  const start = new Uint32Array(side * side + 1), items = new Uint32Array(count);
  const cell = i => line(y[i]) * side + column(x[i]);
  for (let i = 0; i < n; i++) if (fine[i]) start[cell(i) + 1]++;
  for (let c = 0; c < side * side; c++) start[c + 1] += start[c];
  const next = start.slice();
  for (let i = 0; i < n; i++) if (fine[i]) items[next[cell(i)]++] = i;
  function nearest(px, py, radius, allowed) {
    let best = -1, least = radius * radius;
    for (let r = line(py - radius); r <= line(py + radius); r++) for (let c = column(px - radius); c <= column(px + radius); c++)
      for (let k = start[r * side + c]; k < start[r * side + c + 1]; k++) {
        const i = items[k], d = (x[i] - px) ** 2 + (y[i] - py) ** 2;
        if (d <= least && allowed(i)) { best = i; least = d; }
      }
    return best;
  }
  return { x0, x1, y0, y1, span, count, fine, nearest };
}

// options: x, y float arrays; label(i) the text of a point; onpick(i); alt; and what `update` takes: x, y, colour (codes), names
// (of the codes; code names.length and above is grey), shape (0 round, 1 square), shown (bytes or null), flags [{x, y, text, colour, i}].
function scatter(options) {
  const state = { colour: null, names: [], shape: null, shown: null, flags: [], ...options };
  const below = h("canvas", { "aria-hidden": "true" }), above = h("canvas", { "aria-hidden": "true" });
  const tip = h("div", { class: "tip", role: "status", dir: "auto" }), legend = h("ul", { class: "legend" });
  const stage = h("div", { class: "stage", tabindex: 0, "data-lm-suppress-shortcuts": "true", role: "application", "aria-roledescription": "map of points",
    "aria-label": `${options.alt}. Arrow keys move from point to point, Enter chooses, plus and minus zoom, 0 shows all.` }, below, above, tip);
  const zoomers = [["+", "zoom in", () => zoom(1.5)], ["−", "zoom out", () => zoom(1 / 1.5)], ["⌂", "show all", () => reset()]];
  const node = h("div", { class: "map" }, stage, h("div", { class: "zoom" }, zoomers.map(([text, label, call]) => h("button", { type: "button", "aria-label": label, title: label, onclick: call }, text))), legend);
  let grid = gridOf(state.x, state.y), order = null, marks = [], hover = -1, view = { k: 1, x: 0, y: 0 }, size = { w: 0, h: 0, base: 1 }, waiting = false, inks = null;

  const visible = i => grid.fine[i] && (!state.shown || state.shown[i]);
  const toX = v => size.w / 2 + (v - (grid.x0 + grid.x1) / 2) * size.base * view.k + view.x;
  const toY = v => size.h / 2 - (v - (grid.y0 + grid.y1) / 2) * size.base * view.k + view.y;
  const fromX = p => (p - view.x - size.w / 2) / (size.base * view.k) + (grid.x0 + grid.x1) / 2;
  const fromY = p => -(p - view.y - size.h / 2) / (size.base * view.k) + (grid.y0 + grid.y1) / 2;

  function sortByColour() {                  // one fillStyle per colour instead of one per point
    const n = state.x.length, codes = state.names.length + 1, of = i => state.colour ? Math.min(state.colour[i], codes - 1) : 0;
    const start = new Uint32Array(codes + 1), items = new Uint32Array(n);
    for (let i = 0; i < n; i++) start[of(i) + 1]++;
    for (let c = 0; c < codes; c++) start[c + 1] += start[c];
    const next = start.slice();
    for (let i = 0; i < n; i++) items[next[of(i)]++] = i;
    return { start, items, codes };
  }
  function measure() {
    const w = Math.max(stage.clientWidth, 50), tall = Math.round(Math.min(Math.max(0.72 * w, 220), 560)), ratio = window.devicePixelRatio || 1;
    stage.style.height = `${tall}px`;
    size = { w, h: tall, base: 0.9 * Math.min(w / ((grid.x1 - grid.x0) || grid.span), tall / ((grid.y1 - grid.y0) || grid.span)) };
    for (const canvas of [below, above]) { canvas.width = Math.round(w * ratio); canvas.height = Math.round(tall * ratio); canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0); }
  }
  function colours() { return { names: state.names.map((_, c) => inkOf(node, `--c${c}`)), other: inkOf(node, state.names.length ? "--c8" : "--c0"), ink: inkOf(node, "--ink"), paper: inkOf(node, "--paper") }; }
  function drawPoints() {
    const pen = below.getContext("2d"), many = grid.count > 4000, r = many ? 1.1 * Math.min(3, Math.max(1, Math.sqrt(view.k))) : Math.min(6, 3 * Math.max(1, Math.sqrt(view.k) * 0.8));
    order ??= sortByColour(); inks ??= colours();
    pen.clearRect(0, 0, size.w, size.h);
    pen.globalAlpha = many ? 0.7 : 0.8;
    const rounds = many ? 16 : 1;             // turn by turn, or in a dense map the colour drawn last would hide the others
    for (let round = 0; round < rounds; round++) for (let c = order.codes - 1; c >= 0; c--) {
      pen.fillStyle = inks.names[c] ?? inks.other;
      pen.beginPath();
      for (let k = order.start[c] + round; k < order.start[c + 1]; k += rounds) {
        const i = order.items[k];
        if (!visible(i)) continue;
        const px = toX(state.x[i]), py = toY(state.y[i]);
        if (px < -9 || py < -9 || px > size.w + 9 || py > size.h + 9) continue;
        if (many) pen.fillRect(px - r, py - r, 2 * r, 2 * r);
        else if (state.shape && state.shape[i]) pen.rect(px - r * 0.9, py - r * 0.9, 1.8 * r, 1.8 * r);
        else { pen.moveTo(px + r, py); pen.arc(px, py, r, 0, 7); }
      }
      pen.fill();
    }
    pen.globalAlpha = 1;
    node.dataset.drawn = String(Number(node.dataset.drawn || 0) + 1);
  }
  function ring(pen, i, colour, r, text) {
    if (i < 0 || !grid.fine[i]) return;
    const px = toX(state.x[i]), py = toY(state.y[i]);
    for (const [wide, ink] of [[4.5, inks.paper], [2, colour]]) { pen.lineWidth = wide; pen.strokeStyle = ink; pen.beginPath(); if (state.shape && state.shape[i]) pen.rect(px - r, py - r, 2 * r, 2 * r); else pen.arc(px, py, r, 0, 7); pen.stroke(); }
    if (text) write(pen, text, px + r + 2, py + 4, colour);
  }
  function write(pen, text, px, py, colour) {
    pen.font = "600 12px system-ui, sans-serif"; pen.lineWidth = 3.5; pen.strokeStyle = inks.paper; pen.fillStyle = colour;
    pen.strokeText(text, px, py); pen.fillText(text, px, py);
  }
  function drawMarks() {
    if (!node.isConnected || !size.w) return;        // outside the page there are no colours; it is drawn when its size is known
    const pen = above.getContext("2d");
    inks ??= colours();
    pen.clearRect(0, 0, size.w, size.h);
    for (const f of state.flags) {
      const px = toX(f.x), py = toY(f.y), r = f.big ? 9 : 6;
      pen.beginPath(); pen.moveTo(px, py - r); pen.lineTo(px + r, py); pen.lineTo(px, py + r); pen.lineTo(px - r, py); pen.closePath();
      pen.fillStyle = f.hollow ? inks.paper : inks.ink; pen.fill(); pen.lineWidth = f.big ? 3 : 1.5; pen.strokeStyle = f.hollow ? inks.ink : inks.paper; pen.stroke();
      write(pen, f.text, px + r + 2, py + 4, inks.ink);
    }
    for (const m of marks) ring(pen, m.i, inkOf(node, m.colour ?? "--ink"), m.big ? 9 : 6, m.text);
    ring(pen, hover, inks.ink, 7, "");
  }
  function draw() { if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; if (node.isConnected && size.w) { drawPoints(); drawMarks(); } }); } }
  function point(i) {                        // the pointer, or an arrow key, is at point i
    if (i === hover) return;
    hover = i; node.dataset.hover = String(i);
    tip.textContent = i < 0 ? "" : state.label(i);
    tip.hidden = i < 0;
    if (i >= 0) {
      const left = toX(state.x[i]), right = left > size.w / 2;
      tip.style.cssText = `top:${Math.min(Math.max(4, toY(state.y[i]) + 10), size.h - 40)}px;${right ? `right:${Math.max(4, size.w - left + 10)}px` : `left:${Math.max(4, left + 10)}px`};max-width:${Math.max(120, right ? left - 20 : size.w - left - 20)}px`;
    }
    drawMarks();
  }
  function at(event) { const box = stage.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; }
  function find(event) {
    const [px, py] = at(event), reach = 14 / (size.base * view.k);
    const flag = state.flags.find(f => Math.hypot(toX(f.x) - px, toY(f.y) - py) < 11);
    return { flag, i: flag ? -1 : grid.nearest(fromX(px), fromY(py), reach, visible) };
  }
  function zoom(factor, px = size.w / 2, py = size.h / 2) {
    const k = Math.min(200, Math.max(0.5, view.k * factor)), f = k / view.k;
    view = { k, x: px - size.w / 2 - f * (px - size.w / 2 - view.x), y: py - size.h / 2 - f * (py - size.h / 2 - view.y) };
    draw();
  }
  function reset() { view = { k: 1, x: 0, y: 0 }; draw(); }
  function step(dx, dy) {                    // the nearest visible point in that direction
    const all = state.x.length;
    let best = -1, least = Infinity;
    for (let i = 0; i < all; i++) {
      if (i === hover || !visible(i)) continue;
      const ax = hover < 0 ? toX(state.x[i]) - size.w / 2 : toX(state.x[i]) - toX(state.x[hover]), ay = hover < 0 ? toY(state.y[i]) - size.h / 2 : toY(state.y[i]) - toY(state.y[hover]);
      const along = ax * dx + ay * dy, aside = Math.abs(ax * dy) + Math.abs(ay * dx);
      if (hover >= 0 && (along <= 0 || aside > 2 * along + 0.5)) continue;
      const cost = hover < 0 ? Math.hypot(ax, ay) : along + 2 * aside;
      if (cost < least) { least = cost; best = i; }
    }
    if (best >= 0) point(best);
  }
  const keys = { ArrowLeft: () => step(-1, 0), ArrowRight: () => step(1, 0), ArrowUp: () => step(0, -1), ArrowDown: () => step(0, 1), "+": () => zoom(1.5), "=": () => zoom(1.5),
    "-": () => zoom(1 / 1.5), 0: reset, Escape: () => point(-1), Enter: () => hover >= 0 && options.onpick(hover) };
  stage.addEventListener("keydown", e => { if (keys[e.key] && !e.ctrlKey && !e.metaKey) { e.preventDefault(); e.stopPropagation(); keys[e.key](); } });
  let grip = null;
  stage.addEventListener("pointerdown", e => { grip = { x: e.clientX, y: e.clientY, view, moved: false }; });
  stage.addEventListener("pointermove", e => {
    if (grip && e.buttons & 1) {
      const dx = e.clientX - grip.x, dy = e.clientY - grip.y;
      grip.moved ||= Math.hypot(dx, dy) > 4;
      if (grip.moved) { view = { ...grip.view, x: grip.view.x + dx, y: grip.view.y + dy }; draw(); }
    } else { const found = find(e); stage.style.cursor = found.flag || found.i >= 0 ? "pointer" : "grab"; point(found.i); }
  });
  stage.addEventListener("pointerup", e => {
    if (grip && !grip.moved) { const { flag, i } = find(e); if (flag) options.onflag(flag); else if (i >= 0) options.onpick(i); }
    grip = null;
  });
  stage.addEventListener("pointerleave", () => point(-1));
  stage.addEventListener("wheel", e => { if (e.ctrlKey || e.shiftKey || document.activeElement === stage) { e.preventDefault(); zoom(e.deltaY < 0 ? 1.2 : 1 / 1.2, ...at(e)); } }, { passive: false });

  function tellLegend() {
    legend.replaceChildren(...state.names.map((name, c) => h("li", {}, h("span", { class: "dot", style: `background:var(--c${c})` }), name)),
      ...(state.others ? [h("li", {}, h("span", { class: "dot", style: "background:var(--c8)" }), state.others)] : []),
      ...(state.shapes ?? []).map((name, s) => h("li", {}, h("span", { class: `shape ${s ? "square" : "round"}` }), name)));
    const lost = state.x.length - grid.count;
    if (lost) legend.append(h("li", { class: "note" }, `${lost.toLocaleString("en")} of ${state.x.length.toLocaleString("en")} have no place (NaN) and are not drawn`));
  }
  function update(changes) {
    const moved = ("x" in changes && changes.x !== state.x) || ("y" in changes && changes.y !== state.y);
    Object.assign(state, changes);
    if (Object.keys(changes).every(k => k === "flags")) return drawMarks();      // the points below stay as they are
    if (moved) { grid = gridOf(state.x, state.y); measure(); hover = -1; tip.hidden = true; }
    if ("colour" in changes || "names" in changes) { order = null; inks = null; }
    tellLegend(); draw();
  }
  const theme = () => { inks = null; draw(); }, watch = new ResizeObserver(() => { if (stage.clientWidth !== size.w) { measure(); draw(); } });
  const media = matchMedia("(prefers-color-scheme: dark)"), body = new MutationObserver(theme);
  watch.observe(stage); media.addEventListener("change", theme); body.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  tip.hidden = true;
  tellLegend();
  return { node, update, reset, mark(list) { marks = list; drawMarks(); }, place: i => { const box = stage.getBoundingClientRect(); return [box.left + toX(state.x[i]), box.top + toY(state.y[i])]; },
    free() { watch.disconnect(); media.removeEventListener("change", theme); body.disconnect(); } };
}
