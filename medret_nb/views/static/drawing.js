// A film on which one box can be drawn, with the pointer or with the arrow keys.

import { arrowStep, swallow } from "./controls.js";
import { h, overlay, rectangle } from "./elements.js";
import { clamp } from "./numbers.js";

const FIRST = [0.35, 0.35, 0.65, 0.65]; // the box that the first arrow key makes
const LEAST = 0.02; // a smaller one is a click
const HOW =
  "drag to draw a box, or move it by the arrow keys, with Shift its right lower corner; Delete takes it away.";

function between([a, b], [c, d]) {
  return [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)];
}

// The box moved, as far as the film goes.
function moved(box, step) {
  return [0, 1, 0, 1].map((axis, corner) => {
    const room = 1 - box[axis + 2];
    return box[corner] + Math.min(room, Math.max(-box[axis], 0.02 * step[axis]));
  });
}

// The box with its right lower corner moved.
function stretched(box, step) {
  const right = Math.max(box[0] + 0.04, box[2] + 0.02 * step[0]);
  const bottom = Math.max(box[1] + 0.04, box[3] + 0.02 * step[1]);
  return [box[0], box[1], clamp(right, 0, 1), clamp(bottom, 0, 1)];
}

// onbox(box or null): somebody has drawn a box, [x0, y0, x1, y1] in fractions of the film, or taken it away.
export class DrawableFilm {
  constructor(onbox) {
    this.onbox = onbox;
    this.box = null;
    this.start = null; // where the pointer was pressed
    this.outlines = [];
    this.said = "";
    this.film = h("img", { class: "film", draggable: "false" });
    this.lines = overlay();
    const attributes = {
      class: "film-stage drawable",
      tabindex: 0,
      role: "application",
      "data-lm-suppress-shortcuts": "true",
    };
    this.node = h("div", attributes, this.film, this.lines);
    this.listen();
  }

  listen() {
    const on = (name, call) => this.node.addEventListener(name, call);
    on("pointerdown", (event) => this.press(event));
    on("pointermove", (event) => this.start && this.paint(this.drawnTo(event)));
    on("pointerup", (event) => this.release(event));
    on("pointercancel", () => this.cancel());
    on("keydown", (event) => this.onkey(event));
  }

  at(event) {
    const place = this.node.getBoundingClientRect();
    const x = (event.clientX - place.left) / place.width;
    const y = (event.clientY - place.top) / place.height;
    return [clamp(x, 0, 1), clamp(y, 0, 1)];
  }

  drawnTo(event) {
    return between(this.start, this.at(event));
  }

  press(event) {
    if (event.button) return;
    event.preventDefault();
    this.node.focus({ preventScroll: true });
    this.start = this.at(event);
    this.node.setPointerCapture(event.pointerId);
  }

  release(event) {
    if (!this.start) return;
    const made = this.drawnTo(event);
    this.start = null;
    if (made[2] - made[0] > LEAST && made[3] - made[1] > LEAST) this.onbox(made);
    else this.paint();
  }

  cancel() {
    this.start = null;
    this.paint();
  }

  onkey(event) {
    const step = arrowStep(event);
    const deletes = event.key === "Delete" || event.key === "Backspace";
    if (!step && !deletes) return;
    swallow(event);
    if (deletes) this.onbox(null);
    else if (!this.box) this.onbox([...FIRST]);
    else this.onbox(event.shiftKey ? stretched(this.box, step) : moved(this.box, step));
  }

  paint(now = this.box) {
    const around = this.outlines.map((outline) => rectangle(outline.box, outline.kind));
    this.lines.replaceChildren(...around, ...(now ? [rectangle(now, "drawn")] : []));
    const edges = now ? now.map((edge) => Math.round(100 * edge)).join(", ") : "";
    const told = now ? `Box: ${edges} percent` : "No box";
    this.node.setAttribute("aria-label", `${this.said}; ${HOW} ${told}.`);
  }

  // Show a film.
  show(address, alt) {
    this.film.src = address;
    this.film.alt = alt;
    this.said = alt;
    this.paint();
  }

  // Show a box, and outlines around it: [{box, kind}].
  update(box, outlines) {
    this.box = box;
    this.outlines = outlines;
    if (!this.start) this.paint();
  }
}
