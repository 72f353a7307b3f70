// One failed query: what went wrong, query and truth beside the first answer, what one changed fact would have done,
// a note of one's own, and the first answers with the words in which reports differ.

import { h, headRow, note, put, replace, section } from "./elements.js";
import { number, rankText } from "./numbers.js";
import { comparedReport } from "./words.js";

const MARKED =
  "Marked: words that the nearest sentence in the report of the query's own study lacks.";

// Cheapest first; equally cheap ones by rank, then by name.
function byCost(a, b) {
  return a.cost - b.cost || a.rank - b.rank || (a.name < b.name ? -1 : 1);
}

// What other facts would have done: [{name, cost, rank, first}].
function listedChanges(changes) {
  const sorted = [...changes].sort(byCost);
  const helps = sorted.find(({ rank, cost }) => rank <= 1 && cost > 0);
  const row = (change) =>
    h(
      "tr",
      { class: change === helps ? "chosen" : null },
      h("td", {}, change.name),
      h("td", { class: "num" }, rankText(change.rank)),
      h("td", {}, change.first ?? "–"),
    );
  const heads = ["one fact of the query changed", "rank of its own partner", "first answer then"];
  const sheet = h("table", {}, headRow(heads), h("tbody", {}, sorted.map(row)));
  const told = helps
    ? `The smallest change that makes it succeed: ${helps.name}.`
    : "None of these changes makes it succeed.";
  return [note(told), h("div", { class: "scroll" }, sheet)];
}

// A note of one's own on a failed query; needs the kernel, which writes it beside the run.
class Notebook {
  constructor(host, row) {
    Object.assign(this, { host, row });
    const hint = "what you think went wrong";
    this.words = h("textarea", { rows: 2, "aria-label": "note", placeholder: hint });
    const tags = { type: "text", "aria-label": "tags", placeholder: "tags, separated by commas" };
    this.tags = h("input", tags);
    this.told = h("span", { class: "where", role: "status" });
    this.read();
  }

  async read() {
    try {
      const kept = await this.host.ask("read", { row: this.row });
      this.words.value = kept.note;
      this.tags.value = kept.tags;
    } catch (error) {
      this.told.textContent = error.message;
    }
  }

  async send(kind, fields) {
    try {
      const got = await this.host.ask(kind, fields);
      this.told.textContent = got.told;
    } catch (error) {
      this.told.textContent = error.message;
    }
  }

  save() {
    return this.send("note", { row: this.row, note: this.words.value, tags: this.tags.value });
  }

  get node() {
    const button = (label, onclick) => h("button", { type: "button", onclick }, label);
    const controls = h(
      "div",
      { class: "controls" },
      this.words,
      this.tags,
      button("Save note", () => this.save()),
      button("Export all as CSV", () => this.send("export", {})),
      this.told,
    );
    return section("Note", controls);
  }
}

export class FailurePanel {
  constructor(queries, host) {
    Object.assign(this, { queries, host, data: queries.data, studies: queries.studies });
    this.turn = 0;
    this.node = h("div", { class: "second", "aria-live": "polite" });
  }

  // row: of a failed query, or null.
  show(row) {
    if (row === null) return this.node.replaceChildren(note("Choose a failed query."));
    const notebook = this.host.can("note") ? new Notebook(this.host, row).node : null;
    const lists = this.lists(row);
    replace(this.node, this.verdict(row), this.pair(row), this.whatIf(row), notebook, lists);
  }

  // ---- what went wrong

  verdict(row) {
    const { queries, data } = this;
    const { rows } = queries;
    const line = (name, value) => value && h("li", {}, h("strong", {}, `${name}: `), value);
    const isRevised = queries.hasTruth && rows.text[row] !== rows.truth[row];
    const byText = isRevised ? ` (by its text alone: ${data.relations[rows.text[row]]})` : "";
    const facts = [
      line("differences", data.differences?.[row]),
      line("clinical weight", queries.weight(row)),
      line("whose fault", queries.hasTruth && queries.blame(row)),
      line("circumstances", queries.circumstances(row)),
      line("the first relevant answer stands at rank", rankText(rows.rank[row])),
    ];
    return section(
      `The first answer: ${queries.relation(row)}${byText}`,
      note(data.meanings[rows.relation[row]]),
      h("ul", { class: "plain" }, facts.filter(Boolean)),
    );
  }

