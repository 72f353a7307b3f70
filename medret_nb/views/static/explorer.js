// The first screen for a run: a map of films and reports, a table, a query, and its answers; all linked by
// state.chosen.
// data: count; ids; relevance; score; maps [{name, told, x, y}] of 2 count points, films first; colours [{name,
// colour, names, others}]; directions {it, ti: {ranks, rows, positions, scores, hits}}; regions (names) and limit
// (bytes of a film), for questions to a kernel; texts, films, findings (private)

import { Answers } from "./answers.js";
import { ASKED, PlacesPanel } from "./asking.js";
import { choice, typed } from "./controls.js";
import { define } from "./core.js";
import { DraftPanel } from "./drafts.js";
import { card, h, note, put, section } from "./elements.js";
import { range } from "./numbers.js";
import { Scatter } from "./scatter.js";
import { SIDES, shortened, WAYS } from "./studies.js";
import { Table } from "./table.js";
import { upload } from "./upload.js";

const FILMS = "image/*,.png,.jpg,.jpeg,.jp2,.tif,.tiff,.bmp,.gif,.webp,.pgm";
const PAUSE = 150; // ms before a question is sent: a slider moves on

function pause(milliseconds) {
  return new Promise((done) => setTimeout(done, milliseconds));
}

function byName(list, name) {
  return list.find((entry) => entry.name === name) ?? list[0];
}

// Which row of what was computed beforehand belongs to a study.
function rowsByStudy({ rows }) {
  return new Map(Array.from(rows, (study, row) => [study, row]));
}

class ExplorerView {
  constructor(root, data, host) {
    Object.assign(this, { data, host, count: data.count });
    this.studies = new Answers(data, (i, way) => this.pick(i, way));
    const { it, ti } = data.directions;
    this.rowOf = { it: rowsByStudy(it), ti: rowsByStudy(ti) };
    this.map = this.mapShown();
    this.other = null; // a query that is not in the data: {fields, title, card, flag, places}
    this.turn = 0;
    this.reading = 0;
    this.told = h("p", { class: "note" });
    this.query = h("div", { "aria-live": "polite" });
    this.answer = h("div", { "aria-live": "polite" });
    this.status = h("p", { class: "note", role: "status" });
    this.panel = this.makePanel();
    this.drafts = this.makeDrafts();
    this.plane = this.makePlane();
    this.list = this.makeList();
    this.build(root);
    this.listen();
    this.draw();
  }

  // ---- building

  makePanel() {
    if (!this.host.can("stage")) return null;
    return new PlacesPanel(this.host, this.data.regions, () => this.tellQuery());
  }

  makeDrafts() {
    if (!this.host.can("draft")) return null;
    return new DraftPanel(this.host, this.studies, () => this.wholeQuestion());
  }

  makePlane() {
    const { count } = this;
    return new Scatter({
      ...this.map,
      shape: Uint8Array.from({ length: 2 * count }, (_, p) => (p < count ? 0 : 1)),
      shapes: ["film", "report"],
      label: (p) => this.studies.label(p),
      onpick: (p) => this.pick(p % count, p < count ? "it" : "ti"),
      onflag: () => {},
      alt: `Map of ${count.toLocaleString("en")} films and their reports`,
    });
  }

  columns() {
    const { studies } = this;
    const { texts, findings } = studies;
    const words = (i) => shortened(texts[i], 90);
    const columns = [
      { name: "study", get: (i) => studies.id(i) },
      { name: "rank of the report", get: (i) => this.rank(i, "it"), digits: 0 },
      { name: "rank of the film", get: (i) => this.rank(i, "ti"), digits: 0 },
    ];
    if (findings) columns.push({ name: "findings named", get: (i) => findings[i] });
    if (texts) columns.push({ name: "report", extra: true, get: words });
    return columns;
  }

  makeList() {
    const how = "Studies; a click asks with the film or report. Ranks: where the first hit stands.";
    return new Table({
      count: this.count,
      caption: `${how} A hit is ${this.data.relevance.it}.`,
      onpick: (i) => this.pick(i, this.way),
      columns: this.columns(),
    });
  }

  build(root) {
    const second = h(
      "div",
      { class: "second" },
      this.query,
      this.panel?.node,
      this.drafts?.node,
      this.answer,
    );
    put(
      root,
      this.controls(),
      this.host.can("sentence") ? this.sentenceControl() : null,
      this.host.can("film") ? this.filmControl() : null,
      this.status,
      h(
        "div",
        { class: "linked" },
        h("div", { class: "first" }, this.plane.node, this.told),
        second,
        h("div", { class: "last" }, this.list.node),
      ),
    );
  }

