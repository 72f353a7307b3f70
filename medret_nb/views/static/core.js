// The register of views, and what a view is.
//
// Python joins all files of this folder into one ES module, which anywidget mounts in JupyterLab and one more line
// starts in a self-contained page. Joined, the files share one scope: each top-level name occurs once in the folder.
//
// A view is a function (root, data, host) registered by define(name, draw): it fills the element `root`.
//   data       what Python packed: numbers, texts, lists, typed arrays (rows of a 2-D array: data.x.row(i)), images
//   host.can(kind)             whether Python answers requests of this kind; never without a kernel
//   host.ask(kind, fields)     a promise of the answer
//   host.get(key, otherwise)   what the user has chosen, kept in step with Python
//   host.set(key, value)       change it
//   host.on(key, call)         to be called with the new value when it changes
//   host.leave(call)           to be called when the view is removed

export const VIEWS = {};

export function define(name, draw) {
  VIEWS[name] = draw;
}
