// What a word looks at on a film: patches, or regions. Both answer the same questions.

import { clamp, range, sum } from "./numbers.js";

// Weights that sum to 1; a missing score gets none.
export function softmax(scores, temperature) {
  const high = Math.max(...scores.filter(Number.isFinite));
  const raise = (score) => (Number.isFinite(score) ? Math.exp((score - high) / temperature) : 0);
  const raised = Array.from(scores, raise);
  const total = sum(raised);
  return raised.map((value) => (total ? value / total : 0));
}

export function areaOf([x0, y0, x1, y1]) {
  return (x1 - x0) * (y1 - y0);
}

// The sides [across, down] of what two boxes share, 0 where they lie apart.
function sharedSides(a, b) {
  const across = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const down = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  return [Math.max(0, across), Math.max(0, down)];
}

// One number of each row of a 2-D array.
function columnOf(array, at, width) {
  return range(array.shape[0]).map((row) => array[row * width + at]);
}

export class Patches {
  constructor(grid) {
    this.grid = grid;
    [, this.rows, this.columns] = grid.shape;
    this.size = [this.rows, this.columns];
    this.noun = "patch";
  }

  scores(word) {
    return this.grid.row(word);
  }

  wordScores({ cell }) {
    return columnOf(this.grid, cell, this.rows * this.columns);
  }

  box(cell) {
    const row = Math.floor(cell / this.columns);
    const column = cell % this.columns;
    return [
      column / this.columns,
      row / this.rows,
      (column + 1) / this.columns,
      (row + 1) / this.rows,
    ];
  }

  outline({ cell }) {
    return this.box(cell);
  }

  // Share of the weights in a box.
  inside(weights, box) {
    const covered = (i) => {
      const [across, down] = sharedSides(box, this.box(i));
      return across * down * this.rows * this.columns;
    };
    return sum(weights.map((weight, i) => weight * covered(i)));
  }

  fill(pen, i) {
    pen.fillRect(i % this.columns, Math.floor(i / this.columns), 1, 1);
  }

  cellAt(row, column) {
    return clamp(row, 0, this.rows - 1) * this.columns + clamp(column, 0, this.columns - 1);
  }

  at(x, y) {
    return { cell: this.cellAt(Math.floor(y * this.rows), Math.floor(x * this.columns)) };
  }

  step(look, [right, down]) {
    if (look?.cell === undefined) return { cell: 0 };
    const row = Math.floor(look.cell / this.columns);
    const column = look.cell % this.columns;
    return { cell: this.cellAt(row + down, column + right) };
  }

  name({ cell }) {
    return `patch ${cell + 1}`;
  }

  title() {
    return "Words that this patch takes";
  }
}

export class Regions {
  constructor({ places, boxes, regions }) {
    Object.assign(this, { places, boxes, names: regions });
    this.size = [200, 200];
    this.noun = "region";
  }

  // The numbers of the regions that this film has.
  usable() {
    if (!this.places) return [];
    return range(this.names.length).filter((i) => Number.isFinite(this.places[i]));
  }

  scores(word) {
    return this.places.row(word);
  }

  wordScores({ region }) {
    return columnOf(this.places, region, this.names.length);
  }

  outline({ region }) {
    return this.boxes.row(region);
  }

  // Share of the weights in a box, each region's spread evenly over its own box.
  inside(weights, box) {
    const part = (weight, i) => {
      const own = this.boxes.row(i);
      const area = areaOf(own);
      if (!weight || !(area > 0)) return 0;
      const [across, down] = sharedSides(own, box);
      return (weight * across * down) / area;
    };
    return sum(weights.map(part));
  }

  fill(pen, i) {
    const [x0, y0, x1, y1] = this.boxes.row(i);
    if (x1 > x0) pen.fillRect(x0 * 200, y0 * 200, (x1 - x0) * 200, (y1 - y0) * 200);
  }

  // The smallest region that holds a point, or null.
  at(x, y) {
    const holds = ([x0, y0, x1, y1]) => x >= x0 && x <= x1 && y >= y0 && y <= y1;
    const found = { region: null, area: Infinity };
    for (const region of this.usable()) {
      const box = this.boxes.row(region);
      const area = areaOf(box);
      if (holds(box) && area < found.area) Object.assign(found, { region, area });
    }
    return found.region === null ? null : { region: found.region };
  }

  step(look, [right, down]) {
    const all = this.usable();
    const now = look?.region === undefined ? -1 : all.indexOf(look.region);
    return { region: all[(now + right + down + all.length) % all.length] };
  }

  name({ region }) {
    return this.names[region];
  }

  title({ region }) {
    return `Words that the ${this.names[region]} takes`;
  }
}
