// The first screen for a run: a map of films and reports, a table, a query, and its answers; all linked by state.chosen.
// data: count; ids; relevance; score; maps [{name, told, x, y}] of 2 count points, films first; colours [{name, colour, names, others}];
// directions {it, ti: {ranks, rows, positions, scores, hits}}; regions (names) and limit (bytes of a film), for questions to a kernel; texts, films, findings (private)

const SIDES = { it: ["film", "report", "film → reports"], ti: ["report", "film", "report → films"] };

define("explorer", (root, data, host) => {
  const n = data.count, id = i => data.ids[i], found = i => data.findings ? data.findings[i] || "no finding named" : null;
  const way = () => host.get("direction", "it"), rowOf = {};
  for (const d of ["it", "ti"]) { rowOf[d] = new Map(); data.directions[d].rows.forEach((i, r) => rowOf[d].set(i, r)); }
  const label = p => `${p < n ? "film" : "report"} of ${id(p % n)}${data.findings ? `: ${found(p % n)}` : ""}`;
  const mapOf = name => data.maps.find(m => m.name === name) ?? data.maps[0], colourOf = name => data.colours.find(c => c.name === name) ?? data.colours[0];
  let map = mapOf(host.get("map")), other = null, turn = 0, reading = 0;         // other: a query that is not in the data, {fields, card, flag, places}

  const told = h("p", { class: "note" }), query = h("div", { "aria-live": "polite" }), answer = h("div", { "aria-live": "polite" }), status = h("p", { class: "note", role: "status" });
  const panel = host.can("stage") ? placesPanel(host, data.regions, () => tellQuery()) : null;
  const plane = scatter({ ...map, shape: Uint8Array.from({ length: 2 * n }, (_, p) => p < n ? 0 : 1), shapes: ["film", "report"], label, onpick: p => pick(p % n, p < n ? "it" : "ti"), onflag: () => {},
    alt: `Map of ${n.toLocaleString("en")} films and their reports` });
  const rank = d => i => { const r = rowOf[d].get(i); return r === undefined ? null : data.directions[d].ranks[r]; };
  const list = table({ count: n, caption: `Studies; a click asks with the ${SIDES.it[0]} or report. Ranks: where the first hit stands. A hit is ${data.relevance.it}.`, onpick: i => pick(i, way()), columns: [
    { name: "study", get: id }, { name: "rank of the report", get: rank("it"), digits: 0 }, { name: "rank of the film", get: rank("ti"), digits: 0 },
    ...(data.findings ? [{ name: "findings named", get: i => data.findings[i] }] : []), ...(data.texts ? [{ name: "report", extra: true, get: i => data.texts[i].slice(0, 90) + (data.texts[i].length > 90 ? " …" : "") }] : [])] });

  function pick(i, direction) { leave(); panel?.away(); host.set("direction", direction); host.set("chosen", i); show(); }
  function leave() { other = null; reading++; status.textContent = ""; flag(); }
  function shown(i, kind, more = {}) { return { title: `${kind} of ${id(i)}`, images: data.films, film: kind === "film" ? i : null, text: kind === "report" && data.texts ? data.texts[i] : "", told: kind === "film" && data.findings ? `named: ${found(i)}` : "", ...more }; }
  function listing(side, positions, scores, hits, itself = null, score = data.score) {      // the answers (reports: it, films: ti), each a way to go on from
    return h("ol", { class: side === "it" ? "cards ranked texts" : "cards ranked" }, Array.from(positions, (p, r) => h("li", {}, card(shown(p, SIDES[side][1], {
      title: `${r + 1}. ${id(p)}`, verdict: hits ? Boolean(hits[r]) : null, told: `${score} ${number(scores[r])}${p === itself ? "; the query itself" : ""}${side === "it" || !data.findings ? "" : `; named: ${found(p)}`}`, onpick: () => pick(p, side === "it" ? "ti" : "it") })))));
  }
  function marksOf(side, positions, hits, own = []) {     // numbers at the answers; own: [point, text, colour] of the query and its partner
    const shift = side === "it" ? n : 0;
    return [...Array.from(positions, (p, r) => ({ i: p + shift, text: String(r + 1), colour: hits && hits[r] ? "--hit" : "--miss" })).reverse(), ...own.map(([i, text, colour]) => ({ i, big: true, text, colour }))];
  }
  function ownMarks(i, side) { return side === "it" ? [[i + n, "its partner", "--hit"], [i, "query", "--ink"]] : [[i, "its partner", "--hit"], [i + n, "query", "--ink"]]; }
  function tellQuery() {                       // a film on which one can draw needs no second picture
    const i = host.get("chosen"), side = way(), bare = panel && panel.node.open ? { images: null } : {};
    if (other) return query.replaceChildren(section(other.title, card({ ...other.card, ...bare })));
    if (i !== null && i >= 0 && i < n) query.replaceChildren(section("Query", card(shown(i, SIDES[side][0], bare)), side === "it" && data.texts ? h("details", {}, h("summary", {}, "Its own report (the model does not see it)"), report(data.texts[i])) : side === "ti" && data.films && data.films.url(i) ? h("details", {}, h("summary", {}, "Its own film (the model does not see it)"), card(shown(i, "film"))) : null));
  }
  function tell(i, side, { positions, scores, hits, rank }) {
    const place = rank === undefined ? "" : ` First hit at rank ${Number.isInteger(rank) ? rank : rank.toFixed(1)} of ${n.toLocaleString("en")}.`;
    answer.replaceChildren(section(`The ${positions.length} ${SIDES[side][1]}s found first`, note(`A hit is ${data.relevance[side]}.${place}`), listing(side, positions, scores, hits)));
    plane.mark(marksOf(side, positions, hits, ownMarks(i, side)));
  }
  function tellAsked(got) {                    // what the kernel has searched
    const side = got.find === "reports" ? "it" : "ti", i = other ? null : host.get("chosen");
    if (other) other.places = got.places;
    answer.replaceChildren(section(`The ${got.positions.length} ${SIDES[side][1]}s found first`, got.drawn ? note(`Your box stands for the ${got.drawn}.`) : "", got.told ? note(got.told) : "", got.hits ? note(`A hit is ${data.relevance[side]}.`) : "",
      listing(side, got.positions, got.scores, got.hits, way() === "it" && side === "ti" ? i : null, got.told ? "weighted cosine" : data.score)));
    plane.mark(marksOf(side, got.positions, got.hits, i === null ? [] : ownMarks(i, way()))); flag();
  }
  const ask = (fields, more = {}) => host.ask("ask", { ...fields, ...(panel ? panel.fields() : {}), ...more });
  async function show(ready = null) {          // ready: the answer, where it is there already
    const i = host.get("chosen"), side = way(), mine = ++turn, there = i !== null && i >= 0 && i < n;
    const asked = other ? other.fields : there ? { row: i, side: SIDES[side][0] } : null;
    direction.pick(side);
    if (panel) { panel.about(asked); panel.node.hidden = !asked; }
    if (!other) list.choose(i);
    if (!asked) { query.replaceChildren(); answer.replaceChildren(note("Choose a point of the map or a row of the table to ask with it.")); return plane.mark([]); }
    tellQuery();
    answer.removeAttribute("aria-busy");
    if (ready) return tellAsked(ready);
    const d = data.directions[side], r = rowOf[side].get(i), asking = other || panel && panel.active();
    if (!asking && r !== undefined) return tell(i, side, { positions: d.positions.row(r), scores: d.scores.row(r), hits: d.hits.row(r), rank: d.ranks[r] });
    if (!asking && !host.can("search")) { plane.mark([{ i: side === "it" ? i : i + n, big: true, text: "query" }]); return answer.replaceChildren(note(`This page holds the answers to ${rowOf[side].size.toLocaleString("en")} of ${n.toLocaleString("en")} queries; this is none of them.`)); }
    if (asking) await new Promise(done => setTimeout(done, 150));                 // a slider moves on
    if (mine !== turn) return;
    if (!answer.childElementCount) answer.replaceChildren(note("Searching …"));
    answer.setAttribute("aria-busy", "true");
    try {
      const got = asking ? await ask(asked) : await host.ask("search", { direction: side, row: i });
      if (mine === turn) asking ? tellAsked(got) : tell(i, side, got);
    } catch (error) { if (mine === turn) { answer.replaceChildren(note(error.message)); plane.mark([]); } }
    if (mine === turn) answer.removeAttribute("aria-busy");
  }
  async function present(told, make) {         // a query of one's own: what was there before stays until its answer has come
    const mine = ++reading;
    status.textContent = told;
    try {
      const next = await make(), got = mine === reading && await ask(next.fields, { box: null, stands_for: null });
      if (mine !== reading) return;
      status.textContent = "";
      other = next; panel?.away(); show(got);
    } catch (error) { if (mine === reading) status.textContent = error.message; }
  }
  const say = words => words.trim() && present("Searching …", () => ({ fields: { text: words }, title: "Query: a sentence", flag: "your sentence", card: { title: "you asked", text: words } }));
  const bring = file => present(`Reading ${file.name} …`, async () => {
    const got = await upload(host, file, data.limit);
    return { fields: { film: got.film }, title: "Query: a film from the disk", flag: "your film", card: { title: got.name, images: got.picture, film: 0, told: `${got.told}; held in memory alone` } };
  });
  function flag() { const at = other && other.places && other.places[map.name]; plane.update({ flags: at ? [{ x: at[0], y: at[1], text: other.flag, big: true }] : [] }); }
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
  const direction = choice("Ask with", [["it", SIDES.it[2]], ["ti", SIDES.ti[2]]], way(), d => { leave(); host.set("direction", d); show(); });
  const chooser = h("input", { type: "file", accept: "image/*,.png,.jpg,.jpeg,.jp2,.tif,.tiff,.bmp,.gif,.webp,.pgm", onchange: () => { if (chooser.files.length) bring(chooser.files[0]); chooser.value = ""; } });
  put(root,
    h("div", { class: "controls" }, direction, choice("Map", data.maps.map(m => m.name), map.name, v => { host.set("map", v); draw(); }), choice("Colour", data.colours.map(c => c.name), host.get("colour"), v => { host.set("colour", v); draw(); }),
      typed("Filter", data.texts ? "a study, a finding, a word of the report" : "a study", sift, null, true)),
    host.can("sentence") ? h("div", { class: "controls" }, typed("Ask with a sentence", "Large right pleural effusion.", say, "Search films")) : null,
    host.can("film") ? h("div", { class: "controls" }, h("label", { class: "control wide" }, h("span", {}, "Ask with a film from the disk"), chooser)) : null, status,
    h("div", { class: "linked" }, h("div", { class: "first" }, plane.node, told), h("div", { class: "second" }, query, panel && panel.node, answer), h("div", { class: "last" }, list.node)));
  host.on("chosen", () => { leave(); show(); }); host.on("direction", () => show()); host.on("map", draw); host.on("colour", draw); host.leave(plane.free);
  if (panel) for (const key of ["regions", "box", "stands_for", "rho", "find"]) host.on(key, () => show());
  draw();
});
