// Films and reports on a map with the prototypes of one level on it; what each prototype gathers; pairs that it divides.
// data: count, ids, x, y, told; levels [{name, size, counts (K, 2), state (K texts), dead (K), px, py (K), film, report (N) the prototype of each,
// films, reports (K, m) the nearest, film_scores, report_scores (K, m), divided rows, both}]; texts, films, findings, sentences, gathers (private; by level)

define("prototypes", (root, data, host) => {
  const n = data.count, id = i => data.ids[i], name = k => `P${k + 1}`, levelOf = () => Math.min(host.get("level", 0), data.levels.length - 1), level = () => data.levels[levelOf()];
  const of = p => p < n ? level().film[p] : level().report[p - n], kind = p => p < n ? "film" : "report";
  const panel = h("div", { class: "second", "aria-live": "polite" }), lists = h("div", {}), told = h("p", { class: "note" });
  const plane = scatter({ x: data.x, y: data.y, shape: Uint8Array.from({ length: 2 * n }, (_, p) => p < n ? 0 : 1), shapes: ["film", "report"], alt: `Map of ${n} films and their reports with prototypes`,
    label: p => `${kind(p)} of ${id(p % n)}: nearest to ${name(of(p))}`, onpick: p => { host.set("prototype", of(p)); host.set("study", p % n); }, onflag: f => host.set("prototype", f.k) });
  let table1 = null, table2 = null;

  function painted() {                       // the seven most used prototypes get a colour
    const l = level(), order = Array.from({ length: l.size }, (_, k) => k).sort((a, b) => l.counts.row(b)[0] + l.counts.row(b)[1] - l.counts.row(a)[0] - l.counts.row(a)[1] || a - b).slice(0, 7).sort((a, b) => a - b);
    if (host.get("paint", "prototype") === "kind") return { colour: Uint8Array.from({ length: 2 * n }, (_, p) => p < n ? 0 : 1), names: ["film", "report"], others: null };
    if (host.get("paint") === "divided") { const apart = new Set(l.divided); return { colour: Uint8Array.from({ length: 2 * n }, (_, p) => apart.has(p % n) ? 1 : 0), names: ["both halves at one prototype", "halves divided"], others: null }; }
    return { colour: Uint8Array.from({ length: 2 * n }, (_, p) => { const c = order.indexOf(of(p)); return c < 0 ? order.length : c; }), names: order.map(name), others: l.size > order.length ? "others" : null };
  }
  function build() {
    const l = level(), shared = data.gathers ? data.gathers[levelOf()] : null;
    table1 = table({ count: l.size, caption: `Prototypes of level ${l.name}. A study's film and report are each counted at the prototype nearest to them.`, onpick: k => host.set("prototype", k), columns: [
      { name: "prototype", get: name }, { name: "films", get: k => l.counts.row(k)[0], digits: 0 }, { name: "reports", get: k => l.counts.row(k)[1], digits: 0 }, { name: "state", get: k => l.state[k] || "in use" }, ...(shared ? [{ name: "finding it gathers", extra: true, get: k => shared[k].length ? shared[k][0].name : "–" }] : [])] });
    table2 = table({ count: l.divided.length, size: 8, caption: `${l.divided.length} of ${n} pairs are divided: film and report lie nearest to different prototypes. Widest first.`, onpick: r => { host.set("study", l.divided[r]); pair(l.divided[r]); }, columns: [
      { name: "study", get: r => id(l.divided[r]) }, { name: "its film", get: r => name(l.film[l.divided[r]]) }, { name: "its report", get: r => name(l.report[l.divided[r]]) }, { name: "how far", get: r => l.width[r], digits: 3 }] });
    lists.replaceChildren(section("Prototypes", table1.node), section("Divided pairs", l.divided.length ? table2.node : note("No pair is divided."), pairs));
    plane.update({ ...painted(), flags: Array.from({ length: l.size }, (_, k) => ({ x: l.px[k], y: l.py[k], text: name(k), k, hollow: Boolean(l.dead[k]), big: host.get("prototype") === k })) });
    told.textContent = `${data.told} Diamonds: prototypes; hollow: dead. ${l.told}`;
  }
  const pairs = h("div", { "aria-live": "polite" });
  function pair(i) {
    const l = level();
    pairs.replaceChildren(cards([{ title: `film of ${id(i)}: ${name(l.film[i])}`, images: data.films, film: i, told: data.findings ? `named: ${data.findings[i] || "none"}` : "" }, { title: `its report: ${name(l.report[i])}`, text: data.texts ? data.texts[i] : "" }]));
    plane.mark([{ i, big: true, text: "film" }, { i: i + n, big: true, text: "report" }]);
  }
  function show() {
    const l = level(), k = host.get("prototype", 0);
    if (!(k >= 0 && k < l.size)) return panel.replaceChildren(note("Choose a prototype: a diamond or a row."));
    const [films, reports] = l.counts.row(k), shared = data.gathers ? data.gathers[levelOf()][k] : [], spoken = data.sentences ? data.sentences[levelOf()][k] : [];
    table1.choose(k);
    plane.update({ flags: Array.from({ length: l.size }, (_, j) => ({ x: l.px[j], y: l.py[j], text: name(j), k: j, hollow: Boolean(l.dead[j]), big: j === k })) });
    plane.mark([...Array.from(l.films.row(k), i => ({ i })), ...Array.from(l.reports.row(k), i => ({ i: i + n }))]);
    panel.replaceChildren(
      section(`${name(k)} of level ${l.name}`, l.state[k] ? h("p", { class: "stamp state" }, l.state[k]) : null, bars([{ name: "films", value: films, colour: 0, told: `${films}` }, { name: "reports", value: reports, colour: 1, told: `${reports}` }], { top: Math.max(films, reports, 1) }),
        note(`Of ${films + reports} halves at ${name(k)}, ${l.both[k]} come as whole pairs.`)),
      data.gathers ? section("Findings it gathers", shared.length ? bars(shared.map(f => ({ name: f.name, value: f.share, colour: 2, told: `${Math.round(100 * f.share)} % here, ${Math.round(100 * f.base)} % of all` })), { top: 1 }) : note("No finding is more frequent here than elsewhere.")) : "",
      section("Nearest films", cards(Array.from(l.films.row(k), (i, r) => ({ title: id(i), images: data.films, film: i, told: `${number(l.film_scores.row(k)[r], 2)}${data.findings ? `; ${data.findings[i] || "none named"}` : ""}` })), { small: true })),
      spoken.length ? section("Nearest sentences", h("ul", { class: "sentences" }, spoken.map(s => h("li", { dir: "auto" }, `${number(s.score, 2)}  ${s.text}`)))) : "",
      section("Nearest reports", cards(Array.from(l.reports.row(k), (i, r) => ({ title: id(i), text: data.texts ? data.texts[i] : "", told: number(l.report_scores.row(k)[r], 2) })).slice(0, 4))));
  }
  const turn = () => { pairs.replaceChildren(); build(); show(); };
  put(root, h("div", { class: "controls" }, data.levels.length > 1 ? choice("Level", data.levels.map((l, i) => [i, `${l.name} (${l.size})`]), levelOf(), v => { host.set("prototype", 0); host.set("level", v); }) : null,
    choice("Colour", [["prototype", "nearest prototype"], ["kind", "film or report"], ["divided", "divided pairs"]], host.get("paint", "prototype"), v => host.set("paint", v))),
    h("div", { class: "linked" }, h("div", { class: "first" }, plane.node, told), panel, h("div", { class: "last" }, lists)));
  host.on("level", turn); host.on("prototype", show); host.on("paint", () => plane.update(painted())); host.on("study", i => { if (level().divided.includes(i)) pair(i); }); host.leave(plane.free);
  turn();
});
