// How points, rings and diamonds are drawn on the two canvases of a map.

import { h } from "./elements.js";

// A colour of the theme, resolved.
export function inkOf(node, name) {
  const probe = h("span", { style: `color: var(${name}); display: none` });
  node.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

export function inksOf(node, names) {
  return {
    names: names.map((_, code) => inkOf(node, `--c${code}`)),
    other: inkOf(node, names.length ? "--c8" : "--c0"),
    ink: inkOf(node, "--ink"),
    paper: inkOf(node, "--paper"),
  };
}

function dotRadius(many, zoomed) {
  const root = Math.sqrt(zoomed);
  if (many) return 1.1 * Math.min(3, Math.max(1, root));
  return Math.min(6, 3 * Math.max(1, root * 0.8));
}

function addDot(pen, px, py, radius, many, square) {
  if (many) pen.fillRect(px - radius, py - radius, 2 * radius, 2 * radius);
  else if (square) pen.rect(px - radius * 0.9, py - radius * 0.9, 1.8 * radius, 1.8 * radius);
  else {
    pen.moveTo(px + radius, py);
    pen.arc(px, py, radius, 0, 7);
  }
}

function isOutside(lens, px, py) {
  return px < -9 || py < -9 || px > lens.width + 9 || py > lens.height + 9;
}

// Every `rounds`-th point of one colour, from the `round`-th on.
function drawColour(pen, map, code, round, rounds) {
  const { lens, order, state } = map;
  const many = map.isDense;
  const radius = dotRadius(many, lens.zoomed);
  pen.fillStyle = map.inks.names[code] ?? map.inks.other;
  pen.beginPath();
  for (let k = order.start[code] + round; k < order.start[code + 1]; k += rounds) {
    const i = order.items[k];
    if (!map.isVisible(i)) continue;
    const px = lens.toX(state.x[i]);
    const py = lens.toY(state.y[i]);
    if (isOutside(lens, px, py)) continue;
    addDot(pen, px, py, radius, many, map.isSquare(i));
  }
  pen.fill();
}

export function drawPoints(pen, map) {
  const rounds = map.isDense ? 16 : 1; // turn by turn, or in a dense map the colour drawn last would hide the others
  pen.clearRect(0, 0, map.lens.width, map.lens.height);
  pen.globalAlpha = map.isDense ? 0.7 : 0.8;
  for (let round = 0; round < rounds; round++) {
    for (let code = map.state.names.length; code >= 0; code--) {
      drawColour(pen, map, code, round, rounds);
    }
  }
  pen.globalAlpha = 1;
}

function drawText(pen, words, px, py, colour, paper) {
  pen.font = "600 12px system-ui, sans-serif";
  pen.lineWidth = 3.5;
  pen.strokeStyle = paper;
  pen.fillStyle = colour;
  pen.strokeText(words, px, py);
  pen.fillText(words, px, py);
}

// A ring around point i, with a word beside it.
export function drawRing(pen, map, i, { colour, radius, words }) {
  if (i < 0 || !map.grid.fine[i]) return;
  const px = map.lens.toX(map.state.x[i]);
  const py = map.lens.toY(map.state.y[i]);
  const lines = [
    [4.5, map.inks.paper],
    [2, colour],
  ];
  for (const [wide, ink] of lines) {
    pen.lineWidth = wide;
    pen.strokeStyle = ink;
    pen.beginPath();
    if (map.isSquare(i)) pen.rect(px - radius, py - radius, 2 * radius, 2 * radius);
    else pen.arc(px, py, radius, 0, 7);
    pen.stroke();
  }
  if (words) drawText(pen, words, px + radius + 2, py + 4, colour, map.inks.paper);
}

// A diamond with its name.
export function drawFlag(pen, map, flag) {
  const { ink, paper } = map.inks;
  const px = map.lens.toX(flag.x);
  const py = map.lens.toY(flag.y);
  const radius = flag.big ? 9 : 6;
  pen.beginPath();
  pen.moveTo(px, py - radius);
  pen.lineTo(px + radius, py);
  pen.lineTo(px, py + radius);
  pen.lineTo(px - radius, py);
  pen.closePath();
  pen.fillStyle = flag.hollow ? paper : ink;
  pen.fill();
  pen.lineWidth = flag.big ? 3 : 1.5;
  pen.strokeStyle = flag.hollow ? ink : paper;
  pen.stroke();
  drawText(pen, flag.text, px + radius + 2, py + 4, ink, paper);
}
