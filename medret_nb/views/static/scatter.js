// A map of up to 100,000 points on two canvases: the points below, marks and the pointer's point above, so that
// moving the pointer draws almost nothing.

import { arrowStep, swallow } from "./controls.js";
import { h } from "./elements.js";
import { Grid, Lens } from "./grid.js";
import { clamp, inGroups } from "./numbers.js";
import { drawFlag, drawPoints, drawRing, inkOf, inksOf } from "./pens.js";

const NOTHING = { colour: null, names: [], shape: null, shown: null, flags: [] };

// options: x, y float arrays; label(i) the text of a point; onpick(i); onflag(flag); alt; shapes (names of round
// and square); and what `update` takes: x, y, colour (codes), names (of the codes; code names.length and above is
// grey), others (the name of the grey ones), shape (0 round, 1 square), shown (bytes or null), flags [{x, y, text,
// hollow, big}].
export class Scatter {
  constructor(options) {
    this.state = { ...NOTHING, ...options };
    this.grid = new Grid(this.state.x, this.state.y);
    this.lens = new Lens(this.grid);
    this.order = null; // points by colour, made when they are drawn
    this.inks = null; // colours of the theme, likewise
    this.marks = [];
    this.hover = -1;
    this.waiting = false;
    this.grip = null; // where the pointer was pressed
    this.build();
    this.listen();
    this.follow();
    this.tellLegend();
  }

  build() {
    this.below = h("canvas", { "aria-hidden": "true" });
    this.above = h("canvas", { "aria-hidden": "true" });
    this.tip = h("div", { class: "tip", role: "status", dir: "auto" });
    this.tip.hidden = true;
    this.legend = h("ul", { class: "legend" });
    const keys =
      "Arrow keys move from point to point, Enter chooses, plus and minus zoom, 0 shows all.";
    const attributes = {
      class: "stage",
      tabindex: 0,
      "data-lm-suppress-shortcuts": "true",
      role: "application",
      "aria-roledescription": "map of points",
      "aria-label": `${this.state.alt}. ${keys}`,
    };
    this.stage = h("div", attributes, this.below, this.above, this.tip);
    this.node = h("div", { class: "map" }, this.stage, this.zoomers(), this.legend);
  }

  zoomers() {
    const one = (text, label, onclick) =>
      h("button", { type: "button", "aria-label": label, title: label, onclick }, text);
    return h(
      "div",
      { class: "zoom" },
      one("+", "zoom in", () => this.zoom(1.5)),
      one("−", "zoom out", () => this.zoom(1 / 1.5)),
      one("⌂", "show all", () => this.reset()),
    );
  }

  get isDense() {
    return this.grid.count > 4000;
  }

  isVisible(i) {
    return this.grid.fine[i] && (!this.state.shown || this.state.shown[i]);
  }

  isSquare(i) {
    return Boolean(this.state.shape?.[i]);
  }

  // ---- drawing

