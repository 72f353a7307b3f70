// A table in pages, whose heads sort it.

import { h } from "./elements.js";
import { clamp, number, range } from "./numbers.js";

function isMissing(value) {
  return value === null || value === undefined || Number.isNaN(value);
}

function compare(x, y) {
  return typeof x === "number" ? x - y : String(x).localeCompare(String(y));
}

function cellClass(column) {
  if (column.digits !== undefined) return "num";
  return column.extra ? "extra" : null;
}

// columns: [{name, get: i => text or number, digits, extra: left out where it is narrow}]; count: rows, 0..count-1;
// onpick(i): a row was chosen; size: rows on a page.
export class Table {
  constructor({ columns, count, caption, onpick, size = 12 }) {
    Object.assign(this, { columns, onpick, size });
    this.shown = range(count);
    this.sorted = null; // {k, down}: by which column, and which way
    this.page = 0;
    this.chosen = -1;
    this.body = h("tbody");
    this.where = h("span", { class: "where", role: "status" });
    this.heads = columns.map((column, k) => this.head(column, k));
    this.node = h("div", { class: "table" }, this.sheet(caption), this.pager());
    this.draw();
  }

  head(column, k) {
    const sorter = { type: "button", class: "link", onclick: () => this.sort(k) };
    const attributes = { scope: "col", class: column.extra ? "extra" : null };
    return h("th", attributes, h("button", sorter, column.name));
  }

  sheet(caption) {
    const head = h("thead", {}, h("tr", {}, this.heads));
    const sheet = h("table", {}, h("caption", {}, caption), head, this.body);
    return h("div", { class: "scroll" }, sheet);
  }

  pager() {
    const turner = (step, label, sign) =>
      h("button", { type: "button", onclick: () => this.turn(step), "aria-label": label }, sign);
    return h(
      "div",
      { class: "pages" },
      turner(-1, "page back", "‹"),
      this.where,
      turner(1, "page on", "›"),
    );
  }

  turn(step) {
    const last = Math.max(0, Math.ceil(this.shown.length / this.size) - 1);
    this.page = clamp(this.page + step, 0, last);
    this.draw();
  }

  cellText(column, i) {
    const value = column.get(i);
    return typeof value === "number" ? number(value, column.digits ?? 0) : (value ?? "–");
  }

  // The first cell holds a button, so that rows can be chosen by the keyboard.
  firstCell(column, i) {
    const onclick = (event) => {
      event.stopPropagation();
      this.onpick(i);
    };
    const pressed = String(i === this.chosen);
    const attributes = { type: "button", class: "link", "aria-pressed": pressed, onclick };
    return h("td", {}, h("button", attributes, this.cellText(column, i)));
  }

  row(i) {
    const cells = this.columns.map((column, k) => {
      if (k === 0) return this.firstCell(column, i);
      return h("td", { dir: "auto", class: cellClass(column) }, this.cellText(column, i));
    });
    const chosen = i === this.chosen ? "chosen" : null;
    return h("tr", { class: chosen, "data-row": i, onclick: () => this.onpick(i) }, cells);
  }

  place() {
    if (!this.shown.length) return "none";
    const first = this.page * this.size;
    const last = Math.min(this.shown.length, first + this.size);
    return `${first + 1}–${last} of ${this.shown.length.toLocaleString("en")}`;
  }

  order(k) {
    if (!this.sorted || this.sorted.k !== k) return "none";
    return this.sorted.down ? "descending" : "ascending";
  }

  draw() {
    const first = this.page * this.size;
    const rows = this.shown.slice(first, first + this.size);
    this.body.replaceChildren(...rows.map((i) => this.row(i)));
    this.where.textContent = this.place();
    this.heads.forEach((head, k) => {
      head.setAttribute("aria-sort", this.order(k));
    });
  }

  // Missing values stand last, whichever way it is sorted; equal ones keep the order of the rows.
  arrange() {
    if (!this.sorted) return;
    const { get } = this.columns[this.sorted.k];
    const keys = new Map(this.shown.map((i) => [i, get(i)]));
    const sign = this.sorted.down ? -1 : 1;
    this.shown.sort((a, b) => {
      const x = keys.get(a);
      const y = keys.get(b);
      return isMissing(x) - isMissing(y) || sign * compare(x, y) || a - b;
    });
  }

  sort(k, down = null) {
    const again = this.sorted && this.sorted.k === k;
    this.sorted = { k, down: down ?? (again ? !this.sorted.down : false) };
    this.page = 0;
    this.arrange();
    this.draw();
  }

  // Show these rows alone.
  show(rows) {
    this.shown = [...rows];
    this.page = 0;
    this.arrange();
    this.draw();
  }

  // Mark a row, and turn to its page.
  choose(i) {
    this.chosen = i;
    const at = this.shown.indexOf(i);
    if (at >= 0) this.page = Math.floor(at / this.size);
    this.draw();
  }
}
