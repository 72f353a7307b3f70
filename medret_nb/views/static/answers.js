// Films and reports of a run as the explorer shows them: as points of the map, as queries and as answers.

import { card, h, report } from "./elements.js";
import { number, range } from "./numbers.js";
import { SIDES, Studies } from "./studies.js";

// Points of the map are the films, then the reports. onpick(i, way): an answer was chosen, to go on from.
export class Answers extends Studies {
  constructor(data, onpick) {
    super(data);
    Object.assign(this, { count: data.count, score: data.score, onpick });
  }

  label(p) {
    const i = p % this.count;
    const findings = this.findings ? `: ${this.findingsOf(i)}` : "";
    return `${p < this.count ? "film" : "report"} of ${this.id(i)}${findings}`;
  }

  findingsOf(i) {
    return this.named(i, "no finding named");
  }

  // What a card shows of one half, with its title and findings.
  titled(i, kind, more = {}) {
    const told = kind === "film" && this.findings ? `named: ${this.findingsOf(i)}` : "";
    return this.half(i, kind, { title: `${kind} of ${this.id(i)}`, told, ...more });
  }

  // The other half of a query's study, folded, or null.
  partner(i, way) {
    const fold = (kind, shown) => {
      const words = `Its own ${kind} (the model does not see it)`;
      return h("details", {}, h("summary", {}, words), shown);
    };
    if (way === "it") return this.texts ? fold("report", report(this.text(i))) : null;
    return this.films?.url(i) ? fold("film", card(this.titled(i, "film"))) : null;
  }

  // One answer. own: the study that asked, which is no news among films; score: what the number is called.
  answer(way, found, r, own, score) {
    const i = found.positions[r];
    const self = i === own ? "; the query itself" : "";
    const named = way === "it" || !this.findings ? "" : `; named: ${this.findingsOf(i)}`;
    const more = {
      title: `${r + 1}. ${this.id(i)}`,
      verdict: found.hits ? Boolean(found.hits[r]) : null,
      told: `${score} ${number(found.scores[r])}${self}${named}`,
      onpick: () => this.onpick(i, way === "it" ? "ti" : "it"),
    };
    return card(this.titled(i, SIDES[way].found, more));
  }

  // found: {positions, scores, hits}, reports (way "it") or films ("ti").
  listing(way, found, own = null, score = this.score) {
    const entries = range(found.positions.length).map((r) =>
      h("li", {}, this.answer(way, found, r, own, score)),
    );
    return h("ol", { class: way === "it" ? "cards ranked texts" : "cards ranked" }, entries);
  }

  title(way, found) {
    return `The ${found.positions.length} ${SIDES[way].found}s found first`;
  }

  // Rings with numbers around the answers; the first is drawn last.
  marks(way, { positions, hits }) {
    const shift = way === "it" ? this.count : 0;
    const mark = (i, r) => {
      const colour = hits?.[r] ? "--hit" : "--miss";
      return { i: i + shift, text: String(r + 1), colour };
    };
    return Array.from(positions, mark).reverse();
  }

  // Rings around the query and its partner.
  ownMarks(i, way) {
    const [query, partner] = way === "it" ? [i, i + this.count] : [i + this.count, i];
    return [
      { i: partner, big: true, text: "its partner", colour: "--hit" },
      { i: query, big: true, text: "query", colour: "--ink" },
    ];
  }
}
