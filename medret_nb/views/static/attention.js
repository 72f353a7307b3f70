// Film and report side by side: point at a word to see where it looks, at a place to see which words it takes.
// data: items [{id, words, gaps, grid (W, h, w) or null, places (W, R) or null, boxes (R, 4), regions, truth
// [{name, box}]}], films, temperature. Texts, findings and all that is computed from them are private.

import { arrowStep, choice, slider, typed } from "./controls.js";
import { define } from "./core.js";
import { bars, h, note, overlay, put, rectangle, replace, section } from "./elements.js";
import { areaOf, Patches, Regions, softmax } from "./looks.js";

const MOST_BARS = 8; // bars in a list

function percent(value) {
  return `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`;
}

// The largest first.
function largest(rows) {
  return [...rows].sort((a, b) => b.value - a.value).slice(0, MOST_BARS);
}

// A film, the heat over it, and outlines of boxes.
class HeatFilm {
  constructor() {
    this.film = h("img", { class: "film" });
    this.heat = h("canvas", { "aria-hidden": "true" });
    this.lines = overlay();
    const attributes = {
      class: "film-stage",
      tabindex: 0,
      "data-lm-suppress-shortcuts": "true",
      role: "application",
      "aria-label":
        "film; the arrow keys move over its places, the words that take each place are shaded",
    };
    this.node = h("div", attributes, this.film, this.heat, this.lines);
  }

  show(address, alt) {
    if (address) this.film.src = address;
    else this.film.removeAttribute("src");
    this.node.classList.toggle("bare", !address);
    this.film.hidden = !address;
    this.film.alt = alt;
  }

  // The weight of each place as heat; null: none.
  paint(places, weights) {
    const [rows, columns] = places.size;
    const pen = this.heat.getContext("2d");
    this.heat.width = columns;
    this.heat.height = rows;
    pen.clearRect(0, 0, columns, rows);
    if (!weights) return;
    const high = Math.max(...weights, 1e-9);
    weights.forEach((weight, i) => {
      pen.fillStyle = `rgba(255, 140, 0, ${(0.75 * weight) / high})`;
      places.fill(pen, i);
    });
  }

  // Boxes of what is known to be there, and of the chosen place.
  outline(truth, chosen) {
    const known = truth.map(({ box }) => rectangle(box, "truth"));
    this.lines.replaceChildren(...known, ...(chosen ? [rectangle(chosen, "chosen")] : []));
  }

  // Where an event lies, in fractions of the film.
  at(event) {
    const place = this.node.getBoundingClientRect();
    const x = (event.clientX - place.left) / place.width;
    const y = (event.clientY - place.top) / place.height;
    return [x, y];
  }
}

class AttentionView {
  constructor(root, data, host) {
    Object.assign(this, { data, host });
    this.item = null;
    this.look = null; // {word} or {cell} or {region}, or null
    this.turn = 0;
    this.temperature = host.get("temperature", data.temperature);
    this.stage = new HeatFilm();
    this.text = h("p", { class: "words report", dir: "auto" });
    this.told = h("p", { class: "note", role: "status" });
    this.beside = h("div");
    this.regions = h("div", { class: "controls" });
    this.own = h("div");
    this.build(root);
    this.listen();
    this.take(data.items[host.get("chosen", 0)] ?? data.items[0]);
  }

  // ---- building

  build(root) {
    const { data, host } = this;
    this.makeSwitcher();
    this.makeTemperature();
    const films = data.items.map((item, i) => [i, item.id]);
    const film = choice("Film", films, host.get("chosen", 0), (i) => this.chooseFilm(i));
    const say = (words) => this.say(words);
    const sentence = () =>
      typed("A sentence on this film", "Large right pleural effusion.", say, "Look");
    put(
      root,
      h("div", { class: "controls" }, film, this.switcher, this.slider),
      host.can("say") ? h("div", { class: "controls" }, sentence()) : null,
      h(
        "div",
        { class: "columns even" },
        h("div", {}, this.stage.node, this.regions, this.own),
        h("div", {}, this.text, this.told, this.beside),
      ),
    );
  }

