// A grid over the plane, which finds the nearest point without looking at all of them.

import { clamp, inGroups } from "./numbers.js";

// Which points have a place, how many, and how far they reach.
function extentOf(x, y) {
  const fine = new Uint8Array(x.length);
  const reach = { x0: Infinity, x1: -Infinity, y0: Infinity, y1: -Infinity };
  let count = 0;
  for (let i = 0; i < x.length; i++) {
    if (!Number.isFinite(x[i]) || !Number.isFinite(y[i])) continue;
    fine[i] = 1;
    count++;
    reach.x0 = Math.min(reach.x0, x[i]);
    reach.x1 = Math.max(reach.x1, x[i]);
    reach.y0 = Math.min(reach.y0, y[i]);
    reach.y1 = Math.max(reach.y1, y[i]);
  }
  if (!count) Object.assign(reach, { x0: 0, x1: 1, y0: 0, y1: 1 });
  return { ...reach, fine, count };
}

// Points (x[i], y[i]) in cells of about four; fine[i]: whether point i has a place.
export class Grid {
  constructor(x, y) {
    Object.assign(this, { x, y }, extentOf(x, y));
    this.span = Math.max(this.x1 - this.x0, this.y1 - this.y0) || 1;
    this.side = Math.max(1, Math.ceil(Math.sqrt(this.count / 4)));
    const cellOf = (i) => (this.fine[i] ? this.line(y[i]) * this.side + this.column(x[i]) : -1);
    const { start, items } = inGroups(x.length, this.side * this.side, cellOf);
    Object.assign(this, { start, items });
  }

  column(value) {
    return clamp(Math.floor(((value - this.x0) / this.span) * this.side), 0, this.side - 1);
  }

  line(value) {
    return clamp(Math.floor(((value - this.y0) / this.span) * this.side), 0, this.side - 1);
  }

  // The point nearest to (px, py) within a radius for which allowed(i) holds, or -1.
  nearest(px, py, radius, allowed) {
    const found = { best: -1, least: radius * radius };
    for (let line = this.line(py - radius); line <= this.line(py + radius); line++) {
      for (let column = this.column(px - radius); column <= this.column(px + radius); column++) {
        this.searchCell(line * this.side + column, px, py, allowed, found);
      }
    }
    return found.best;
  }

  searchCell(cell, px, py, allowed, found) {
    for (let k = this.start[cell]; k < this.start[cell + 1]; k++) {
      const i = this.items[k];
      const distance = (this.x[i] - px) ** 2 + (this.y[i] - py) ** 2;
      if (distance > found.least || !allowed(i)) continue;
      found.best = i;
      found.least = distance;
    }
  }
}

// From places of points to pixels and back, as the window is zoomed and moved.
export class Lens {
  constructor(grid) {
    this.grid = grid;
    this.width = 0;
    this.height = 0;
    this.base = 1;
    this.reset();
  }

  // All points fit into width x height pixels, with a margin.
  fit(grid, width, height) {
    this.grid = grid;
    this.width = width;
    this.height = height;
    const across = width / (grid.x1 - grid.x0 || grid.span);
    const down = height / (grid.y1 - grid.y0 || grid.span);
    this.base = 0.9 * Math.min(across, down);
  }

  reset() {
    this.zoomed = 1;
    this.movedX = 0;
    this.movedY = 0;
  }

  get scale() {
    return this.base * this.zoomed;
  }

  toX(value) {
    return this.width / 2 + (value - (this.grid.x0 + this.grid.x1) / 2) * this.scale + this.movedX;
  }

  toY(value) {
    return this.height / 2 - (value - (this.grid.y0 + this.grid.y1) / 2) * this.scale + this.movedY;
  }

  fromX(pixel) {
    return (pixel - this.movedX - this.width / 2) / this.scale + (this.grid.x0 + this.grid.x1) / 2;
  }

  fromY(pixel) {
    return (
      -(pixel - this.movedY - this.height / 2) / this.scale + (this.grid.y0 + this.grid.y1) / 2
    );
  }

  // Zoom so that what lies at pixel (px, py) stays there.
  zoom(factor, px, py) {
    const zoomed = clamp(this.zoomed * factor, 0.5, 200);
    const ratio = zoomed / this.zoomed;
    this.movedX = px - this.width / 2 - ratio * (px - this.width / 2 - this.movedX);
    this.movedY = py - this.height / 2 - ratio * (py - this.height / 2 - this.movedY);
    this.zoomed = zoomed;
  }
}
