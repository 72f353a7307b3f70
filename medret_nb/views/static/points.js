// The simplest view: a map of points, a filter, and the card of the chosen one.
// data: x, y; colour, names (optional); titles, texts, films (optional)

import { typed } from "./controls.js";
import { define } from "./core.js";
import { card, h, note } from "./elements.js";
import { Scatter } from "./scatter.js";

class PointsView {
  constructor(root, data, host) {
    Object.assign(this, { data, host });
    this.count = data.x.length;
    this.side = h("div", { class: "cards", "aria-live": "polite" });
    this.map = this.makeMap();
    const sift = (words) => this.sift(words);
    const filter = typed("Filter", "a word of the title or text", sift, null, true);
    root.append(
      h("div", { class: "controls" }, filter),
      h("div", { class: "columns" }, this.map.node, this.side),
    );
    host.on("chosen", (i) => this.show(i));
    host.leave(() => this.map.free());
    this.show(host.get("chosen"));
  }

  makeMap() {
    const { x, y, colour, names, others } = this.data;
    const alt = `Map of ${this.count.toLocaleString("en")} points`;
    const label = (i) => this.title(i);
    const onpick = (i) => this.host.set("chosen", i);
    return new Scatter({ x, y, colour, names: names ?? [], others, alt, label, onpick });
  }

  title(i) {
    return this.data.titles ? this.data.titles[i] : `item ${i}`;
  }

  text(i) {
    return this.data.texts ? this.data.texts[i] : "";
  }

  label(i) {
    const { names, colour, others } = this.data;
    if (!names || !colour) return "";
    return names[colour[i]] ?? others ?? "";
  }

  show(i) {
    if (i === null || !(i >= 0 && i < this.count)) {
      this.side.replaceChildren(note("Choose a point."));
      return this.map.mark([]);
    }
    const images = this.data.films;
    const shown = { title: this.title(i), images, film: i, text: this.text(i) };
    this.side.replaceChildren(card({ ...shown, told: this.label(i) }));
    this.map.mark([{ i, big: true }]);
  }

  sift(words) {
    const wanted = words.trim().toLowerCase();
    if (!wanted) return this.map.update({ shown: null });
    const holds = (i) => `${this.title(i)} ${this.text(i)}`.toLowerCase().includes(wanted);
    const shown = Uint8Array.from({ length: this.count }, (_, i) => (holds(i) ? 1 : 0));
    this.map.update({ shown });
  }
}

define("points", (root, data, host) => new PointsView(root, data, host));
