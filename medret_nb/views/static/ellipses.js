// A query's cloud, its partner's and its strongest confusers', in the plane through three means.
// data: count, ids, dim, similarity, shape, formula (sentences), confusers k, share (of the contour); directions
// {it, ti: {rows, trace, ranks, told, axes, raw, whole, px, py, others (Q, k), xy (Q, k, 3, 2), cov (Q, k, 3, 3),
// ball (Q, k, 3), parts (Q, 1 + k, 2), sphere (Q, 1 + k)}}; texts, films (private)

import { CloudPlot } from "./clouds.js";
import { choice, toggle } from "./controls.js";
import { define } from "./core.js";
import { cards, h, headRow, note, put, section } from "./elements.js";
import { clamp, number, range, sum } from "./numbers.js";
import { Scatter } from "./scatter.js";
import { SIDES, Studies, shortened, WAYS } from "./studies.js";
import { Table } from "./table.js";

const HEADS = ["candidate", "from the means", "from the variances", "distance", "if round"];
const LINES =
  "Solid: query; dashed: its own partner; dotted: the confuser. " +
  "Each outline holds half of its cloud's projection on the plane through the three means.";

class EllipsesView {
  constructor(root, data, host) {
    Object.assign(this, { data, host, studies: new Studies(data) });
    this.drawing = h("div", { class: "drawing" });
    this.words = h("div", { "aria-live": "polite" });
    this.cards = h("div", {});
    this.told = h("p", { class: "note" });
    this.lists = h("div");
    this.planes = h("div");
    this.plane = null;
    this.build(root);
    for (const key of ["chosen", "confuser", "round"]) host.on(key, () => this.show());
    host.on("direction", () => this.turn());
    host.leave(() => this.plane.free());
    this.turn();
  }

  // ---- building

  build(root) {
    const { host } = this;
    const setWay = (way) => host.set("direction", way);
    this.direction = choice("Ask with", WAYS, this.way, setWay);
    const label = "also round clouds of the same total variance (thin)";
    const round = toggle(label, this.isRound, (on) => host.set("round", on));
    const where = `Numbers: distances of the means, as they are in all ${this.data.dim} dimensions.`;
    put(
      root,
      h("div", { class: "controls" }, this.direction, round),
      h(
        "div",
        { class: "columns even" },
        h("div", {}, this.drawing, note(`${LINES} ${where}`)),
        h("div", {}, this.words),
      ),
      this.cards,
      h(
        "div",
        { class: "columns even" },
        section("Queries", this.lists),
        section("Vague and specific", this.planes),
      ),
    );
  }

  get way() {
    return this.host.get("direction", "it");
  }

  get side() {
    return SIDES[this.way];
  }

  // What is known of this direction.
  get known() {
    return this.data.directions[this.way];
  }

  get isRound() {
    return this.host.get("round", false);
  }

  // ---- table and map of one direction

  columns() {
    const { known, studies } = this;
    const { rows, trace, ranks, raw, axes, whole } = known;
    const columns = [
      { name: "study", get: (r) => studies.id(rows[r]) },
      { name: "uncertainty", get: (r) => trace[r], digits: 3 },
      { name: "rank", get: (r) => ranks[r], digits: 0 },
      { name: axes[0], get: (r) => raw[r], digits: whole ? 0 : 2 },
    ];
    const words = (r) => shortened(studies.text(rows[r]), 80);
    if (studies.texts) columns.push({ name: "report", extra: true, get: words });
    return columns;
  }

  makeList() {
    const sum = `the sum of its ${this.data.dim} variances`;
    return new Table({
      count: this.known.rows.length,
      caption: `Each ${this.side.asked} as a query. Uncertainty: ${sum}.`,
      onpick: (r) => this.choose(r),
      columns: this.columns(),
    });
  }

  label(r) {
    const { rows, trace, axes, raw, whole } = this.known;
    const measured = `${axes[0]} ${number(raw[r], whole ? 0 : 2)}`;
    return `${this.studies.id(rows[r])}: uncertainty ${number(trace[r])}, ${measured}`;
  }

  makePlane() {
    const { px, py, axes } = this.known;
    return new Scatter({
      x: px,
      y: py,
      label: (r) => this.label(r),
      onpick: (r) => this.choose(r),
      alt: `${axes[0]} to the right, uncertainty upward`,
    });
  }

  turn() {
    const { known } = this;
    if (this.plane) this.plane.free();
    this.list = this.makeList();
    this.list.sort(1, true);
    this.plane = this.makePlane();
    this.told.textContent = known.told;
    const axes = `To the right: ${known.axes[0]}. Upward: uncertainty. Both by rank.`;
    this.lists.replaceChildren(this.list.node);
    this.planes.replaceChildren(this.plane.node, note(axes), this.told);
    this.show();
  }

