// Why queries failed: a table with filters; a click opens one failed query.
// data: ids, relations, meanings, weights, blames, circumstances (names); rows {way, study, other, rank, score,
// relation, text, truth, weight, blame, facts (bits), top (F, k), scores, hits}; second {name, rank, top, scores,
// hits} or null; hubs [{way, study, count, expected}]; hubnote, score; whatif {row: [{name, cost, rank, first}]};
// differences, texts, films (private)

import { choice, typed } from "./controls.js";
import { define } from "./core.js";
import { bars, h, note, put, section } from "./elements.js";
import { FailurePanel } from "./failure.js";
import { number, range, sum } from "./numbers.js";
import { BOTH_SIDES, Studies } from "./studies.js";
import { Table } from "./table.js";

const TITLE = "How the first answer is wrong";

// The failed queries, row by row, in words.
class FailedQueries {
  constructor(data) {
    Object.assign(this, { data, rows: data.rows, studies: new Studies(data) });
    this.count = data.rows.rank.length;
    this.hasTruth = data.blames.length > 0;
  }

  side(row) {
    return BOTH_SIDES[this.rows.way[row]];
  }

  query(row) {
    return this.studies.id(this.rows.study[row]);
  }

  relation(row) {
    return this.data.relations[this.rows.relation[row]];
  }

  weight(row) {
    return this.data.weights[this.rows.weight[row]];
  }

  blame(row) {
    return this.data.blames[this.rows.blame[row]];
  }

  has(row, circumstance) {
    return Boolean((this.rows.facts[row] >> circumstance) & 1);
  }

  circumstances(row) {
    return this.data.circumstances.filter((_, bit) => this.has(row, bit)).join(", ");
  }

  // Whether the studies or their differences hold some words in small letters.
  holds(row, words) {
    const { differences } = this.data;
    const texts = [this.rows.study[row], this.rows.other[row]].map((i) => this.studies.text(i));
    const told = differences ? differences[row] : "";
    return [this.query(row), told, ...texts].join(" ").toLowerCase().includes(words);
  }
}

class FailuresView {
  constructor(root, data, host) {
    Object.assign(this, { data, host });
    this.queries = new FailedQueries(data);
    this.wanted = { way: "all", relation: "all", circumstance: "all", weight: "all", blame: "all" };
    this.hub = null;
    this.words = "";
    this.counts = h("div", { class: "counts" });
    this.panel = new FailurePanel(this.queries, host);
    this.list = this.makeList();
    const hubs = data.hubs.length ? this.popular() : null;
    put(
      root,
      this.pickers(),
      h(
        "div",
        { class: "linked" },
        h("div", { class: "first" }, this.counts, this.list.node),
        this.panel.node,
        h("div", { class: "last" }, hubs),
      ),
    );
    host.on("chosen", () => this.show());
    this.sift();
    this.show();
  }

  // ---- the table

  columns() {
    const { queries, data } = this;
    const { rank } = queries.rows;
    return [
      { name: "query", get: (row) => queries.query(row) },
      { name: "asked with", get: (row) => queries.side(row).asked },
      { name: "relation of the first answer", get: (row) => queries.relation(row) },
      { name: "weight", get: (row) => queries.weight(row) },
      { name: "rank", get: (row) => rank[row], digits: 0 },
      ...this.moreColumns(data.second, data.whatif),
      { name: "circumstances", extra: true, get: (row) => queries.circumstances(row) },
    ];
  }

  moreColumns(second, whatif) {
    const { queries } = this;
    const ofSecond = () => ({
      name: `rank, ${second.name}`,
      get: (row) => second.rank[row],
      digits: 0,
    });
    const fault = { name: "whose fault", extra: true, get: (row) => queries.blame(row) };
    const changed = { name: "what if", get: (row) => (whatif[row] ? "yes" : "") };
    const columns = [];
    if (second) columns.push(ofSecond());
    if (queries.hasTruth) columns.push(fault);
    if (whatif) columns.push(changed);
    return columns;
  }

