// Three clouds, a query's, its partner's and a confuser's, drawn in the plane through their means.

import { svg } from "./elements.js";
import { number } from "./numbers.js";

const INKS = ["--ink", "--hit", "--miss"];
const DASHES = ["", "stroke-dasharray:9 4", "stroke-dasharray:2 4"];
const PAIRS = [
  [0, 1],
  [0, 2],
  [1, 2],
];
const WIDTH = 640;
const HEIGHT = 440;

// The contour that holds `share` of a plane Gaussian [xx, xy, yy]: half axes, and the angle in degrees.
function contourOf([xx, xy, yy], share) {
  const size = Math.sqrt(-2 * Math.log(1 - share));
  const mid = (xx + yy) / 2;
  const off = Math.hypot((xx - yy) / 2, xy);
  return {
    rx: size * Math.sqrt(Math.max(0, mid + off)),
    ry: size * Math.sqrt(Math.max(0, mid - off)),
    angle: (Math.atan2(2 * xy, xx - yy) * 90) / Math.PI,
  };
}

// The same of a round cloud with that variance in each direction.
function circleOf(variance, share) {
  const radius = Math.sqrt(-2 * Math.log(1 - share)) * Math.sqrt(variance);
  return { rx: radius, ry: radius, angle: 0 };
}

// places: three [x, y]; covariances: three [xx, xy, yy]; variances: of the round clouds, or null: they are not drawn;
// names: of the three; share: of a cloud inside its outline.
export class CloudPlot {
  constructor({ places, covariances, variances, names, share }) {
    Object.assign(this, { places, names });
    this.contours = covariances.map((covariance) => contourOf(covariance, share));
    this.circles = variances ? variances.map((variance) => circleOf(variance, share)) : null;
    this.fit();
  }

  // All outlines fit into the picture.
  fit() {
    const { places, contours, circles } = this;
    const pads = contours.map(({ rx }, j) => Math.max(rx, circles ? circles[j].rx : 0));
    const low = [0, 1].map((axis) => Math.min(...places.map((p, j) => p[axis] - pads[j])));
    const high = [0, 1].map((axis) => Math.max(...places.map((p, j) => p[axis] + pads[j])));
    const span = Math.max(high[0] - low[0], (high[1] - low[1]) * 1.4) || 1;
    this.scale = 520 / span;
    this.middle = [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2];
  }

  toX([x]) {
    return WIDTH / 2 + (x - this.middle[0]) * this.scale;
  }

  toY([, y]) {
    return HEIGHT / 2 - (y - this.middle[1]) * this.scale;
  }

  distance([a, b]) {
    const [from, to] = [this.places[a], this.places[b]];
    return number(Math.hypot(from[0] - to[0], from[1] - to[1]));
  }

  outline({ rx, ry, angle }, j, style) {
    const cx = this.toX(this.places[j]);
    const cy = this.toY(this.places[j]);
    return svg("ellipse", {
      cx,
      cy,
      rx: rx * this.scale,
      ry: ry * this.scale,
      transform: `rotate(${-angle} ${cx} ${cy})`,
      style: `fill:none;stroke:var(${INKS[j]});${style}`,
    });
  }

  line([a, b]) {
    const [from, to] = [this.places[a], this.places[b]];
    return svg("line", {
      x1: this.toX(from),
      y1: this.toY(from),
      x2: this.toX(to),
      y2: this.toY(to),
      style: "stroke:var(--line);stroke-width:1.5",
    });
  }

  far(pair) {
    const [from, to] = pair.map((j) => this.places[j]);
    const x = (this.toX(from) + this.toX(to)) / 2;
    const y = (this.toY(from) + this.toY(to)) / 2;
    const attributes = { x, y, class: "halo far", "text-anchor": "middle" };
    return svg("text", attributes, this.distance(pair));
  }

  dot(place, j) {
    const style = `fill:var(${INKS[j]})`;
    return svg("circle", { cx: this.toX(place), cy: this.toY(place), r: 4.5, style });
  }

  name(place, j) {
    const isRight = this.toX(place) > WIDTH * 0.7;
    const attributes = {
      x: this.toX(place) + (isRight ? -8 : 8),
      y: this.toY(place) + (j === 0 ? 16 : -7),
      class: "halo",
      "text-anchor": isRight ? "end" : "start",
      style: `fill:var(${INKS[j]});font-weight:600`,
    };
    return svg("text", attributes, this.names[j]);
  }

  get label() {
    const told = PAIRS.map(
      ([a, b]) => `${this.names[a]} to ${this.names[b]}: ${this.distance([a, b])}`,
    );
    return `Three clouds in the plane through their means. ${told.join("; ")}`;
  }

  get node() {
    const { places, contours, circles } = this;
    const thick = (contour, j) => this.outline(contour, j, `stroke-width:2.5;${DASHES[j]}`);
    const thin = (circle, j) => this.outline(circle, j, "stroke-width:1;opacity:0.8");
    const viewBox = `0 0 ${WIDTH} ${HEIGHT}`;
    return svg(
      "svg",
      { class: "plot", viewBox, role: "img", "aria-label": this.label },
      PAIRS.map((pair) => this.line(pair)),
      contours.map(thick),
      circles ? circles.map(thin) : [],
      PAIRS.map((pair) => this.far(pair)),
      places.map((place, j) => this.dot(place, j)),
      places.map((place, j) => this.name(place, j)),
    );
  }
}