  makeSwitcher() {
    const kinds = [
      ["grid", "patches"],
      ["regions", "regions"],
    ];
    this.switcher = choice("Look by", kinds, this.host.get("how", "grid"), (kind) => {
      this.host.set("how", kind);
      this.look = null;
      this.show();
    });
  }

  makeTemperature() {
    const exponent = Math.log10(this.temperature);
    this.slider = slider("Temperature", -3, 1, 0.1, exponent, (value) => {
      this.temperature = 10 ** value;
      this.tellTemperature();
      this.host.set("temperature", this.temperature);
      this.show();
    });
    this.tellTemperature();
  }

  tellTemperature() {
    this.slider.querySelector("output").textContent = this.temperature.toPrecision(2);
  }

  listen() {
    const on = (name, call) => this.stage.node.addEventListener(name, call);
    on("mousemove", (event) => this.pointAt(event, false));
    on("click", (event) => this.pointAt(event, true));
    on("mouseleave", () => this.release());
    on("keydown", (event) => this.onkey(event));
    this.host.on("chosen", (i) => this.onchosen(i));
    this.host.on("look", (look) => {
      this.look = look;
      this.show();
    });
  }

  // ---- which film and which text

  chooseFilm(i) {
    this.host.set("chosen", i);
    this.take(this.data.items[i]);
  }

  onchosen(i) {
    const next = this.data.items[i];
    if (next && next !== (this.item.own ?? this.item)) this.take(next);
  }

  // Show another film, or another text on the same film.
  take(item) {
    const { films } = this.data;
    this.item = item;
    this.look = null;
    this.patches = item.grid ? new Patches(item.grid) : null;
    this.areas = new Regions(item);
    this.host.set("look", null);
    const address = films && item.film !== null && films.url(item.film);
    this.stage.show(address, `radiograph of ${item.id}`);
    this.fillWords();
    this.fillRegions();
    this.switcher.hidden = !(item.grid && item.places);
    this.tellOwn();
    this.show();
  }

  // A word or a region: pointing at it shows it, a click keeps it.
  pointer(kind, look, words) {
    const point = () => this.point(look);
    const attributes = {
      type: "button",
      class: kind,
      onmouseenter: point,
      onmouseleave: () => this.release(),
      onfocus: point,
      onclick: () => this.point(look, true),
    };
    return h("button", attributes, words);
  }

  fillWords() {
    const { words, gaps } = this.item;
    this.text.replaceChildren();
    words.forEach((word, i) => {
      this.text.append(gaps[i], this.pointer("word", { word: i }, word));
    });
    this.text.append(gaps[words.length] ?? "");
  }

  fillRegions() {
    const usable = this.areas.usable();
    const buttons = usable.map((region) =>
      this.pointer("region", { region }, this.item.regions[region]),
    );
    this.regions.replaceChildren(...buttons);
    this.regions.hidden = !usable.length;
  }

  tellOwn() {
    const { own, truth } = this.item;
    const back = () =>
      h("button", { type: "button", onclick: () => this.take(own) }, "Back to its own report");
    const names = truth.map(({ name }) => name).join(", ");
    const known = () => h("p", { class: "told" }, `known to be there (dashed): ${names}`);
    replace(this.own, own ? back() : null, truth.length ? known() : null);
  }

  // A sentence of one's own, on the film that is shown.
  async say(words) {
    if (!words.trim()) return;
    const mine = ++this.turn;
    const here = this.item.own ?? this.item;
    this.told.textContent = "Reading …";
    try {
      const asked = { item: this.data.items.indexOf(here), text: words };
      const got = await this.host.ask("say", asked);
      if (mine === this.turn) this.take({ ...here, ...got.read, own: here });
    } catch (error) {
      if (mine === this.turn) this.told.textContent = error.message;
    }
  }

  // ---- where one points

  get places() {
    const byPatches = this.patches && (this.host.get("how") !== "regions" || !this.item.places);
    return byPatches ? this.patches : this.areas;
  }