  makeList() {
    return new Table({
      count: this.queries.count,
      caption:
        "Failed queries: the first answer is not relevant. Rank: where the first relevant one stands.",
      onpick: (row) => this.host.set("chosen", row),
      columns: this.columns(),
    });
  }

  // ---- filters

  // One filter; names: of what can be chosen, each standing for its number.
  picker(label, key, names) {
    const options = [["all", "all"], ...names.map((name, i) => [i, name])];
    return choice(label, options, this.wanted[key], (value) => {
      this.wanted[key] = value;
      this.sift();
    });
  }

  pickers() {
    const { data } = this;
    const sift = (words) => {
      this.words = words.trim().toLowerCase();
      this.sift();
    };
    const hint = data.texts ? "a study, a finding, a word" : "a study";
    const directions = BOTH_SIDES.map(({ told }) => told);
    return h(
      "div",
      { class: "controls" },
      this.picker("Asked with", "way", directions),
      this.picker("Relation", "relation", data.relations),
      this.picker("Circumstance", "circumstance", data.circumstances),
      this.picker("Weight", "weight", data.weights),
      this.queries.hasTruth ? this.picker("Whose fault", "blame", data.blames) : null,
      typed("Filter", hint, sift, null, true),
    );
  }

  isWanted(row, key) {
    const { wanted, queries } = this;
    if (wanted[key] === "all") return true;
    if (key === "circumstance") return queries.has(row, wanted.circumstance);
    return queries.rows[key][row] === wanted[key];
  }

  isOfHub(row) {
    const { way, other } = this.queries.rows;
    return !this.hub || (way[row] === this.hub.way && other[row] === this.hub.study);
  }

  // Whether all filters but one let a row through.
  isKept(row, but = null) {
    const keys = Object.keys(this.wanted).filter((key) => key !== but);
    if (!keys.every((key) => this.isWanted(row, key)) || !this.isOfHub(row)) return false;
    return !this.words || this.queries.holds(row, this.words);
  }

  sift() {
    const all = range(this.queries.count);
    this.list.show(all.filter((row) => this.isKept(row)));
    this.tellCounts(all.filter((row) => this.isKept(row, "relation")));
  }

  // How many of these rows have each relation.
  tellCounts(rows) {
    const { relation } = this.queries.rows;
    const { wanted } = this;
    const tally = this.data.relations.map((name, i) => {
      const value = rows.filter((row) => relation[row] === i).length;
      const isLit = wanted.relation === i || wanted.relation === "all";
      return { name, value, colour: isLit ? 0 : 8 };
    });
    const total = sum(tally.map(({ value }) => value));
    const share = (value) => Math.round((100 * value) / Math.max(1, total));
    const told = tally
      .filter(({ value }) => value)
      .map((one) => ({ ...one, told: `${one.value} (${share(one.value)} %)` }));
    const none = total ? null : note("No failed query is left by these filters.");
    this.counts.replaceChildren(section(TITLE, bars(told), none));
  }

  // ---- candidates that stand in many answers

  chip(hub) {
    const { studies } = this.queries;
    const onclick = () => {
      const isAgain = this.hub && this.hub.study === hub.study && this.hub.way === hub.way;
      this.hub = isAgain ? null : hub;
      this.sift();
    };
    const name = `${BOTH_SIDES[hub.way].found} of ${studies.id(hub.study)}`;
    const told = ` in ${hub.count} lists (${number(hub.expected, 0)} expected)`;
    return h("li", {}, h("button", { type: "button", class: "link", onclick }, name), told);
  }

  popular() {
    const chips = this.data.hubs.map((hub) => this.chip(hub));
    return section("Hubs", note(this.data.hubnote), h("ul", { class: "plain" }, chips));
  }

  show() {
    const row = this.host.get("chosen");
    const isThere = row !== null && row >= 0 && row < this.queries.count;
    if (isThere) this.list.choose(row);
    this.panel.show(isThere ? row : null);
  }
}

define("failures", (root, data, host) => new FailuresView(root, data, host));
