// A draft of the report of what asks, quoted from the reports found nearest; a kernel makes it when it is asked for.

import { h, note, section } from "./elements.js";
import { number } from "./numbers.js";

const FEW = 2; // notes that are shown at once

// studies: names and picking of studies; asked(): the fields of the question, or null.
export class DraftPanel {
  constructor(host, studies, asked) {
    Object.assign(this, { host, studies, asked });
    this.turn = 0;
    const onclick = () => this.make();
    this.button = h(
      "button",
      { type: "button", onclick },
      "Draft a report from the nearest reports",
    );
    this.told = h("div", { "aria-live": "polite" });
    this.node = h("div", { class: "draft", hidden: true }, this.button, this.told);
  }

  // Another question: what was drafted is not its draft.
  about(question) {
    this.turn++;
    this.node.hidden = !question;
    this.told.replaceChildren();
  }

  async make() {
    const fields = this.asked();
    if (!fields) return;
    const mine = ++this.turn;
    this.told.replaceChildren(note("Asking the nearest reports …"));
    try {
      const got = await this.host.ask("draft", fields);
      if (mine === this.turn) this.show(got);
    } catch (error) {
      if (mine === this.turn) this.told.replaceChildren(note(error.message));
    }
  }

  // A sentence with its source; a click asks with the report it is quoted from.
  sentence(got, r) {
    const i = got.rows[r];
    const onclick = () => this.studies.onpick(i, "ti");
    const source = h("span", { class: "source" }, this.studies.id(i));
    const told = `, letters ${got.places[r]}, vote ${number(got.votes[r])}`;
    const words = h("span", { class: "said", dir: "auto" }, got.texts[r]);
    const where = h("span", { class: "told" }, source, told);
    return h("li", {}, h("button", { type: "button", class: "quote", onclick }, words, where));
  }

  // Who voted, and what the reports do not agree about; many notes are folded.
  notes(notes) {
    if (notes.length <= FEW) return notes.map(note);
    const summary = h("summary", {}, `${notes.length} notes on the vote`);
    const list = notes.map((told) => h("li", {}, told));
    return h("details", {}, summary, h("ul", { class: "plain told" }, list));
  }

  show(got) {
    const list = got.texts.map((_, r) => this.sentence(got, r));
    const told =
      "Each sentence stands in the report of the study named below it. For a radiologist to judge.";
    const shown = section(
      `Draft, quoted from the ${got.voters} nearest reports`,
      note(told),
      list.length ? h("ol", { class: "quotes" }, list) : null,
      this.notes(got.notes),
    );
    this.told.replaceChildren(shown);
  }
}
