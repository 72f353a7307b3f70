// What a kernel adds to a query: regions picked by name, a box drawn on the query's film, what to find.
// What is chosen lies in the state: regions [names]; box [x0, y0, x1, y1] in fractions of the film; stands_for,
// the region that the box means, or null: the one that it overlaps best; rho, the weight; find, "films" or
// "reports", or null: what fits the query.

import { choice, slider, toggle } from "./controls.js";
import { DrawableFilm } from "./drawing.js";
import { h } from "./elements.js";

export const ASKED = ["regions", "box", "stands_for", "rho", "find"];

const EDGES = ["left", "top", "right", "bottom"];
const WRONG_BOX =
  "The box must have its left edge left of its right one, its top above its bottom, and lie between 0 and 100 %.";

function isBox([left, top, right, bottom]) {
  const edges = [left, top, right, bottom];
  return right > left && bottom > top && Math.min(...edges) >= 0 && Math.max(...edges) <= 1;
}

function rounded(box) {
  return box?.map((edge) => Math.round(1000 * edge) / 1000);
}

// The four edges of a box as numbers to type, in percent. ontype(box): all four were typed.
class BoxFields {
  constructor(ontype) {
    this.ontype = ontype;
    this.inputs = EDGES.map((name) => this.input(name));
    this.labels = EDGES.map((name, k) =>
      h("label", { class: "control" }, h("span", {}, `${name} %`), this.inputs[k]),
    );
  }

  input(name) {
    return h("input", {
      type: "number",
      min: 0,
      max: 100,
      step: 1,
      "aria-label": `box, ${name} edge, percent of the film`,
      onchange: () => this.take(),
      onkeydown: (event) => {
        if (event.key === "Enter") this.take();
      },
    });
  }

  take() {
    const values = this.inputs.map((input) =>
      input.value === "" ? NaN : Number(input.value) / 100,
    );
    if (values.every(Number.isFinite)) this.ontype(values);
  }

  show(box) {
    this.inputs.forEach((input, k) => {
      const value = box ? String(Math.round(100 * box[k])) : "";
      if (input.value !== value) input.value = value;
    });
  }
}

// Regions, box, weight and what to find, as a panel that can be folded away. onfold(): it was folded or unfolded.
export class PlacesPanel {
  constructor(host, names, onfold) {
    Object.assign(this, { host, names, onfold });
    this.question = null; // what is asked: a row, a film or a sentence
    this.shown = null; // whose film is on the stage
    this.boxes = null; // of the regions, on that film
    this.picture = null;
    this.hint = null; // the region under the pointer
    this.turn = 0;
    this.stage = new DrawableFilm((box) => this.draw(box));
    this.told = h("p", { class: "note", role: "status" });
    this.ticks = names.map((name) => this.tick(name));
    this.makeChoices();
    this.build();
    host.leave(() => this.picture?.free());
  }

  // ---- building

  tick(name) {
    const node = toggle(name, false, (on) => {
      const chosen = this.picked();
      const isKept = (other) => (other === name ? on : chosen.includes(other));
      this.host.set("regions", this.names.filter(isKept));
    });
    const hints = { mouseenter: name, mouseleave: null, focusin: name, focusout: null };
    for (const [event, hint] of Object.entries(hints)) {
      node.addEventListener(event, () => {
        this.hint = hint;
        this.paint();
      });
    }
    return node;
  }

  makeChoices() {
    const { host } = this;
    const finds = [
      [null, "what fits the query"],
      ["reports", "reports"],
      ["films", "films"],
    ];
    const meant = [
      [null, "the region it overlaps best"],
      ...this.names.map((name) => [name, name]),
    ];
    const setter = (key) => (value) => host.set(key, value);
    this.weight = slider("Weight of the place (rho)", 0, 1, 0.05, this.rho(), setter("rho"));
    this.find = choice("Find", finds, host.get("find"), setter("find"));
    const chosen = host.get("stands_for");
    this.stands = choice("The box stands for", meant, chosen, setter("stands_for"));
  }

