// The first screen for a run: a map of films and reports, a table, a query, and its answers; all linked by state.chosen.
// data: count; ids; relevance; score; maps [{name, told, x, y}] of 2 count points, films first; colours [{name, colour, names, others}];
// directions {it, ti: {ranks, rows, positions, scores, hits}}; texts, films, findings (private)

const SIDES = { it: ["film", "report", "film → reports"], ti: ["report", "film", "report → films"] };

define("explorer", (root, data, host) => {
  const n = data.count, id = i => data.ids[i], found = i => data.findings ? data.findings[i] || "no finding named" : null;
  const way = () => host.get("direction", "it"), rowOf = {};
  for (const d of ["it", "ti"]) { rowOf[d] = new Map(); data.directions[d].rows.forEach((i, r) => rowOf[d].set(i, r)); }
  const label = p => `${p < n ? "film" : "report"} of ${id(p % n)}${data.findings ? `: ${found(p % n)}` : ""}`;
  const mapOf = name => data.maps.find(m => m.name === name) ?? data.maps[0], colourOf = name => data.colours.find(c => c.name === name) ?? data.colours[0];
  let map = mapOf(host.get("map")), sentence = null, turn = 0;

  const told = h("p", { class: "note" }), answer = h("div", { class: "second", "aria-live": "polite" });
  const plane = scatter({ ...map, shape: Uint8Array.from({ length: 2 * n }, (_, p) => p < n ? 0 : 1), shapes: ["film", "report"], label, onpick: p => pick(p % n, p < n ? "it" : "ti"), onflag: () => {},
    alt: `Map of ${n.toLocaleString("en")} films and their reports` });
  const rank = d => i => { const r = rowOf[d].get(i); return r === undefined ? null : data.directions[d].ranks[r]; };
  const list = table({ count: n, caption: `Studies; a click asks with the ${SIDES.it[0]} or report. Ranks: where the first hit stands. A hit is ${data.relevance.it}.`, onpick: i => pick(i, way()), columns: [
    { name: "study", get: id }, { name: "rank of the report", get: rank("it"), digits: 0 }, { name: "rank of the film", get: rank("ti"), digits: 0 },
    ...(data.findings ? [{ name: "findings named", get: i => data.findings[i] }] : []), ...(data.texts ? [{ name: "report", extra: true, get: i => data.texts[i].slice(0, 90) + (data.texts[i].length > 90 ? " …" : "") }] : [])] });

  function pick(i, direction) { sentence = null; host.set("direction", direction); host.set("chosen", i); show(); }
  function shown(i, kind, more = {}) { return { title: `${kind} of ${id(i)}`, images: data.films, film: kind === "film" ? i : null, text: kind === "report" && data.texts ? data.texts[i] : "", told: kind === "film" && data.findings ? `named: ${found(i)}` : "", ...more }; }
  function listing(side, positions, scores, hits, ask) {      // the answers, each a way to go on from
    return h("ol", { class: side === "it" ? "cards ranked texts" : "cards ranked" }, Array.from(positions, (p, r) => h("li", {}, card(shown(p, SIDES[side][1], {
      title: `${r + 1}. ${id(p)}`, verdict: hits ? Boolean(hits[r]) : null, told: `${data.score} ${number(scores[r])}${side === "it" || !data.findings ? "" : `; named: ${found(p)}`}`, onpick: () => pick(p, side === "it" ? "ti" : "it") })))));
  }
  function marksOf(side, positions, hits, own) {
    const shift = side === "it" ? n : 0;
    return [...Array.from(positions, (p, r) => ({ i: p + shift, text: String(r + 1), colour: hits && hits[r] ? "--hit" : "--miss" })).reverse(), ...(own === null ? [] : [{ i: own + shift, big: true, text: "its partner", colour: "--hit" }, { i: own + n - shift, big: true, text: "query", colour: "--ink" }])];
  }
  function tell(i, side, { positions, scores, hits, rank }) {
    const place = rank === undefined ? "" : ` First hit at rank ${Number.isInteger(rank) ? rank : rank.toFixed(1)} of ${n.toLocaleString("en")}.`;
    answer.replaceChildren(section("Query", card(shown(i, SIDES[side][0])), side === "it" && data.texts ? h("details", {}, h("summary", {}, "Its own report (the model does not see it)"), report(data.texts[i])) : side === "ti" && data.films && data.films.url(i) ? h("details", {}, h("summary", {}, "Its own film (the model does not see it)"), card(shown(i, "film"))) : null),
      section(`The ${positions.length} ${SIDES[side][1]}s found first`, note(`A hit is ${data.relevance[side]}.${place}`), listing(side, positions, scores, hits)));
    plane.mark(marksOf(side, positions, hits, i));
  }
  async function show() {
    const i = host.get("chosen"), side = way(), mine = ++turn;
    direction.pick(side);
    if (sentence) return;
    list.choose(i);
    if (i === null || !(i >= 0 && i < n)) { answer.replaceChildren(note("Choose a point of the map or a row of the table to ask with it.")); return plane.mark([]); }
    const d = data.directions[side], r = rowOf[side].get(i);
    if (r !== undefined) return tell(i, side, { positions: d.positions.row(r), scores: d.scores.row(r), hits: d.hits.row(r), rank: d.ranks[r] });
    if (!host.can("search")) { plane.mark([{ i: side === "it" ? i : i + n, big: true, text: "query" }]); return answer.replaceChildren(section("Query", card(shown(i, SIDES[side][0])), note(`This page holds the answers to ${rowOf[side].size.toLocaleString("en")} of ${n.toLocaleString("en")} queries; this is none of them.`))); }
    answer.replaceChildren(note("Searching …"));
    try { const got = await host.ask("search", { direction: side, row: i }); if (mine === turn) tell(i, side, { positions: got.positions, scores: got.scores, hits: got.hits, rank: got.rank }); }
    catch (error) { answer.replaceChildren(note(error.message)); }
  }
  async function say(words) {
    if (!words.trim()) return;
    const mine = ++turn;
    answer.replaceChildren(note("Searching …"));
    try {
      const got = await host.ask("sentence", { text: words });
      if (mine !== turn) return;
      sentence = { words, got };
      answer.replaceChildren(section("Query: a sentence", card({ title: "you asked", text: words })), section(`The ${got.positions.length} films found first`, listing("ti", got.positions, got.scores, null)));
      plane.mark(marksOf("ti", got.positions, null, null)); flag();
    } catch (error) { answer.replaceChildren(note(error.message)); }
  }
  function flag() { const at = sentence && sentence.got.places[map.name]; plane.update({ flags: at ? [{ x: at[0], y: at[1], text: "your sentence", big: true }] : [] }); }
  function draw() {
    map = mapOf(host.get("map"));
    const { colour, names, others } = colourOf(host.get("colour"));
    plane.update({ x: map.x, y: map.y, colour, names, others }); flag();
    told.textContent = `${map.name}: ${map.told}.`;
    show();
  }
  function sift(words) {
    const wanted = words.trim().toLowerCase(), all = Array.from({ length: n }, (_, i) => i);
    const kept = wanted ? all.filter(i => `${id(i)} ${data.findings ? data.findings[i] : ""} ${data.texts ? data.texts[i] : ""}`.toLowerCase().includes(wanted)) : all;
    const there = wanted ? new Uint8Array(2 * n) : null;
    if (there) for (const i of kept) there[i] = there[i + n] = 1;
    list.show(kept); plane.update({ shown: there });
  }
  const direction = choice("Ask with", [["it", SIDES.it[2]], ["ti", SIDES.ti[2]]], way(), d => { sentence = null; host.set("direction", d); flag(); show(); });
  put(root,
    h("div", { class: "controls" }, direction, choice("Map", data.maps.map(m => m.name), map.name, v => { host.set("map", v); draw(); }), choice("Colour", data.colours.map(c => c.name), host.get("colour"), v => { host.set("colour", v); draw(); }),
      typed("Filter", data.texts ? "a study, a finding, a word of the report" : "a study", sift, null, true)),
    host.can("sentence") ? h("div", { class: "controls" }, typed("Ask with a sentence", "Large right pleural effusion.", say, "Search films")) : null,
    h("div", { class: "linked" }, h("div", { class: "first" }, plane.node, told), answer, h("div", { class: "last" }, list.node)));
  host.on("chosen", () => { sentence = null; flag(); show(); }); host.on("direction", show); host.on("map", draw); host.on("colour", draw); host.leave(plane.free);
  draw();
});
