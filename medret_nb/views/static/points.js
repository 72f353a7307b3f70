// The simplest view: a map of points, a filter, and the card of the chosen one.
// data: x, y; colour, names (optional); titles, texts, films (optional)

define("points", (root, data, host) => {
  const count = data.x.length, title = i => data.titles ? data.titles[i] : `item ${i}`;
  const side = h("div", { class: "cards", "aria-live": "polite" });
  const map = scatter({ x: data.x, y: data.y, colour: data.colour, names: data.names ?? [], others: data.others, alt: `Map of ${count.toLocaleString("en")} points`, label: title, onpick: i => host.set("chosen", i) });
  const show = i => {
    const there = i !== null && i >= 0 && i < count;
    side.replaceChildren(there ? card({ title: title(i), images: data.films, film: i, text: data.texts ? data.texts[i] : "", told: data.names && data.colour ? data.names[data.colour[i]] ?? data.others ?? "" : "" }) : note("Choose a point."));
    map.mark(there ? [{ i, big: true }] : []);
  };
  const sift = words => {
    const wanted = words.trim().toLowerCase();
    map.update({ shown: wanted ? Uint8Array.from({ length: count }, (_, i) => `${title(i)} ${data.texts ? data.texts[i] : ""}`.toLowerCase().includes(wanted) ? 1 : 0) : null });
  };
  root.append(h("div", { class: "controls" }, typed("Filter", "a word of the title or text", sift, null, true)), h("div", { class: "columns" }, map.node, side));
  host.on("chosen", show); host.leave(map.free);
  show(host.get("chosen"));
});