  controls() {
    const { data, host } = this;
    this.direction = choice("Ask with", WAYS, this.way, (way) => {
      this.leave();
      host.set("direction", way);
      this.show();
    });
    const setter = (key) => (value) => {
      host.set(key, value);
      this.draw();
    };
    const names = (list) => list.map(({ name }) => name);
    const hint = data.texts ? "a study, a finding, a word of the report" : "a study";
    const sift = (words) => this.sift(words);
    return h(
      "div",
      { class: "controls" },
      this.direction,
      choice("Map", names(data.maps), this.map.name, setter("map")),
      choice("Colour", names(data.colours), host.get("colour"), setter("colour")),
      typed("Filter", hint, sift, null, true),
    );
  }

  sentenceControl() {
    const say = (words) => this.say(words);
    const hint = "Large right pleural effusion.";
    const box = typed("Ask with a sentence", hint, say, "Search films");
    return h("div", { class: "controls" }, box);
  }

  filmControl() {
    const onchange = () => {
      if (chooser.files.length) this.bring(chooser.files[0]);
      chooser.value = "";
    };
    const chooser = h("input", { type: "file", accept: FILMS, onchange });
    const label = h("span", {}, "Ask with a film from the disk");
    return h("div", { class: "controls" }, h("label", { class: "control wide" }, label, chooser));
  }

  listen() {
    const { host } = this;
    host.on("chosen", () => {
      this.leave();
      this.show();
    });
    host.on("direction", () => this.show());
    host.on("map", () => this.draw());
    host.on("colour", () => this.draw());
    host.leave(() => this.plane.free());
    if (!this.panel) return;
    for (const key of ASKED) host.on(key, () => this.show());
  }

  // ---- what is chosen

  get way() {
    return this.host.get("direction", "it");
  }

  // The chosen study, or null.
  get chosen() {
    const i = this.host.get("chosen");
    return i !== null && i >= 0 && i < this.count ? i : null;
  }

  mapShown() {
    return byName(this.data.maps, this.host.get("map"));
  }

  // Where the first hit of a study's query stands, or null where that was not computed.
  rank(i, way) {
    const row = this.rowOf[way].get(i);
    return row === undefined ? null : this.data.directions[way].ranks[row];
  }

  // Ask with a study.
  pick(i, way) {
    this.leave();
    this.panel?.away();
    this.host.set("direction", way);
    this.host.set("chosen", i);
    this.show();
  }

  // Leave a query of one's own.
  leave() {
    this.other = null;
    this.reading++;
    this.status.textContent = "";
    this.flag();
  }

  // ---- the query

  // A film on which one can draw needs no second picture.
  tellQuery() {
    const bare = this.panel?.node.open ? { images: null } : {};
    if (this.other) {
      const shown = card({ ...this.other.card, ...bare });
      return this.query.replaceChildren(section(this.other.title, shown));
    }
    const i = this.chosen;
    if (i === null) return;
    const shown = card(this.studies.titled(i, SIDES[this.way].asked, bare));
    this.query.replaceChildren(section("Query", shown, this.studies.partner(i, this.way)));
  }

  // ---- the answers

  // What was computed beforehand, or searched for a study.
  tell(i, way, found) {
    const { rank } = found;
    const place = Number.isInteger(rank) ? rank : rank?.toFixed(1);
    const first = `First hit at rank ${place} of ${this.count.toLocaleString("en")}.`;
    const hit = `A hit is ${this.data.relevance[way]}.`;
    const told = note(rank === undefined ? hit : `${hit} ${first}`);
    const list = this.studies.listing(way, found);
    this.answer.replaceChildren(section(this.studies.title(way, found), told, list));
    this.plane.mark([...this.studies.marks(way, found), ...this.studies.ownMarks(i, way)]);
  }

  // What the kernel has searched.
  tellAsked(got) {
    const way = got.find === "reports" ? "it" : "ti";
    const i = this.other ? null : this.host.get("chosen");
    if (this.other) this.other.places = got.places;
    const own = this.way === "it" && way === "ti" ? i : null;
    const score = got.told ? "weighted cosine" : this.data.score;
    const shown = section(
      this.studies.title(way, got),
      got.drawn && note(`Your box stands for the ${got.drawn}.`),
      got.told && note(got.told),
      got.hits && note(`A hit is ${this.data.relevance[way]}.`),
      this.studies.listing(way, got, own, score),
    );
    this.answer.replaceChildren(shown);
    const marks = i === null ? [] : this.studies.ownMarks(i, this.way);
    this.plane.mark([...this.studies.marks(way, got), ...marks]);
    this.flag();
  }

  tellNone() {
    const told = "Choose a point of the map or a row of the table to ask with it.";
    this.query.replaceChildren();
    this.answer.replaceChildren(note(told));
    this.plane.mark([]);
  }

  // A page holds some answers only.
  tellLacking(i, way) {
    const held = this.rowOf[way].size.toLocaleString("en");
    const all = this.count.toLocaleString("en");
    const point = way === "it" ? i : i + this.count;
    this.plane.mark([{ i: point, big: true, text: "query" }]);
    const told = `This page holds the answers to ${held} of ${all} queries; this is none of them.`;
    this.answer.replaceChildren(note(told));
  }

  // ---- asking