  // ---- query and truth, and the first answer's study, next to each other

  half(title, i, other, lead) {
    const { films, texts } = this.data;
    const address = films?.url(i);
    const alt = `radiograph of ${this.studies.id(i)}`;
    return section(
      title,
      address && h("img", { class: "film", src: address, alt }),
      note(lead),
      texts ? comparedReport(texts[i], texts[other]) : null,
    );
  }

  pair(row) {
    const i = this.queries.rows.study[row];
    const j = this.queries.rows.other[row];
    const byFilm = this.queries.side(row).asked === "film";
    const asked = byFilm
      ? "asked with the film; the report is the truth, which the model does not see"
      : "asked with the report; the film is the truth";
    const found = byFilm
      ? "found: the report; the film is the one it was written for"
      : "found: the film, with its own report";
    return h(
      "div",
      { class: "columns even" },
      this.half(`Query and truth: ${this.studies.id(i)}`, i, j, asked),
      this.half(`First answer: ${this.studies.id(j)}`, j, i, found),
    );
  }

  // ---- what if one fact were different

  async change(row, box, mine) {
    box.replaceChildren(note("Changing one fact at a time …"));
    try {
      const got = await this.host.ask("whatif", { row });
      if (mine === this.turn) box.replaceChildren(...listedChanges(got.changes));
    } catch (error) {
      if (mine === this.turn) box.replaceChildren(note(error.message));
    }
  }

  // Computed beforehand, or at the press of a button, or not at all.
  whatIf(row) {
    const mine = ++this.turn;
    const ready = this.data.whatif?.[row];
    if (!ready && !this.host.can("whatif")) return null;
    const box = h("div", { class: "whatif" });
    const onclick = () => this.change(row, box, mine);
    if (ready) put(box, ...listedChanges(ready));
    else put(box, h("button", { type: "button", onclick }, "Change one fact at a time"));
    return section("What if one fact of the query were different?", box);
  }

  // ---- the first answers, of one method or of two

  // One answer: a report compared with the one of the query's study, a film with its own report.
  answer(row, i, place, score, isHit) {
    const { films, texts, rows } = this.data;
    const isFilm = this.queries.side(row).found === "film";
    const address = isFilm ? films?.url(i) : null;
    const verdict = h("span", { class: "verdict" }, isHit ? "relevant" : "not relevant");
    const name = h("strong", {}, `${place}. ${this.studies.id(i)}`);
    const own = isFilm ? h("div", { class: "told" }, "its own report:") : null;
    return h(
      "article",
      { class: `card ${isHit ? "hit" : "miss"}` },
      h("div", { class: "head" }, name, verdict),
      address && h("img", { src: address, alt: `radiograph of ${this.studies.id(i)}` }),
      h("div", { class: "told" }, `${this.data.score} ${number(score)}`),
      texts ? [own, comparedReport(texts[i], texts[rows.study[row]])] : null,
    );
  }

  // found: {top, scores, hits}; a number beyond the studies stands for no answer.
  answers(row, found, title, lead) {
    const scores = found.scores.row(row);
    const hits = found.hits.row(row);
    const all = Array.from(found.top.row(row), (i, p) => {
      if (i >= this.data.ids.length) return null;
      return h("li", {}, this.answer(row, i, p + 1, scores[p], hits[p]));
    });
    const isReport = this.queries.side(row).found === "report";
    const list = h("ol", { class: isReport ? "cards ranked texts" : "cards ranked" }, all);
    return section(title, note(lead), list);
  }

  lists(row) {
    const { data, queries } = this;
    const { rows } = data;
    const rank = `First relevant at rank ${rankText(rows.rank[row])}.`;
    const title = `The ${rows.top.shape[1]} ${queries.side(row).found}s found first`;
    const first = this.answers(row, rows, title, data.texts ? `${rank} ${MARKED}` : rank);
    if (!data.second) return first;
    const lead = `First relevant at rank ${number(data.second.rank[row], 0)}.`;
    const second = this.answers(row, data.second, `The same query, ${data.second.name}`, lead);
    return h("div", { class: "columns even" }, first, second);
  }
}
