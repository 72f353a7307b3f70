// Films and reports on a map with the prototypes of one level on it; what each prototype gathers; pairs that it
// divides.
// data: count, ids, x, y, told; levels [{name, size, counts (K, 2), state (K texts), dead (K), px, py (K), film,
// report (N) the prototype of each, films, reports (K, m) the nearest, film_scores, report_scores (K, m), divided
// rows, width, both}]; texts, films, findings, sentences, gathers (private; by level)

import { choice } from "./controls.js";
import { define } from "./core.js";
import { bars, cards, h, note, put, replace, section } from "./elements.js";
import { number, range } from "./numbers.js";
import { Scatter } from "./scatter.js";
import { Studies } from "./studies.js";
import { Table } from "./table.js";

const PAINTS = [
  ["prototype", "nearest prototype"],
  ["kind", "film or report"],
  ["divided", "divided pairs"],
];

function nameOf(k) {
  return `P${k + 1}`;
}

// The seven most used prototypes of a level, by number; of equals the earlier.
function mostUsed(level) {
  const used = (k) => level.counts.row(k)[0] + level.counts.row(k)[1];
  const order = range(level.size).sort((a, b) => used(b) - used(a) || a - b);
  return order.slice(0, 7).sort((a, b) => a - b);
}

class PrototypesView {
  constructor(root, data, host) {
    Object.assign(this, { data, host, count: data.count, studies: new Studies(data) });
    this.panel = h("div", { class: "second", "aria-live": "polite" });
    this.lists = h("div", {});
    this.told = h("p", { class: "note" });
    this.pairs = h("div", { "aria-live": "polite" });
    this.plane = this.makePlane();
    this.build(root);
    host.on("level", () => this.turn());
    host.on("prototype", () => this.show());
    host.on("paint", () => this.plane.update(this.painted()));
    host.on("study", (i) => this.level.divided.includes(i) && this.showPair(i));
    host.leave(() => this.plane.free());
    this.turn();
  }

  // ---- building

  build(root) {
    const { data, host } = this;
    const paint = host.get("paint", "prototype");
    const setPaint = (value) => host.set("paint", value);
    const levels = data.levels.length > 1 ? this.makeLevels() : null;
    put(
      root,
      h("div", { class: "controls" }, levels, choice("Colour", PAINTS, paint, setPaint)),
      h(
        "div",
        { class: "linked" },
        h("div", { class: "first" }, this.plane.node, this.told),
        this.panel,
        h("div", { class: "last" }, this.lists),
      ),
    );
  }

  makeLevels() {
    const options = this.data.levels.map(({ name, size }, i) => [i, `${name} (${size})`]);
    return choice("Level", options, this.at, (value) => {
      this.host.set("prototype", 0);
      this.host.set("level", value);
    });
  }

  makePlane() {
    const { data, count, host } = this;
    return new Scatter({
      x: data.x,
      y: data.y,
      shape: this.ofPoints((p) => (p < count ? 0 : 1)),
      shapes: ["film", "report"],
      alt: `Map of ${count} films and their reports with prototypes`,
      label: (p) => this.label(p),
      onpick: (p) => {
        host.set("prototype", this.prototypeOf(p));
        host.set("study", p % count);
      },
      onflag: (flag) => host.set("prototype", flag.k),
    });
  }

  // ---- the level that is shown

  // Its number.
  get at() {
    return Math.min(this.host.get("level", 0), this.data.levels.length - 1);
  }

  get level() {
    return this.data.levels[this.at];
  }

  // What each of its prototypes gathers, or null.
  get gathers() {
    return this.data.gathers ? this.data.gathers[this.at] : null;
  }

  // Points are the films, then the reports.
  ofPoints(call) {
    return Uint8Array.from({ length: 2 * this.count }, (_, p) => call(p));
  }

  prototypeOf(p) {
    return p < this.count ? this.level.film[p] : this.level.report[p - this.count];
  }

  label(p) {
    const kind = p < this.count ? "film" : "report";
    const id = this.studies.id(p % this.count);
    return `${kind} of ${id}: nearest to ${nameOf(this.prototypeOf(p))}`;
  }

  // ---- the map

  painted() {
    const paint = this.host.get("paint", "prototype");
    if (paint === "kind") return this.paintedByKind();
    return paint === "divided" ? this.paintedByPair() : this.paintedByPrototype();
  }

  paintedByKind() {
    const colour = this.ofPoints((p) => (p < this.count ? 0 : 1));
    return { colour, names: ["film", "report"], others: null };
  }

  paintedByPair() {
    const apart = new Set(this.level.divided);
    const colour = this.ofPoints((p) => (apart.has(p % this.count) ? 1 : 0));
    return { colour, names: ["both halves at one prototype", "halves divided"], others: null };
  }

  paintedByPrototype() {
    const order = mostUsed(this.level);
    const colour = this.ofPoints((p) => {
      const code = order.indexOf(this.prototypeOf(p));
      return code < 0 ? order.length : code;
    });
    const others = this.level.size > order.length ? "others" : null;
    return { colour, names: order.map(nameOf), others };
  }

  // A diamond for each prototype; chosen: the big one.
  flags(chosen) {
    const { size, px, py, dead } = this.level;
    return range(size).map((k) => {
      const place = { x: px[k], y: py[k] };
      return { ...place, text: nameOf(k), k, hollow: Boolean(dead[k]), big: k === chosen };
    });
  }

  // ---- the tables