  build() {
    this.fields = new BoxFields((box) => this.type(box));
    const taker = { type: "button", onclick: () => this.away() };
    this.button = h("button", taker, "Take the box away");
    const edges = h("div", { class: "controls" }, this.fields.labels, this.button);
    const box = h("fieldset", {}, h("legend", {}, "Box on the film"), edges, this.stands);
    this.onFilm = h("div", {}, this.stage.node, this.told, box);
    this.head = h("summary");
    const ticks = h("div", { class: "controls" }, this.ticks);
    const ontoggle = () => {
      this.load();
      this.onfold();
    };
    this.node = h(
      "details",
      { class: "panel places", ontoggle },
      this.head,
      h("fieldset", {}, h("legend", {}, "Regions that count"), ticks),
      this.onFilm,
      h("div", { class: "controls" }, this.weight, this.find),
    );
    this.node.open = Boolean(this.picked().length || this.host.get("box"));
  }

  // ---- what is chosen

  picked() {
    return this.host.get("regions", []);
  }

  rho() {
    return this.host.get("rho", 0.5);
  }

  isAboutFilm() {
    if (!this.question) return false;
    return "film" in this.question || this.question.side === "film";
  }

  // The box, where the question is about a film.
  box() {
    return this.isAboutFilm() ? this.host.get("box") : null;
  }

  isActive() {
    return Boolean(this.picked().length || this.box() || this.host.get("find"));
  }

  // What is added to a question.
  asked() {
    return {
      regions: this.picked(),
      box: this.box(),
      stands_for: this.host.get("stands_for"),
      rho: this.rho(),
      find: this.host.get("find"),
    };
  }

  away() {
    this.host.set("box", null);
    this.host.set("stands_for", null);
  }

  draw(box) {
    if (box) this.host.set("box", rounded(box));
    else this.away();
  }

  type(box) {
    if (isBox(box)) this.host.set("box", rounded(box));
    else this.told.textContent = WRONG_BOX;
  }

  // ---- showing

  kindOf(name) {
    if (this.picked().includes(name)) return "chosen";
    return name === this.hint ? "truth" : null;
  }

  outlines() {
    if (!this.boxes) return [];
    const all = this.names.map((name, k) => ({ kind: this.kindOf(name), box: this.boxes.row(k) }));
    return all.filter(({ kind, box }) => kind && Number.isFinite(box[0]));
  }

  paint() {
    this.stage.update(this.host.get("box"), this.outlines());
  }

  // The controls show what the state says.
  follow() {
    const picked = this.picked();
    const drawn = this.host.get("box");
    this.ticks.forEach((tick, k) => {
      tick.querySelector("input").checked = picked.includes(this.names[k]);
    });
    this.fields.show(drawn);
    this.followWeight();
    this.find.pick(this.host.get("find"));
    this.stands.pick(this.host.get("stands_for"));
    this.stands.hidden = !drawn;
    this.button.hidden = !drawn;
    const parts = [...picked, ...(this.box() ? ["a box"] : [])];
    const what = parts.length ? `: ${parts.join(", ")}` : "";
    this.head.textContent = `Ask at a place${what}`;
    this.paint();
  }

  followWeight() {
    const bar = this.weight.querySelector("input");
    const rho = String(this.rho());
    if (bar.value === rho) return;
    bar.value = rho;
    this.weight.querySelector("output").textContent = rho;
  }

  // Fetch the film to draw on, once it is to be seen.
  async load() {
    const isFilm = this.isAboutFilm();
    this.onFilm.hidden = !isFilm;
    if (!isFilm || !this.node.open) return;
    const key = JSON.stringify([this.question.film, this.question.row]);
    if (key === this.shown) return;
    const mine = ++this.turn;
    this.shown = key;
    try {
      const got = await this.host.ask("stage", this.question);
      if (mine === this.turn) this.setStage(got);
      else got.picture.free();
    } catch (error) {
      if (mine !== this.turn) return;
      this.shown = null;
      this.told.textContent = error.message;
    }
  }

  setStage(got) {
    const isOwn = this.question.film !== undefined;
    this.picture?.free();
    this.picture = got.picture;
    this.boxes = got.boxes;
    this.stage.show(got.picture.url(0), isOwn ? "your film" : "the query's film");
    const whence = got.given ? "came with the film" : "were drawn by the model";
    this.told.textContent = `Drag on the film to draw a box. The regions' boxes ${whence}.`;
    this.paint();
  }

  // Show the panel for another question.
  about(question) {
    this.question = question;
    this.follow();
    this.load();
  }
}
