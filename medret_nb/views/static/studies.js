// Studies: each a film and its report; and the two ways to ask.

export const SIDES = {
  it: { asked: "film", found: "report", told: "film → reports" },
  ti: { asked: "report", found: "film", told: "report → films" },
};

// As rows of numbers name them: 0 image to text, 1 text to image.
export const BOTH_SIDES = [SIDES.it, SIDES.ti];

// To choose from.
export const WAYS = Object.entries(SIDES).map(([way, side]) => [way, side.told]);

export function shortened(words, length) {
  return words.slice(0, length) + (words.length > length ? " …" : "");
}

// data: ids; texts, films, findings (a line of names for each) where they are known.
export class Studies {
  constructor(data) {
    Object.assign(this, { ids: data.ids, texts: data.texts, films: data.films });
    this.findings = data.findings;
  }

  id(i) {
    return this.ids[i];
  }

  text(i) {
    return this.texts ? this.texts[i] : "";
  }

  // The names of the findings of study i, or words for none.
  named(i, none) {
    return this.findings[i] || none;
  }

  // What a card shows of one half of study i, "film" or "report".
  half(i, kind, more = {}) {
    const isFilm = kind === "film";
    return {
      images: this.films,
      film: isFilm ? i : null,
      text: isFilm ? "" : this.text(i),
      ...more,
    };
  }

  // Whether a study's name, findings or report hold some words in small letters.
  holds(i, words) {
    const findings = this.findings ? this.findings[i] : "";
    return `${this.id(i)} ${findings} ${this.text(i)}`.toLowerCase().includes(words);
  }
}