  makePrototypes() {
    const { level, gathers } = this;
    const first = (k) => (gathers[k].length ? gathers[k][0].name : "–");
    const columns = [
      { name: "prototype", get: nameOf },
      { name: "films", get: (k) => level.counts.row(k)[0], digits: 0 },
      { name: "reports", get: (k) => level.counts.row(k)[1], digits: 0 },
      { name: "state", get: (k) => level.state[k] || "in use" },
    ];
    if (gathers) columns.push({ name: "finding it gathers", extra: true, get: first });
    const how = "A study's film and report are each counted at the prototype nearest to them.";
    return new Table({
      count: level.size,
      caption: `Prototypes of level ${level.name}. ${how}`,
      onpick: (k) => this.host.set("prototype", k),
      columns,
    });
  }

  makeDivided() {
    const { level, count, studies } = this;
    const { divided } = level;
    const how = "film and report lie nearest to different prototypes. Widest first.";
    const onpick = (row) => {
      this.host.set("study", divided[row]);
      this.showPair(divided[row]);
    };
    return new Table({
      count: divided.length,
      size: 8,
      caption: `${divided.length} of ${count} pairs are divided: ${how}`,
      onpick,
      columns: [
        { name: "study", get: (row) => studies.id(divided[row]) },
        { name: "its film", get: (row) => nameOf(level.film[divided[row]]) },
        { name: "its report", get: (row) => nameOf(level.report[divided[row]]) },
        { name: "how far", get: (row) => level.width[row], digits: 3 },
      ],
    });
  }

  // Show another level.
  turn() {
    const { level, host } = this;
    this.pairs.replaceChildren();
    this.table = this.makePrototypes();
    const divided = level.divided.length ? this.makeDivided().node : note("No pair is divided.");
    this.lists.replaceChildren(
      section("Prototypes", this.table.node),
      section("Divided pairs", divided, this.pairs),
    );
    this.plane.update({ ...this.painted(), flags: this.flags(host.get("prototype")) });
    this.told.textContent = `${this.data.told} Diamonds: prototypes; hollow: dead. ${level.told}`;
    this.show();
  }

  // ---- one pair, one prototype

  showPair(i) {
    const { level, studies, count } = this;
    const id = studies.id(i);
    const named = studies.findings ? `named: ${studies.named(i, "none")}` : "";
    const film = { title: `film of ${id}: ${nameOf(level.film[i])}`, told: named };
    const report = { title: `its report: ${nameOf(level.report[i])}` };
    const halves = [studies.half(i, "film", film), studies.half(i, "report", report)];
    this.pairs.replaceChildren(cards(halves));
    this.plane.mark([
      { i, big: true, text: "film" },
      { i: i + count, big: true, text: "report" },
    ]);
  }

  show() {
    const { level, count } = this;
    const k = this.host.get("prototype", 0);
    if (!(k >= 0 && k < level.size)) {
      const told = "Choose a prototype: a diamond or a row.";
      return this.panel.replaceChildren(note(told));
    }
    this.table.choose(k);
    this.plane.update({ flags: this.flags(k) });
    const films = Array.from(level.films.row(k), (i) => ({ i }));
    const reports = Array.from(level.reports.row(k), (i) => ({ i: i + count }));
    this.plane.mark([...films, ...reports]);
    replace(
      this.panel,
      this.tellUse(k),
      this.gathers && this.tellFindings(this.gathers[k]),
      section("Nearest films", cards(this.nearestFilms(k), { small: true })),
      this.data.sentences && this.tellSentences(this.data.sentences[this.at][k]),
      section("Nearest reports", cards(this.nearestReports(k).slice(0, 4))),
    );
  }

  tellUse(k) {
    const { level } = this;
    const [films, reports] = level.counts.row(k);
    const wrong = level.state[k] ? h("p", { class: "stamp state" }, level.state[k]) : null;
    const rows = [
      { name: "films", value: films, colour: 0, told: `${films}` },
      { name: "reports", value: reports, colour: 1, told: `${reports}` },
    ];
    const halves = `Of ${films + reports} halves at ${nameOf(k)}`;
    return section(
      `${nameOf(k)} of level ${level.name}`,
      wrong,
      bars(rows, { top: Math.max(films, reports, 1) }),
      note(`${halves}, ${level.both[k]} come as whole pairs.`),
    );
  }

  tellFindings(findings) {
    const percent = (share) => Math.round(100 * share);
    const rows = findings.map(({ name, share, base }) => {
      const told = `${percent(share)} % here, ${percent(base)} % of all`;
      return { name, value: share, colour: 2, told };
    });
    const none = "No finding is more frequent here than elsewhere.";
    return section("Findings it gathers", rows.length ? bars(rows, { top: 1 }) : note(none));
  }

  tellSentences(sentences) {
    if (!sentences.length) return null;
    const line = ({ score, text }) => h("li", { dir: "auto" }, `${number(score, 2)}  ${text}`);
    const list = h("ul", { class: "sentences" }, sentences.map(line));
    return section("Nearest sentences", list);
  }

  nearestFilms(k) {
    const { level, studies } = this;
    const scores = level.film_scores.row(k);
    return Array.from(level.films.row(k), (i, r) => {
      const named = studies.findings ? `; ${studies.named(i, "none named")}` : "";
      const told = `${number(scores[r], 2)}${named}`;
      return studies.half(i, "film", { title: studies.id(i), told });
    });
  }

  nearestReports(k) {
    const { level, studies } = this;
    const scores = level.report_scores.row(k);
    return Array.from(level.reports.row(k), (i, r) => {
      const told = number(scores[r], 2);
      return studies.half(i, "report", { title: studies.id(i), told });
    });
  }
}

define("prototypes", (root, data, host) => new PrototypesView(root, data, host));
