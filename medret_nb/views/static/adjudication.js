// Blind judging: a query on the left, one candidate on the right, answers by key, each kept by Python at once.
// data: reader, names (of the answers), byfilm (whether films ask), query, candidate (numbers of what is shown, by
// pair), order (the pairs as this reader gets them), answers (by pair, -1 for none); texts, films (private)

import { swallow } from "./controls.js";
import { define } from "./core.js";
import { h, note, put, replace, report } from "./elements.js";

const KEYS =
  "Keys: 1 relevant, 2 partly, 3 not, U takes the last answer back, the left and right arrows move.";
const NO_KERNEL = "Judging needs a running kernel: this page only shows the pairs.";

class Judging {
  constructor(root, data, host) {
    Object.assign(this, { data, host });
    this.order = Array.from(data.order);
    this.answers = Array.from(data.answers);
    this.waiting = 0; // answers that are not on the disk yet
    this.trouble = "";
    this.turns = this.turnsOfQueries();
    this.build();
    put(root, this.node);
    host.on("at", () => this.show());
    this.show();
    this.read();
  }

  // The place of each query in the order in which this reader meets them.
  turnsOfQueries() {
    const met = [...new Set(this.order.map((pair) => this.data.query[pair]))];
    return new Map(met.map((query, turn) => [query, turn + 1]));
  }

  // ---- the page

  button(label, onclick, more = {}) {
    return h("button", { type: "button", onclick, ...more }, label);
  }

  build() {
    const { names } = this.data;
    this.marks = names.map((name, i) => this.button(`${i + 1} ${name}`, () => this.judge(i)));
    this.left = h("div", { class: "asked" });
    this.right = h("div", { class: "found" });
    this.bar = h("progress", { max: this.order.length, "aria-label": "pairs judged" });
    this.told = h("p", { class: "where", role: "status" });
    const moves = [
      this.button("U undo", () => this.undo()),
      this.button("← back", () => this.move(-1)),
      this.button("next →", () => this.move(1)),
      this.button("next without an answer", () => this.go(this.nextOpen(this.at))),
    ];
    const attributes = {
      class: "judging",
      tabindex: 0,
      role: "group",
      "data-lm-suppress-shortcuts": "true",
      "aria-label": `Pairs to be judged. ${KEYS}`,
      onkeydown: (event) => this.onkey(event),
    };
    this.node = h(
      "div",
      attributes,
      h("div", { class: "columns even" }, this.left, this.right),
      h("div", { class: "controls" }, this.marks, moves),
      h("div", { class: "controls" }, this.bar, this.told),
      note(this.host.can("judge") ? KEYS : NO_KERNEL),
    );
  }

  onkey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const answer = Number(event.key) - 1;
    const acts = {
      u: () => this.undo(),
      ArrowLeft: () => this.move(-1),
      ArrowRight: () => this.move(1),
    };
    const isAnswer = event.key.length === 1 && answer >= 0 && answer < this.data.names.length;
    const act = isAnswer
      ? () => this.judge(answer)
      : (acts[event.key] ?? acts[event.key.toLowerCase()]);
    if (!act) return;
    swallow(event);
    if (!event.repeat || !isAnswer) act(); // a key that is held down is one answer
  }

  // ---- where we are

  get at() {
    const at = this.host.get("at");
    return Number.isInteger(at) && at >= 0 && at < this.order.length ? at : this.firstOpen();
  }

  get pair() {
    return this.order[this.at];
  }

  isOpen(place) {
    return this.answers[this.order[place]] < 0;
  }

  firstOpen() {
    const place = this.order.findIndex((_, i) => this.isOpen(i));
    return Math.max(0, place);
  }

  // The next place after `at` without an answer, after the end from the beginning on; `at` itself if there is none.
  nextOpen(at) {
    const { order } = this;
    for (let step = 1; step < order.length; step++) {
      const place = (at + step) % order.length;
      if (this.isOpen(place)) return place;
    }
    return at;
  }

  go(place) {
    this.host.set("at", place);
    this.show();
  }

  move(step) {
    this.go(Math.min(this.order.length - 1, Math.max(0, this.at + step)));
  }

  // ---- answers, which Python keeps

  // Only the last answer on its way knows of all the others.
  async send(kind, fields = {}) {
    this.waiting++;
    this.tell();
    let got = null;
    try {
      got = await this.host.ask(kind, fields);
      this.trouble = "";
    } catch (error) {
      this.trouble = error.message;
    }
    this.waiting--;
    if (got && !this.waiting) this.answers = Array.from(got.answers);
    this.show();
    return got;
  }

  async read() {
    if (this.host.can("read")) await this.send("read");
  }

  async judge(answer) {
    if (!this.host.can("judge")) return;
    const { at, pair } = this; // as they are before the answer
    this.answers[pair] = answer;
    this.go(this.nextOpen(at));
    const kept = await this.send("judge", { pair, answer });
    if (kept) return;
    const { trouble } = this;
    await this.read(); // what is on the disk counts
    this.trouble = `Not kept: ${trouble}`;
    this.show();
  }

  async undo() {
    if (!this.host.can("undo")) return;
    const got = await this.send("undo");
    if (got && got.pair !== null) this.go(this.order.indexOf(got.pair));
  }

  // ---- what is shown

  half(isFilm, number, title, alt) {
    const { films, texts } = this.data;
    if (!isFilm) return [h("h3", {}, title), texts ? report(texts[number]) : note("no text here")];
    const address = films?.url(number);
    const film = address ? h("img", { class: "film", src: address, alt }) : note("no film here");
    return [h("h3", {}, title), film];
  }

  show() {
    const { data, pair, at, order } = this;
    const turn = `${this.turns.get(data.query[pair])} of ${this.turns.size}`;
    const asked = data.byfilm ? `Film ${turn}` : `Report ${turn}`;
    const found = `${data.byfilm ? "Report" : "Film"}: does it fit? (pair ${at + 1} of ${order.length})`;
    replace(this.left, this.half(data.byfilm, data.query[pair], asked, "radiograph that asks"));
    replace(this.right, this.half(!data.byfilm, data.candidate[pair], found, "radiograph found"));
    for (const [i, mark] of this.marks.entries()) {
      mark.setAttribute("aria-pressed", String(this.answers[pair] === i));
      mark.disabled = !this.host.can("judge");
    }
    this.tell();
  }

  tell() {
    const done = this.answers.filter((answer) => answer >= 0).length;
    const total = this.order.length;
    this.bar.value = done;
    const left = this.waiting ? `, ${this.waiting} being saved …` : "";
    const all = done === total ? " All pairs are judged." : "";
    const words = `${this.data.reader}: ${done} of ${total} judged${left}.${all} ${this.trouble}`;
    this.told.textContent = words.trim();
  }
}

define("adjudication", (root, data, host) => new Judging(root, data, host));
