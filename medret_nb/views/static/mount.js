// Mounting: the same frame around each view, over a widget's model or over nothing but a page.

function frame(el, payload, host) {
  const kept = [], leaving = [], { view, title, lead, stamps = [], says = [] } = payload;
  const root = h("div", { class: "body" });
  el.classList.add("medret");
  el.replaceChildren(h("header", {}, h("h2", { dir: "auto" }, title), lead && h("p", { class: "lead", dir: "auto" }, lead), stamps.map(s => h("p", { class: "stamp" }, s)), says.map(note)), root);
  host.leave = call => leaving.push(call);
  try {
    if (!VIEWS[view]) throw new Error(`there is no view named ${view}`);
    if (!payload.empty) VIEWS[view](root, unpack({ ...payload.data, ...payload.private }, kept), host);
    el.dataset.ready = view;
  } catch (error) {
    root.replaceChildren(h("p", { class: "note", role: "alert" }, `This view could not be drawn: ${error.message}`));
    console.error(error);
  }
  return () => { leaving.forEach(call => call()); kept.forEach(images => images.free()); };
}

function overModel(model) {                  // JupyterLab: the state lives in the widget
  let turn = 0, before = Promise.resolve();
  const waiting = new Map(), listeners = [], state = () => model.get("state") ?? {};
  let last = { ...state() };
  const onState = () => { const now = { ...state() }; for (const [key, call] of listeners) if (now[key] !== last[key]) call(now[key]); last = now; };
  const onAnswer = () => {
    const { id, error, ...found } = model.get("answer") ?? {}, call = waiting.get(id);
    if (!call) return;
    waiting.delete(id);
    if (error) call.no(new Error(error)); else call.yes(unpack(found, []));
    setTimeout(() => { if (model.get("answer")?.id === id) { model.set("answer", {}); model.save_changes(); } });      // taken: it is no state that a notebook should save
  };
  model.on("change:state", onState); model.on("change:answer", onAnswer);
  return {
    can: kind => (model.get("payload").asks ?? []).includes(kind),
    get: (key, otherwise = null) => state()[key] ?? otherwise,
    set(key, value) { if (state()[key] === value) return; model.set("state", { ...state(), [key]: value }); model.save_changes(); },
    on: (key, call) => listeners.push([key, call]),
    ask(kind, fields) {
      const id = `${Date.now()}-${turn++}-${Math.random()}`;           // one at a time: of two requests that wait to be sent the later would replace the earlier
      const mine = before.then(() => new Promise((yes, no) => { waiting.set(id, { yes, no }); model.set("request", { id, kind, ...fields }); model.save_changes(); }));
      before = mine.catch(() => {});
      return mine;
    },
    free() { model.off("change:state", onState); model.off("change:answer", onAnswer); },
  };
}

function overPage(state) {                   // a page without a kernel: nobody to ask
  const listeners = [];
  return { can: () => false, ask: () => Promise.reject(new Error("This needs a running kernel.")), get: (key, otherwise = null) => state[key] ?? otherwise, on: (key, call) => listeners.push([key, call]),
    set(key, value) { if (state[key] === value) return; state[key] = value; for (const [k, call] of listeners) if (k === key) call(value); } };
}

function bootstrap() {                       // each view of the page: an element, and after it what it shows
  for (const el of document.querySelectorAll("[data-medret]")) {
    const { payload, state } = JSON.parse(el.nextElementSibling.textContent);
    frame(el, payload, overPage(state));
  }
}

export default {
  render({ model, el }) {
    let host, leave;
    const start = () => { host = overModel(model); leave = frame(el, model.get("payload"), host); };
    const stop = () => { host.free(); leave(); };
    const again = () => { stop(); start(); };
    start();
    model.on("change:payload", again);
    return () => { model.off("change:payload", again); stop(); };
  },
};
