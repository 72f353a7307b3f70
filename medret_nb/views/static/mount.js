// Mounting: the same frame around each view, over a widget's model or over nothing but a page.

import { VIEWS } from "./core.js";
import { h, note } from "./elements.js";
import { unpack } from "./packed.js";

function headOf({ title, lead, stamps = [], says = [] }) {
  return h(
    "header",
    {},
    h("h2", { dir: "auto" }, title),
    lead && h("p", { class: "lead", dir: "auto" }, lead),
    stamps.map((stamp) => h("p", { class: "stamp" }, stamp)),
    says.map(note),
  );
}

function drawView(root, payload, host, kept) {
  const { view, data, empty } = payload;
  if (!VIEWS[view]) throw new Error(`there is no view named ${view}`);
  if (!empty) VIEWS[view](root, unpack({ ...data, ...payload.private }, kept), host);
}

// Fill an element with a view; returns what is to be called when it is removed.
function frame(el, payload, host) {
  const kept = [];
  const leaving = [];
  const root = h("div", { class: "body" });
  el.classList.add("medret");
  el.replaceChildren(headOf(payload), root);
  host.leave = (call) => leaving.push(call);
  try {
    drawView(root, payload, host, kept);
    el.dataset.ready = payload.view;
  } catch (error) {
    const told = `This view could not be drawn: ${error.message}`;
    root.replaceChildren(h("p", { class: "note", role: "alert" }, told));
    console.error(error);
  }
  return () => {
    for (const call of leaving) call();
    for (const images of kept) images.free();
  };
}

// JupyterLab: the state lives in the widget, and Python answers.
class ModelHost {
  constructor(model) {
    this.model = model;
    this.turn = 0;
    this.before = Promise.resolve();
    this.waiting = new Map();
    this.listeners = [];
    this.last = { ...this.chosen() };
    this.onState = () => this.tellState();
    this.onAnswer = () => this.takeAnswer();
    model.on("change:state", this.onState);
    model.on("change:answer", this.onAnswer);
  }

  chosen() {
    return this.model.get("state") ?? {};
  }

  tellState() {
    const now = { ...this.chosen() };
    for (const [key, call] of this.listeners) {
      if (now[key] !== this.last[key]) call(now[key]);
    }
    this.last = now;
  }

  takeAnswer() {
    const { id, error, ...found } = this.model.get("answer") ?? {};
    const call = this.waiting.get(id);
    if (!call) return;
    this.waiting.delete(id);
    if (error) call.reject(new Error(error));
    else call.resolve(unpack(found, []));
    setTimeout(() => this.emptyAnswer(id));
  }

  // What was taken is no state that a notebook should save.
  emptyAnswer(id) {
    if (this.model.get("answer")?.id !== id) return;
    this.model.set("answer", {});
    this.model.save_changes();
  }

  can(kind) {
    return (this.model.get("payload").asks ?? []).includes(kind);
  }

  get(key, otherwise = null) {
    return this.chosen()[key] ?? otherwise;
  }

  set(key, value) {
    if (this.chosen()[key] === value) return;
    this.model.set("state", { ...this.chosen(), [key]: value });
    this.model.save_changes();
  }

  on(key, call) {
    this.listeners.push([key, call]);
  }

  // One at a time: of two requests that wait to be sent the later would replace the earlier.
  ask(kind, fields) {
    const id = `${Date.now()}-${this.turn++}-${Math.random()}`;
    const mine = this.before.then(() => this.send(id, kind, fields));
    this.before = mine.catch(() => {});
    return mine;
  }

  send(id, kind, fields) {
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.model.set("request", { id, kind, ...fields });
      this.model.save_changes();
    });
  }

  free() {
    this.model.off("change:state", this.onState);
    this.model.off("change:answer", this.onAnswer);
  }
}

// A page without a kernel: nobody to ask.
class PageHost {
  constructor(chosen) {
    this.chosen = chosen;
    this.listeners = [];
  }

  can() {
    return false;
  }

  ask() {
    return Promise.reject(new Error("This needs a running kernel."));
  }

  get(key, otherwise = null) {
    return this.chosen[key] ?? otherwise;
  }

  set(key, value) {
    if (this.chosen[key] === value) return;
    this.chosen[key] = value;
    for (const [name, call] of this.listeners) {
      if (name === key) call(value);
    }
  }

  on(key, call) {
    this.listeners.push([key, call]);
  }
}

// Each view of the page: an element, and after it what it shows. The last line of a page's script calls this.
export function bootstrap() {
  for (const el of document.querySelectorAll("[data-medret]")) {
    const { payload, state } = JSON.parse(el.nextElementSibling.textContent);
    frame(el, payload, new PageHost(state));
  }
}

export default {
  render({ model, el }) {
    let host;
    let leave;
    const start = () => {
      host = new ModelHost(model);
      leave = frame(el, model.get("payload"), host);
    };
    const stop = () => {
      host.free();
      leave();
    };
    const again = () => {
      stop();
      start();
    };
    start();
    model.on("change:payload", again);
    return () => {
      model.off("change:payload", again);
      stop();
    };
  },
};
