"""Pages of views for tests in a browser: texts that would do harm, opening a page, a page with a living kernel."""

import base64
import json

import numpy as np

from medret_nb.views.widget import _as_text, safe_json, script, style

HOSTILE = [
    "</script><script>document.title='caught'</script>",
    "<img src=http://127.0.0.1:9/x onerror=\"document.title='caught'\">",
    "\"'`&amp;&lt;b&gt;",
    "\u202eright to left\u2066\u200f",
    "<!--<script>",
    "\ud800 half a pair",
    "word " * 2000,
    "{{constructor}} ${1} \\u003cscript\\u003e",
]


def array_of(packed):
    "A packed array, unpacked."
    return np.frombuffer(packed["data"], packed["$array"]).reshape(packed["shape"])


def opened(page, path, width=1200, scheme="light"):
    "Open a page from disk and wait until its map has been drawn."
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(path.as_uri())
    page.wait_for_selector("#medret-view[data-ready]")


MODEL = """
const listeners = {};
const state = JSON.parse(document.getElementById("start").textContent);
let changed = new Set();

function fire(key) {
  for (const call of [...(listeners["change:" + key] ?? [])]) call();
}

function asText(_, value) {
  if (!(value instanceof DataView)) return value;
  const letters = Array.from(new Uint8Array(value.buffer), (byte) => String.fromCharCode(byte));
  return btoa(letters.join(""));
}

async function send(key) {
  const answers = await window.kernel(key, JSON.stringify(state[key], asText));
  for (const answer of answers) {
    state.answer = answer;
    fire("answer");
  }
}

const model = {
  get: (key) => state[key],
  set(key, value) {
    state[key] = value;
    changed.add(key);
    fire(key);
  },
  on(name, call) {
    (listeners[name] ??= []).push(call);
  },
  off() {},
  async save_changes() {
    const keys = changed;
    changed = new Set();
    for (const key of keys) await send(key);
  },
};
widget.render({ model, el: document.getElementById("view") });
"""
ALIVE = """<!doctype html><meta charset="utf-8"><style>{style}</style><body class="medret-page">
<main id="view"></main><script id="start" type="application/json">{start}</script>
<script type="module">{code}</script>
"""


def alive(page, view, folder, width=1200):
    "A view open in a page whose kernel is this process, as a notebook's widget would be."
    answers = []
    view.observe(lambda change: answers.append(_as_text(change["new"])) if change["new"].get("id") else None, "answer")

    def kernel(key, value):
        value = json.loads(value)
        if isinstance(value.get("data"), str):
            value["data"] = base64.b64decode(value["data"])
        setattr(view, key, value)
        return [answers.pop(0)] if answers else []

    page.expose_function("kernel", kernel)
    code = script().replace("export default", "const widget =") + MODEL
    start = safe_json({"payload": _as_text(view.payload), "state": view.state})
    path = folder / "alive.html"
    path.write_text(ALIVE.format(style=style(), start=start, code=code), encoding="utf-8")
    page.set_viewport_size({"width": width, "height": 1000})
    page.goto(path.as_uri())
    page.wait_for_selector("#view[data-ready]")
