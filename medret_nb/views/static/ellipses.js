// A query's cloud, its partner's and its strongest confusers', in the plane through three means.
// data: count, ids, similarity, shape (a sentence), confusers k, share (of the contour); directions {it, ti: {rows, trace, ranks, tau, told, axes,
// px, py, others (Q, k), xy (Q, k, 3, 2), cov (Q, k, 3, 3), parts (Q, 1 + k, 2), sphere (Q, 1 + k)}}; texts, films (private)

define("ellipses", (root, data, host) => {
  const id = i => data.ids[i], SIDES = { it: ["film", "report"], ti: ["report", "film"] }, INKS = ["--ink", "--hit", "--miss"];
  const way = () => host.get("direction", "it"), now = () => data.directions[way()], names = c => [`query: the ${SIDES[way()][0]}`, `its own ${SIDES[way()][1]}`, `confuser ${c + 1}`];
  const drawing = h("div", { class: "drawing" }), words = h("div", { "aria-live": "polite" }), cardsOf = h("div", {}), told = h("p", { class: "note" });
  let plane = null, list = null;
  const lists = h("div"), planes = h("div");

  function build() {                         // table and map of one direction
    const d = now();
    if (plane) plane.free();
    list = table({ count: d.rows.length, caption: `Each ${SIDES[way()][0]} as a query. Uncertainty: the sum of its ${data.dim} variances.`, onpick: choose, columns: [
      { name: "study", get: r => id(d.rows[r]) }, { name: "uncertainty", get: r => d.trace[r], digits: 3 }, { name: "rank", get: r => d.ranks[r], digits: 0 }, { name: d.axes[0], get: r => d.raw[r], digits: d.whole ? 0 : 2 },
      ...(data.texts ? [{ name: "report", extra: true, get: r => data.texts[d.rows[r]].slice(0, 80) + (data.texts[d.rows[r]].length > 80 ? " …" : "") }] : [])] });
    list.sort(1, true);
    plane = scatter({ x: d.px, y: d.py, label: r => `${id(d.rows[r])}: uncertainty ${number(d.trace[r])}, ${d.axes[0]} ${number(d.raw[r], d.whole ? 0 : 2)}`, onpick: choose, alt: `${d.axes[0]} to the right, uncertainty upward` });
    told.textContent = d.told;
    lists.replaceChildren(list.node); planes.replaceChildren(plane.node, h("p", { class: "note" }, `To the right: ${d.axes[0]}. Upward: uncertainty. Both by rank.`), told);
  }
  function choose(r) { host.set("confuser", 0); host.set("chosen", r); }
  function outline(cov, share, sphere) {     // the contour that holds `share` of a plane Gaussian: half axes and angle in degrees
    const size = Math.sqrt(-2 * Math.log(1 - share));
    if (sphere !== undefined) { const r = size * Math.sqrt(sphere); return [r, r, 0]; }
    const [a, b, c] = cov, mid = (a + c) / 2, off = Math.hypot((a - c) / 2, b);
    return [size * Math.sqrt(Math.max(0, mid + off)), size * Math.sqrt(Math.max(0, mid - off)), Math.atan2(2 * b, a - c) * 90 / Math.PI];
  }
  function draw(d, r, c) {
    const k = data.confusers, at = (r * k + c), xy = [0, 1, 2].map(j => [d.xy[(at * 3 + j) * 2], d.xy[(at * 3 + j) * 2 + 1]]);
    const shapes = [0, 1, 2].map(j => outline([0, 1, 2].map(m => d.cov[(at * 3 + j) * 3 + m]), data.share)), rounds = [0, 1, 2].map(j => outline(null, data.share, d.ball[at * 3 + j]));
    const pads = shapes.map((s, j) => Math.max(s[0], host.get("round", false) ? rounds[j][0] : 0));
    const low = [0, 1].map(a => Math.min(...xy.map((p, j) => p[a] - pads[j]))), high = [0, 1].map(a => Math.max(...xy.map((p, j) => p[a] + pads[j])));
    const span = Math.max(high[0] - low[0], (high[1] - low[1]) * 1.4) || 1, scale = 520 / span, W = 640, H = 440;
    const X = v => W / 2 + (v - (low[0] + high[0]) / 2) * scale, Y = v => H / 2 - (v - (low[1] + high[1]) / 2) * scale;
    const sides = [[0, 1], [0, 2], [1, 2]].map(([a, b]) => ({ a, b, far: Math.hypot(xy[a][0] - xy[b][0], xy[a][1] - xy[b][1]) }));
    const kind = (shape, j, style) => svg("ellipse", { cx: X(xy[j][0]), cy: Y(xy[j][1]), rx: shape[0] * scale, ry: shape[1] * scale, transform: `rotate(${-shape[2]} ${X(xy[j][0])} ${Y(xy[j][1])})`, style: `fill:none;stroke:var(${INKS[j]});${style}` });
    drawing.replaceChildren(svg("svg", { class: "plot", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `Three clouds in the plane through their means. ${sides.map(s => `${names(c)[s.a]} to ${names(c)[s.b]}: ${number(s.far)}`).join("; ")}` },
      sides.map(s => svg("line", { x1: X(xy[s.a][0]), y1: Y(xy[s.a][1]), x2: X(xy[s.b][0]), y2: Y(xy[s.b][1]), style: "stroke:var(--line);stroke-width:1.5" })),
      shapes.map((s, j) => kind(s, j, `stroke-width:2.5;${["", "stroke-dasharray:9 4", "stroke-dasharray:2 4"][j]}`)), host.get("round", false) ? rounds.map((s, j) => kind(s, j, "stroke-width:1;opacity:0.8")) : [],
      sides.map(s => svg("text", { x: (X(xy[s.a][0]) + X(xy[s.b][0])) / 2, y: (Y(xy[s.a][1]) + Y(xy[s.b][1])) / 2, class: "halo far", "text-anchor": "middle" }, number(s.far))),
      xy.map((p, j) => svg("circle", { cx: X(p[0]), cy: Y(p[1]), r: 4.5, style: `fill:var(${INKS[j]})` })),
      xy.map((p, j) => svg("text", { x: X(p[0]) + (X(p[0]) > W * 0.7 ? -8 : 8), y: Y(p[1]) + (j === 0 ? 16 : -7), class: "halo", "text-anchor": X(p[0]) > W * 0.7 ? "end" : "start", style: `fill:var(${INKS[j]});font-weight:600` }, names(c)[j]))));
  }
  function tell(d, r, c) {
    const k = data.confusers, part = j => [d.parts[(r * (k + 1) + j) * 2], d.parts[(r * (k + 1) + j) * 2 + 1]], own = part(0), other = part(c + 1), total = p => p[0] + p[1];
    const gain = own.map((v, m) => v - other[m]), all = gain[0] + gain[1], near = all > 0;
    const rows = [["its own " + SIDES[way()][1], own, 0], ...Array.from({ length: k }, (_, j) => [`confuser ${j + 1}: ${id(d.others[r * k + j])}`, part(j + 1), j + 1])];
    words.replaceChildren(
      h("div", { class: "scroll" }, h("table", { class: "parts" }, h("caption", {}, data.formula), h("thead", {}, h("tr", {}, ["candidate", "from the means", "from the variances", "distance", "if round"].map(t => h("th", { scope: "col" }, t)))),
        h("tbody", {}, rows.map(([name, p, j]) => h("tr", { class: j === c + 1 ? "chosen" : null, onclick: () => j && host.set("confuser", j - 1) }, h("td", {}, j ? h("button", { type: "button", class: "link", "aria-pressed": String(j === c + 1), onclick: e => { e.stopPropagation(); host.set("confuser", j - 1); } }, name) : name),
          [p[0], p[1], total(p), d.sphere[r * (k + 1) + j]].map(v => h("td", { class: "num" }, number(v)))))))),
      h("p", { class: "verdict-line" }, `Confuser ${c + 1} is ${near ? "nearer" : "farther"} than the query's own ${SIDES[way()][1]} by ${number(Math.abs(all))}: ${number(near ? gain[0] : -gain[0])} from the means, ${number(near ? gain[1] : -gain[1])} from the variances.`), note(data.shape));
  }
  function show() {
    const d = now(), r = host.get("chosen"), k = data.confusers;
    direction.pick(way());
    if (r === null || !(r >= 0 && r < d.rows.length)) { drawing.replaceChildren(note("Choose a query.")); return; }
    const c = Math.min(Math.max(0, host.get("confuser", 0)), k - 1), i = d.rows[r];
    list.choose(r); plane.mark([{ i: r, big: true }]);
    if (!k) { drawing.replaceChildren(note("There is no confuser: every candidate counts as a hit.")); words.replaceChildren(); return; }
    draw(d, r, c); tell(d, r, c);
    const one = (j, kind, more) => ({ images: data.films, film: kind === "film" ? j : null, text: kind === "report" && data.texts ? data.texts[j] : "", ...more }), [asked, wanted] = SIDES[way()], o = d.others[r * k + c];
    cardsOf.replaceChildren(cards([one(i, asked, { title: `query: ${asked} of ${id(i)}`, told: `uncertainty ${number(d.trace[r])}, first hit at rank ${number(d.ranks[r], 0)}` }), one(i, wanted, { title: `its own ${wanted}`, verdict: true }), one(o, wanted, { title: `confuser ${c + 1}: ${id(o)}`, verdict: false })]));
  }
  const direction = choice("Ask with", [["it", "film → reports"], ["ti", "report → films"]], way(), d => { host.set("direction", d); });
  const turn = () => { build(); show(); };
  put(root, h("div", { class: "controls" }, direction, toggle("also round clouds of the same total variance (thin)", host.get("round", false), v => host.set("round", v))),
    h("div", { class: "columns even" }, h("div", {}, drawing, note(`Solid: query; dashed: its own partner; dotted: the confuser. Each outline holds half of its cloud's projection on the plane through the three means. Numbers: distances of the means, as they are in all ${data.dim} dimensions.`)), h("div", {}, words)),
    cardsOf, h("div", { class: "columns even" }, section("Queries", lists), section("Vague and specific", planes)));
  host.on("chosen", show); host.on("confuser", show); host.on("round", show); host.on("direction", turn); host.leave(() => plane.free());
  turn();
});