  // The size of the window; its height follows its width.
  measure() {
    const width = Math.max(this.stage.clientWidth, 50);
    const height = Math.round(clamp(0.72 * width, 220, 560));
    const ratio = window.devicePixelRatio || 1;
    this.stage.style.height = `${height}px`;
    this.lens.fit(this.grid, width, height);
    for (const canvas of [this.below, this.above]) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
    }
  }

  // Outside the page there are no colours; it is drawn when its size is known.
  get isReady() {
    return this.node.isConnected && this.lens.width;
  }

  // One fillStyle per colour instead of one per point.
  sortByColour() {
    const { colour, names, x } = this.state;
    const codeOf = (i) => (colour ? Math.min(colour[i], names.length) : 0);
    return inGroups(x.length, names.length + 1, codeOf);
  }

  drawBelow() {
    this.order ??= this.sortByColour();
    this.inks ??= inksOf(this.node, this.state.names);
    drawPoints(this.below.getContext("2d"), this);
    this.node.dataset.drawn = String(Number(this.node.dataset.drawn || 0) + 1);
  }

  drawAbove() {
    if (!this.isReady) return;
    const pen = this.above.getContext("2d");
    this.inks ??= inksOf(this.node, this.state.names);
    pen.clearRect(0, 0, this.lens.width, this.lens.height);
    for (const flag of this.state.flags) drawFlag(pen, this, flag);
    for (const mark of this.marks) {
      const colour = inkOf(this.node, mark.colour ?? "--ink");
      drawRing(pen, this, mark.i, { colour, radius: mark.big ? 9 : 6, words: mark.text });
    }
    drawRing(pen, this, this.hover, { colour: this.inks.ink, radius: 7, words: "" });
  }

  // All is drawn at the browser's next frame, once however often this is called.
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      if (!this.isReady) return;
      this.drawBelow();
      this.drawAbove();
    });
  }

  // ---- the pointer and the keys

  // The pointer, or an arrow key, is at point i; -1: at none.
  point(i) {
    if (i === this.hover) return;
    this.hover = i;
    this.node.dataset.hover = String(i);
    this.tip.textContent = i < 0 ? "" : this.state.label(i);
    this.tip.hidden = i < 0;
    if (i >= 0) this.placeTip(this.lens.toX(this.state.x[i]), this.lens.toY(this.state.y[i]));
    this.drawAbove();
  }

  placeTip(px, py) {
    const { width, height } = this.lens;
    const right = px > width / 2;
    const top = Math.min(Math.max(4, py + 10), height - 40);
    const side = right
      ? `right:${Math.max(4, width - px + 10)}px`
      : `left:${Math.max(4, px + 10)}px`;
    const room = Math.max(120, right ? px - 20 : width - px - 20);
    this.tip.style.cssText = `top:${top}px;${side};max-width:${room}px`;
  }

  pixelOf(event) {
    const box = this.stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  // The flag, else the point, under the pointer.
  find(event) {
    const { lens } = this;
    const [px, py] = this.pixelOf(event);
    const isNear = (flag) => Math.hypot(lens.toX(flag.x) - px, lens.toY(flag.y) - py) < 11;
    const flag = this.state.flags.find(isNear);
    if (flag) return { flag, i: -1 };
    const allowed = (i) => this.isVisible(i);
    return { i: this.grid.nearest(lens.fromX(px), lens.fromY(py), 14 / lens.scale, allowed) };
  }

  zoom(factor, px = this.lens.width / 2, py = this.lens.height / 2) {
    this.lens.zoom(factor, px, py);
    this.draw();
  }

  reset() {
    this.lens.reset();
    this.draw();
  }

  // How far point i is from the present one in the direction (dx, dy), or from the middle; null: not in that direction.
  costOf(i, dx, dy) {
    const { lens, state, hover } = this;
    const fromMiddle = hover < 0;
    const px = lens.toX(state.x[i]) - (fromMiddle ? lens.width / 2 : lens.toX(state.x[hover]));
    const py = lens.toY(state.y[i]) - (fromMiddle ? lens.height / 2 : lens.toY(state.y[hover]));
    if (fromMiddle) return Math.hypot(px, py);
    const along = px * dx + py * dy;
    const aside = Math.abs(px * dy) + Math.abs(py * dx);
    return along <= 0 || aside > 2 * along + 0.5 ? null : along + 2 * aside;
  }

  // Go to the nearest visible point in that direction.
  step(dx, dy) {
    let best = -1;
    let least = Infinity;
    for (let i = 0; i < this.state.x.length; i++) {
      if (i === this.hover || !this.isVisible(i)) continue;
      const cost = this.costOf(i, dx, dy);
      if (cost === null || cost >= least) continue;
      least = cost;
      best = i;
    }
    if (best >= 0) this.point(best);
  }

  onkey(event) {
    if (event.ctrlKey || event.metaKey) return;
    const keys = {
      "+": () => this.zoom(1.5),
      "=": () => this.zoom(1.5),
      "-": () => this.zoom(1 / 1.5),
      0: () => this.reset(),
      Escape: () => this.point(-1),
      Enter: () => this.hover >= 0 && this.state.onpick(this.hover),
    };
    const arrow = arrowStep(event);
    if (!arrow && !keys[event.key]) return;
    swallow(event);
    if (arrow) this.step(...arrow);
    else keys[event.key]();
  }

  onpress(event) {
    const { movedX, movedY } = this.lens;
    this.grip = { x: event.clientX, y: event.clientY, movedX, movedY, moved: false };
  }

  onmove(event) {
    if (this.grip && event.buttons & 1) return this.drag(event);
    const found = this.find(event);
    this.stage.style.cursor = found.flag || found.i >= 0 ? "pointer" : "grab";
    this.point(found.i);
  }

  drag(event) {
    const dx = event.clientX - this.grip.x;
    const dy = event.clientY - this.grip.y;
    this.grip.moved ||= Math.hypot(dx, dy) > 4;
    if (!this.grip.moved) return;
    this.lens.movedX = this.grip.movedX + dx;
    this.lens.movedY = this.grip.movedY + dy;
    this.draw();
  }

  onrelease(event) {
    if (this.grip && !this.grip.moved) {
      const { flag, i } = this.find(event);
      if (flag) this.state.onflag(flag);
      else if (i >= 0) this.state.onpick(i);
    }
    this.grip = null;
  }

  // The wheel scrolls the page, unless a key is held or the map was chosen.
  onwheel(event) {
    if (!event.ctrlKey && !event.shiftKey && document.activeElement !== this.stage) return;
    event.preventDefault();
    this.zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, ...this.pixelOf(event));
  }

  listen() {
    const on = (name, call, options) => this.stage.addEventListener(name, call, options);
    on("keydown", (event) => this.onkey(event));
    on("pointerdown", (event) => this.onpress(event));
    on("pointermove", (event) => this.onmove(event));
    on("pointerup", (event) => this.onrelease(event));
    on("pointerleave", () => this.point(-1));
    on("wheel", (event) => this.onwheel(event), { passive: false });
  }

  // Follow the window's size and the theme, the system's and JupyterLab's.
  follow() {
    this.onTheme = () => {
      this.inks = null;
      this.draw();
    };
    this.sizes = new ResizeObserver(() => {
      if (this.stage.clientWidth === this.lens.width) return;
      this.measure();
      this.draw();
    });
    this.sizes.observe(this.stage);
    this.system = matchMedia("(prefers-color-scheme: dark)");
    this.system.addEventListener("change", this.onTheme);
    this.lab = new MutationObserver(this.onTheme);
    this.lab.observe(document.body, {
      attributes: true,
      attributeFilter: ["data-jp-theme-light"],
    });
  }

  free() {
    this.sizes.disconnect();
    this.system.removeEventListener("change", this.onTheme);
    this.lab.disconnect();
  }

  // ---- what a view calls

  tellLegend() {
    const { names, others, shapes, x } = this.state;
    const dot = (code, name) =>
      h("li", {}, h("span", { class: "dot", style: `background:var(--c${code})` }), name);
    const shape = (name, square) =>
      h("li", {}, h("span", { class: `shape ${square ? "square" : "round"}` }), name);
    this.legend.replaceChildren(...names.map((name, code) => dot(code, name)));
    if (others) this.legend.append(dot(8, others));
    this.legend.append(...(shapes ?? []).map(shape));
    const lost = x.length - this.grid.count;
    if (!lost) return;
    const counts = `${lost.toLocaleString("en")} of ${x.length.toLocaleString("en")}`;
    const told = `${counts} have no place (NaN) and are not drawn`;
    this.legend.append(h("li", { class: "note" }, told));
  }

  update(changes) {
    const isMoved = ["x", "y"].some((key) => key in changes && changes[key] !== this.state[key]);
    Object.assign(this.state, changes);
    const onlyFlags = Object.keys(changes).every((key) => key === "flags");
    if (onlyFlags) return this.drawAbove(); // the points below stay as they are
    if (isMoved) this.regrid();
    if ("colour" in changes || "names" in changes) {
      this.order = null;
      this.inks = null;
    }
    this.tellLegend();
    this.draw();
  }

  regrid() {
    this.grid = new Grid(this.state.x, this.state.y);
    this.measure();
    this.hover = -1;
    this.tip.hidden = true;
  }

  // Rings around points: [{i, text, colour, big}].
  mark(list) {
    this.marks = list;
    this.drawAbove();
  }
}
