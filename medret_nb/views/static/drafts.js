// A draft of the report of what asks, quoted from the reports found nearest; a kernel makes it when it is asked for.

import { h, note, section } from "./elements.js";
import { number } from "./numbers.js";

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

  // A sentence, and a button that goes to its study.
  sentence(got, r) {
    const i = got.rows[r];
    const onclick = () => this.studies.onpick(i, "ti");
    const source = h("button", { type: "button", class: "link", onclick }, this.studies.id(i));
    const told = ` letters ${got.places[r]}, vote ${number(got.votes[r])}`;
    const words = h("div", { class: "report", dir: "auto" }, got.texts[r]);
    return h("li", {}, words, h("div", { class: "told" }, source, told));
  }

  show(got) {
    const list = got.texts.map((_, r) => this.sentence(got, r));
    const shown = section(
      `Draft, quoted from the ${got.voters} nearest reports`,
      note(
        "Each sentence stands in the report of the study named below it. For a radiologist to judge.",
      ),
      list.length ? h("ol", { class: "texts" }, list) : null,
      got.notes.map(note),
    );
    this.told.replaceChildren(shown);
  }
}