  choose(r) {
    this.host.set("confuser", 0);
    this.host.set("chosen", r);
  }

  // ---- one query and one confuser

  show() {
    const { known, data } = this;
    const r = this.host.get("chosen");
    this.direction.pick(this.way);
    if (r === null || !(r >= 0 && r < known.rows.length)) {
      return this.drawing.replaceChildren(note("Choose a query."));
    }
    this.list.choose(r);
    this.plane.mark([{ i: r, big: true }]);
    if (!data.confusers) return this.showAlone();
    const c = clamp(this.host.get("confuser", 0), 0, data.confusers - 1);
    this.draw(r, c);
    this.tell(r, c);
    this.showCards(r, c);
  }

  showAlone() {
    const told = "There is no confuser: every candidate counts as a hit.";
    this.drawing.replaceChildren(note(told));
    this.words.replaceChildren();
  }

  draw(r, c) {
    const { known, data, side } = this;
    const first = 3 * (r * data.confusers + c);
    const three = [0, 1, 2];
    const numbers = (array, j, width) => range(width).map((m) => array[(first + j) * width + m]);
    const plot = new CloudPlot({
      places: three.map((j) => numbers(known.xy, j, 2)),
      covariances: three.map((j) => numbers(known.cov, j, 3)),
      variances: this.isRound ? three.map((j) => known.ball[first + j]) : null,
      names: [`query: the ${side.asked}`, `its own ${side.found}`, `confuser ${c + 1}`],
      share: data.share,
    });
    this.drawing.replaceChildren(plot.node);
  }

  // The distance of query r to its partner (j = 0) or confuser j: [from the means, from the variances].
  parts(r, j) {
    const at = 2 * (r * (this.data.confusers + 1) + j);
    return [this.known.parts[at], this.known.parts[at + 1]];
  }

  candidate(r, j) {
    if (j === 0) return `its own ${this.side.found}`;
    const other = this.known.others[r * this.data.confusers + j - 1];
    return `confuser ${j}: ${this.studies.id(other)}`;
  }

  // A row of the table of distances: the partner's (j = 0) or confuser j's.
  candidateRow(r, j, chosen) {
    const parts = this.parts(r, j);
    const round = this.known.sphere[r * (this.data.confusers + 1) + j];
    const pick = () => this.host.set("confuser", j - 1);
    const onclick = (event) => {
      event.stopPropagation();
      pick();
    };
    const name = this.candidate(r, j);
    const pressed = {
      type: "button",
      class: "link",
      "aria-pressed": String(j === chosen),
      onclick,
    };
    const numbers = [...parts, sum(parts), round].map((v) => h("td", { class: "num" }, number(v)));
    return h(
      "tr",
      { class: j === chosen ? "chosen" : null, onclick: () => j && pick() },
      h("td", {}, j ? h("button", pressed, name) : name),
      numbers,
    );
  }

  // By how much the confuser is nearer or farther than the partner, and why.
  verdict(r, c) {
    const own = this.parts(r, 0);
    const other = this.parts(r, c + 1);
    const gain = own.map((value, m) => value - other[m]);
    const isNearer = sum(gain) > 0;
    const [means, variances] = isNearer ? gain : gain.map((value) => -value);
    const how = isNearer ? "nearer" : "farther";
    const far = `${how} than the query's own ${this.side.found} by ${number(Math.abs(sum(gain)))}`;
    const why = `${number(means)} from the means, ${number(variances)} from the variances`;
    return h("p", { class: "verdict-line" }, `Confuser ${c + 1} is ${far}: ${why}.`);
  }

  tell(r, c) {
    const rows = range(this.data.confusers + 1).map((j) => this.candidateRow(r, j, c + 1));
    const caption = h("caption", {}, this.data.formula);
    const sheet = h("table", { class: "parts" }, caption, headRow(HEADS), h("tbody", {}, rows));
    this.words.replaceChildren(
      h("div", { class: "scroll" }, sheet),
      this.verdict(r, c),
      note(this.data.shape),
    );
  }

  showCards(r, c) {
    const { known, studies } = this;
    const { asked, found } = this.side;
    const i = known.rows[r];
    const other = known.others[r * this.data.confusers + c];
    const rank = `first hit at rank ${number(known.ranks[r], 0)}`;
    const query = {
      title: `query: ${asked} of ${studies.id(i)}`,
      told: `uncertainty ${number(known.trace[r])}, ${rank}`,
    };
    const confuser = { title: `confuser ${c + 1}: ${studies.id(other)}`, verdict: false };
    this.cards.replaceChildren(
      cards([
        studies.half(i, asked, query),
        studies.half(i, found, { title: `its own ${found}`, verdict: true }),
        studies.half(other, found, confuser),
      ]),
    );
  }
}

define("ellipses", (root, data, host) => new EllipsesView(root, data, host));
