// Elements. Texts reach the page as text nodes alone: no string of a report is ever read as HTML.

import { number } from "./numbers.js";

function setAttribute(node, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
  else if (name === "value") node.value = value;
  else node.setAttribute(name, value === true ? "" : value);
}

function isThere(child) {
  return child !== null && child !== undefined && child !== false;
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) setAttribute(node, name, value);
  node.append(...children.flat(2).filter(isThere)); // a string becomes a text node
  return node;
}

// h("p", { class: "note", onclick: call }, "text", child, [children], null): an element; what is null or false is
// left out.
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  return fill(node, attributes, children);
}

// Append, leaving out what is null.
export function put(node, ...children) {
  return fill(node, {}, children);
}

// Put these in the place of all that is there, leaving out what is null.
export function replace(node, ...children) {
  node.replaceChildren();
  return put(node, ...children);
}

export function note(text) {
  return h("p", { class: "note" }, text);
}

export function section(title, ...children) {
  return h("section", { class: "panel" }, h("h3", {}, title), ...children);
}

// A text as it stands, in its own direction; long ones scroll in place.
export function report(text) {
  const scrolls = text.length > 600;
  const attributes = {
    class: "report",
    dir: "auto",
    tabindex: scrolls ? 0 : null,
    role: scrolls ? "region" : null,
    "aria-label": scrolls ? "report, scrolls" : null,
  };
  return h("div", attributes, text);
}

// A box over a film, in an svg of 100 x 100; the box in fractions.
export function rectangle([x0, y0, x1, y1], kind) {
  return svg("rect", {
    class: kind,
    x: 100 * x0,
    y: 100 * y0,
    width: Math.max(0, 100 * (x1 - x0)),
    height: Math.max(0, 100 * (y1 - y0)),
    "vector-effect": "non-scaling-stroke",
  });
}

// The svg in which such boxes lie.
export function overlay() {
  return svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" });
}

// The head row of a table without sorting.
export function headRow(titles) {
  const heads = titles.map((title) => h("th", { scope: "col" }, title));
  return h("thead", {}, h("tr", {}, heads));
}

function barOf(row, high, unit, digits) {
  const width = Math.min(100, (100 * Math.abs(row.value || 0)) / high);
  const style = `width:${width}%;background:var(--c${row.colour ?? 0})`;
  const told = row.told ?? `${number(row.value, digits)}${unit}`;
  return h(
    "li",
    {},
    h("span", { class: "name", dir: "auto" }, row.name),
    h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: "bar", style })),
    h("span", { class: "value" }, told),
  );
}

// A list of horizontal bars with their numbers. rows: {name, value, colour, told}; top: what a full bar stands for.
export function bars(rows, { top = null, unit = "", digits = 2 } = {}) {
  const high = top ?? Math.max(1e-12, ...rows.map((row) => Math.abs(row.value) || 0));
  const list = rows.map((row) => barOf(row, high, unit, digits));
  return h("ul", { class: "bars" }, list);
}

function cardHead(title, onpick) {
  if (!onpick) return h("strong", {}, title);
  return h("button", { type: "button", class: "link", onclick: onpick }, title);
}

// A film or a report with its title. images and film: which picture; verdict: a hit (true), a miss (false), or
// neither.
export function card(shown) {
  const { title = "", images = null, film = null, text = "", told = "" } = shown;
  const { verdict = null, onpick = null, colour = null } = shown;
  const word = { true: "hit", false: "miss" }[verdict] ?? "";
  const address = images && film !== null ? images.url(film) : null;
  const style = colour === null ? null : `border-left-color: var(--c${colour})`;
  const badge = word && h("span", { class: "verdict" }, word);
  return h(
    "article",
    { class: `card ${word}`, style },
    h("div", { class: "head" }, cardHead(title, onpick), badge),
    address && h("img", { src: address, alt: `radiograph, ${title}` }),
    told && h("div", { class: "told" }, told),
    text && report(text),
  );
}

export function cards(list, { empty = "Nothing to show.", small = false } = {}) {
  const shown = list.length ? list.map(card) : note(empty);
  return h("div", { class: small ? "cards small" : "cards" }, shown);
}