  // What is asked: fields of a request, or null.
  question() {
    if (this.other) return this.other.fields;
    return this.chosen === null ? null : { row: this.chosen, side: SIDES[this.way].asked };
  }

  // The question with its places.
  wholeQuestion() {
    const asked = this.question();
    return asked && { ...asked, ...(this.panel ? this.panel.asked() : {}) };
  }

  ask(fields, more = {}) {
    const places = this.panel ? this.panel.asked() : {};
    return this.host.ask("ask", { ...fields, ...places, ...more });
  }

  // Show the query and its answers. ready: the answer, where it is there already.
  show(ready = null) {
    const mine = ++this.turn;
    const asked = this.question();
    this.direction.pick(this.way);
    if (this.panel) this.panel.about(asked);
    this.drafts?.about(asked);
    if (this.panel) this.panel.node.hidden = !asked;
    if (!this.other) this.list.choose(this.host.get("chosen"));
    if (!asked) return this.tellNone();
    this.tellQuery();
    this.answer.removeAttribute("aria-busy");
    if (ready) this.tellAsked(ready);
    else if (this.other || this.panel?.isActive()) this.askKernel(mine, asked);
    else this.answerStudy(mine, asked.row, this.way);
  }

  answerStudy(mine, i, way) {
    const known = this.data.directions[way];
    const row = this.rowOf[way].get(i);
    if (row !== undefined) {
      const [positions, scores, hits] = [known.positions, known.scores, known.hits];
      const found = { positions: positions.row(row), scores: scores.row(row), hits: hits.row(row) };
      return this.tell(i, way, { ...found, rank: known.ranks[row] });
    }
    if (!this.host.can("search")) return this.tellLacking(i, way);
    const search = () => this.host.ask("search", { direction: way, row: i });
    return this.wait(mine, search, (got) => this.tell(i, way, got));
  }

  async askKernel(mine, asked) {
    await pause(PAUSE);
    const search = () => this.ask(asked);
    await this.wait(mine, search, (got) => this.tellAsked(got));
  }

  // Wait for an answer; mine: the number of the question, for another one may have come.
  async wait(mine, search, tell) {
    if (mine !== this.turn) return;
    if (!this.answer.childElementCount) this.answer.replaceChildren(note("Searching …"));
    this.answer.setAttribute("aria-busy", "true");
    try {
      const got = await search();
      if (mine === this.turn) tell(got);
    } catch (error) {
      if (mine === this.turn) this.tellError(error);
    }
    if (mine === this.turn) this.answer.removeAttribute("aria-busy");
  }

  tellError(error) {
    this.answer.replaceChildren(note(error.message));
    this.plane.mark([]);
  }

  // ---- a query of one's own

  // What was there before stays until its answer has come. make(): the query.
  async present(told, make) {
    const mine = ++this.reading;
    this.status.textContent = told;
    try {
      const next = await make();
      if (mine !== this.reading) return;
      const got = await this.ask(next.fields, { box: null, stands_for: null });
      if (mine !== this.reading) return;
      this.status.textContent = "";
      this.other = next;
      this.panel?.away();
      this.show(got);
    } catch (error) {
      if (mine === this.reading) this.status.textContent = error.message;
    }
  }

  say(words) {
    if (!words.trim()) return;
    const shown = { title: "you asked", text: words };
    const fields = { text: words };
    const next = { fields, title: "Query: a sentence", flag: "your sentence", card: shown };
    this.present("Searching …", () => next);
  }

  bring(file) {
    this.present(`Reading ${file.name} …`, async () => {
      const got = await upload(this.host, file, this.data.limit);
      const told = `${got.told}; held in memory alone`;
      const shown = { title: got.name, images: got.picture, film: 0, told };
      const fields = { film: got.film };
      return { fields, title: "Query: a film from the disk", flag: "your film", card: shown };
    });
  }

  // ---- the map

  // A diamond where a query of one's own lies on this map.
  flag() {
    const at = this.other?.places?.[this.map.name];
    const flags = at ? [{ x: at[0], y: at[1], text: this.other.flag, big: true }] : [];
    this.plane.update({ flags });
  }

  draw() {
    this.map = this.mapShown();
    const { colour, names, others } = byName(this.data.colours, this.host.get("colour"));
    this.plane.update({ x: this.map.x, y: this.map.y, colour, names, others });
    this.flag();
    this.told.textContent = `${this.map.name}: ${this.map.told}.`;
    this.show();
  }

  sift(words) {
    const wanted = words.trim().toLowerCase();
    const all = range(this.count);
    const kept = wanted ? all.filter((i) => this.studies.holds(i, wanted)) : all;
    const shown = wanted ? new Uint8Array(2 * this.count) : null;
    for (const i of wanted ? kept : []) {
      shown[i] = 1;
      shown[i + this.count] = 1;
    }
    this.list.show(kept);
    this.plane.update({ shown });
  }
}

define("explorer", (root, data, host) => new ExplorerView(root, data, host));
