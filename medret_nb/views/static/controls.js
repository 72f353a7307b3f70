// Controls: each is a label with what can be set in it.

import { h } from "./elements.js";

// A list to choose from. options: texts or [value, text]. node.pick(value) shows another choice.
export function choice(label, options, value, onpick) {
  const all = options.map((option) => (Array.isArray(option) ? option : [option, option]));
  const entries = all.map(([, text]) => h("option", {}, text));
  const onchange = () => onpick(all[box.selectedIndex][0]);
  const box = h("select", { "aria-label": label, onchange }, entries);
  const node = h("label", { class: "control" }, h("span", {}, label), box);
  node.pick = (wanted) => {
    const at = all.findIndex(([other]) => other === wanted);
    box.selectedIndex = Math.max(0, at);
  };
  node.pick(value);
  return node;
}

export function slider(label, low, high, step, value, onmove) {
  const told = h("output", {}, String(value));
  const oninput = () => {
    told.textContent = bar.value;
    onmove(Number(bar.value));
  };
  const bar = h("input", { type: "range", min: low, max: high, step, value, oninput });
  return h("label", { class: "control" }, h("span", {}, label), bar, told);
}

export function toggle(label, value, onflip) {
  const box = h("input", { type: "checkbox", onchange: () => onflip(box.checked) });
  box.checked = value;
  return h("label", { class: "control" }, box, h("span", {}, label));
}

// A line of text, taken by Enter and by the button; live: by each pause in typing too.
export function typed(label, placeholder, onenter, button = null, live = false) {
  let timer = 0;
  const take = () => onenter(box.value);
  const onkeydown = (event) => {
    if (event.key === "Enter") take();
  };
  const oninput = () => {
    if (!live) return;
    clearTimeout(timer);
    timer = setTimeout(take, 150);
  };
  const attributes = { type: "text", "aria-label": label, placeholder, onkeydown, oninput };
  const box = h("input", attributes);
  const taker = button && h("button", { type: "button", onclick: take }, button);
  return h("label", { class: "control wide" }, h("span", {}, label), box, taker);
}

// For keys that a view takes for itself: the page does not scroll, and JupyterLab does not hear them.
export function swallow(event) {
  event.preventDefault();
  event.stopPropagation();
}

// The step [right, down] of an arrow key, else undefined.
export function arrowStep(event) {
  const steps = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
  return steps[event.key];
}