  point(look, keep = false) {
    if (keep) this.host.set("look", look);
    this.look = look ?? this.host.get("look");
    this.show();
  }

  release() {
    this.point(null);
  }

  pointAt(event, keep) {
    if (this.item.words.length) this.point(this.places.at(...this.stage.at(event)), keep);
  }

  onkey(event) {
    const step = arrowStep(event);
    if (!step || !this.item.words.length) return;
    event.preventDefault();
    this.point(this.places.step(this.look, step), true);
  }

  // ---- what is shown

  show() {
    const { look, item } = this;
    this.stage.outline(item.truth, this.chosenBox());
    if (!item.words.length) {
      this.tellNothing("This report has no words.");
    } else if (!look) {
      this.shade(null);
      this.tellNothing("Point at a word, or at a place of the film. A click keeps it.");
    } else if (look.word !== undefined) {
      this.showWord(look.word);
    } else {
      this.showPlace(look.region === undefined ? this.patches : this.areas);
    }
  }

  chosenBox() {
    const { look } = this;
    if (look?.region !== undefined) return this.areas.outline(look);
    return look?.cell !== undefined ? this.patches.outline(look) : null;
  }

  tellNothing(told) {
    this.stage.paint(this.places, null);
    this.told.textContent = told;
    this.beside.replaceChildren();
  }

  // Shade each word by its weight; null: none.
  shade(weights) {
    const high = weights ? Math.max(...weights, 1e-9) : 1;
    const shadeOf = (i) => {
      const share = Math.round((70 * weights[i]) / high);
      return `color-mix(in srgb, var(--c1) ${share}%, transparent)`;
    };
    this.text.querySelectorAll(".word").forEach((button, i) => {
      button.style.background = weights ? shadeOf(i) : "";
      button.setAttribute("aria-pressed", String(Boolean(this.look) && this.look.word === i));
    });
  }

  showWord(word) {
    const { places } = this;
    const weights = softmax(places.scores(word), this.temperature);
    this.stage.paint(places, weights);
    this.shade(null);
    const even = 1 / weights.filter((weight) => weight > 0).length;
    const best = `strongest ${places.noun} ${percent(Math.max(...weights))}`;
    const evenly = `spread evenly each would have ${percent(even)}`;
    this.told.textContent = `“${this.item.words[word]}” gives its ${best}; ${evenly}.`;
    replace(this.beside, this.insideTruth(weights), this.strongest(weights));
  }

  insideTruth(weights) {
    const { truth } = this.item;
    if (!truth.length) return note("Nothing is known to be on this film.");
    const rows = truth.map(({ name, box }) => {
      const value = this.places.inside(weights, box);
      const told = `${percent(value)} (box: ${percent(areaOf(box))} of the film)`;
      return { name, value, colour: 1, told };
    });
    return section(
      "Share of this word's attention inside the true box",
      bars(rows, { top: 1 }),
      note("Spread evenly, as much would be inside as the box covers of the film."),
    );
  }

  // The regions that a word looks at most, where it looks by regions.
  strongest(weights) {
    if (this.places !== this.areas || !this.item.places) return null;
    const rows = this.item.regions.map((name, i) => {
      const value = weights[i];
      return { name, value, told: percent(value) };
    });
    const seen = largest(rows.filter(({ value }) => value > 0));
    return seen.length ? section("Regions it looks at", bars(seen)) : null;
  }

  // The words that a place takes; chosen: the patches or the regions that it belongs to.
  showPlace(chosen) {
    const { look, item } = this;
    const weights = softmax(chosen.wordScores(look), this.temperature);
    this.stage.paint(this.places, null);
    this.shade(weights);
    const rows = weights.map((value, i) => ({ name: item.words[i], value, told: percent(value) }));
    const ranked = largest(rows);
    this.told.textContent = `${chosen.name(look)} takes “${ranked[0].name}” most.`;
    this.beside.replaceChildren(section(chosen.title(look), bars(ranked)));
  }
}

define("attention", (root, data, host) => new AttentionView(root, data, host));
