// Why queries failed: a table with filters; a click opens query, truth and the first k answers with the words in which reports differ.
// data: ids, relations, meanings, weights, blames, circumstances (names); rows {way, study, other, rank, score, relation, text, truth, weight,
// blame, facts (bits), top (F, k), scores, hits}; second {name, rank, top, scores, hits} or null; hubs [{way, study, count, expected}];
// asked, skewness, score; whatif {row: [{name, cost, rank, top}]}; differences, texts, films (private)

const WAYS = [["film", "report", "film → reports"], ["report", "film", "report → films"]];

const LITTLE = new Set("a an and are as at be by for from has have in is it of on or seen that the there this to was were with noted present identified".split(" "));

function wordsOf(text) { return (text.match(/\S+/g) ?? []).map(w => ({ w, key: w.toLowerCase().replace(/^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$/gu, "") })); }
function sentencesOf(text) { return text.split(/(?<=[.!?;])\s+/).map(wordsOf).filter(s => s.length); }

function common(a, b) {                      // which words of a lie on the longest row of words that a and b have in the same order
  const n = a.length, m = b.length, best = new Uint16Array((n + 1) * (m + 1)), at = (i, j) => i * (m + 1) + j, kept = new Uint8Array(n);
  for (let i = n - 1; i >= 0; i--) for (let j = m - 1; j >= 0; j--) best[at(i, j)] = a[i].key === b[j].key ? best[at(i + 1, j + 1)] + 1 : Math.max(best[at(i + 1, j)], best[at(i, j + 1)]);
  for (let i = 0, j = 0; i < n && j < m;) {
    if (a[i].key === b[j].key) { kept[i] = 1; i++; j++; }
    else if (best[at(i, j + 1)] >= best[at(i + 1, j)]) j++;
    else i++;
  }
  return kept;
}

function ownWords(text, other) {             // words of a text, `own` where the nearest sentence of the other lacks them; null for texts too long to compare
  const mine = sentencesOf(text), theirs = sentencesOf(other), size = s => s.reduce((t, w) => t + w.length, 0);
  if (size(mine) * size(theirs) > 250000) return null;
  return mine.flatMap(sentence => {
    const rows = theirs.map(s => { const kept = common(sentence, s); return { kept, near: kept.reduce((t, v) => t + v, 0) / Math.max(sentence.length, s.length) }; });
    const best = rows.reduce((a, b) => b.near > a.near ? b : a, { kept: new Uint8Array(sentence.length), near: 0 });
    return sentence.map((word, i) => ({ ...word, own: !best.kept[i] && word.key !== "" && !LITTLE.has(word.key) && !/^\d$/.test(word.key) }));
  });
}

function compared(text, other) {             // a report in which the words that the other lacks are marked
  const words = other === null || other === undefined || !text ? null : ownWords(text, other);
  if (!words) return report(text || "(no text)");
  const box = report("");
  words.forEach(({ w, own }, i) => { if (i) box.append(" "); box.append(own ? h("mark", {}, w) : w); });
  return box;
}

define("failures", (root, data, host) => {
  const rows = data.rows, count = rows.rank.length, k = rows.top.shape[1], phantom = data.blames.length > 0;
  const id = i => data.ids[i], text = i => data.texts ? data.texts[i] : "", way = r => WAYS[rows.way[r]];
  const facts = r => data.circumstances.filter((_, b) => rows.facts[r] >> b & 1);
  const detail = h("div", { class: "second", "aria-live": "polite" }), counts = h("div", { class: "counts" });
  const wanted = { way: "all", relation: "all", circumstance: "all", weight: "all", blame: "all", hub: null, words: "" };

  const list = table({ count, caption: "Failed queries: the first answer is not relevant. Rank: where the first relevant one stands.", onpick: r => host.set("chosen", r), columns: [
    { name: "query", get: r => id(rows.study[r]) }, { name: "asked with", get: r => way(r)[0] }, { name: "relation of the first answer", get: r => data.relations[rows.relation[r]] },
    { name: "weight", get: r => data.weights[rows.weight[r]] }, { name: "rank", get: r => rows.rank[r], digits: 0 },
    ...(data.second ? [{ name: `rank, ${data.second.name}`, get: r => data.second.rank[r], digits: 0 }] : []),
    ...(phantom ? [{ name: "whose fault", extra: true, get: r => data.blames[rows.blame[r]] }] : []), ...(data.whatif ? [{ name: "what if", get: r => data.whatif[r] ? "yes" : "" }] : []), { name: "circumstances", extra: true, get: r => facts(r).join(", ") }] });

  function kept(r, but = null) {
    const is = (name, value) => but === name || wanted[name] === "all" || wanted[name] === value;
    if (!is("way", rows.way[r]) || !is("relation", rows.relation[r]) || !is("weight", rows.weight[r]) || phantom && !is("blame", rows.blame[r])) return false;
    if (wanted.circumstance !== "all" && !(rows.facts[r] >> wanted.circumstance & 1)) return false;
    if (wanted.hub && !(rows.way[r] === wanted.hub.way && rows.other[r] === wanted.hub.study)) return false;
    return !wanted.words || `${id(rows.study[r])} ${data.differences ? data.differences[r] : ""} ${text(rows.study[r])} ${text(rows.other[r])}`.toLowerCase().includes(wanted.words);
  }
  const all = Array.from({ length: count }, (_, r) => r);
  function sift() {
    list.show(all.filter(r => kept(r)));
    const tally = data.relations.map((name, i) => ({ name, value: all.filter(r => rows.relation[r] === i && kept(r, "relation")).length, colour: wanted.relation === i || wanted.relation === "all" ? 0 : 8 }));
    const total = tally.reduce((s, t) => s + t.value, 0);
    counts.replaceChildren(section("How the first answer is wrong", bars(tally.filter(t => t.value).map(t => ({ ...t, told: `${t.value} (${Math.round(100 * t.value / Math.max(1, total))} %)` }))), total ? null : note("No failed query is left by these filters.")));
  }
  function pickers() {
    const options = names => [["all", "all"], ...names.map((name, i) => [i, name])];
    const one = (label, name, names) => choice(label, options(names), wanted[name], v => { wanted[name] = v; sift(); });
    return h("div", { class: "controls" }, one("Asked with", "way", WAYS.map(w => w[2])), one("Relation", "relation", data.relations), one("Circumstance", "circumstance", data.circumstances), one("Weight", "weight", data.weights),
      phantom ? one("Whose fault", "blame", data.blames) : null, typed("Filter", data.texts ? "a study, a finding, a word" : "a study", v => { wanted.words = v.trim().toLowerCase(); sift(); }, null, true));
  }

  function answer(r, i, place, score, hit, told = "") {        // one answer: a report compared with the one of the query's study, a film with its own report
    const film = way(r)[1] === "film", own = text(rows.study[r]);
    const address = data.films && film ? data.films.url(i) : null;
    return h("article", { class: `card ${hit ? "hit" : "miss"}` }, h("div", { class: "head" }, h("strong", {}, `${place}. ${id(i)}`), h("span", { class: "verdict" }, hit ? "relevant" : "not relevant")),
      address && h("img", { src: address, alt: `radiograph of ${id(i)}` }), h("div", { class: "told" }, `${data.score} ${number(score)}${told}`), data.texts ? [film ? h("div", { class: "told" }, "its own report:") : null, compared(text(i), own)] : null);
  }
  function answers(r, top, scores, hits, title, lead) {
    const cardsOf = Array.from(top.row(r), (i, p) => i >= data.ids.length ? null : h("li", {}, answer(r, i, p + 1, scores.row(r)[p], hits.row(r)[p])));
    return section(title, lead ? note(lead) : null, h("ol", { class: way(r)[1] === "report" ? "cards ranked texts" : "cards ranked" }, cardsOf));
  }
  function side(r) {                           // query and truth, and the first answer's study, next to each other
    const i = rows.study[r], j = rows.other[r], film = way(r)[0] === "film";
    const half = (title, s, other, lead) => section(title, data.films && data.films.url(s) ? h("img", { class: "film", src: data.films.url(s), alt: `radiograph of ${id(s)}` }) : null, note(lead), data.texts ? compared(text(s), text(other)) : null);
    return h("div", { class: "columns even" }, half(`Query and truth: ${id(i)}`, i, j, film ? "asked with the film; the report is the truth, which the model does not see" : "asked with the report; the film is the truth"),
      half(`First answer: ${id(j)}`, j, i, film ? "found: the report; the film is the one it was written for" : "found: the film, with its own report"));
  }
  function verdict(r) {
    const line = (name, value) => value ? h("li", {}, h("strong", {}, `${name}: `), value) : null;
    const by = phantom && rows.text[r] !== rows.truth[r] ? ` (by its text alone: ${data.relations[rows.text[r]]})` : "";
    return section(`The first answer: ${data.relations[rows.relation[r]]}${by}`, note(data.meanings[rows.relation[r]]), h("ul", { class: "plain" }, line("differences", data.differences && data.differences[r]), line("clinical weight", data.weights[rows.weight[r]]),
      phantom ? line("whose fault", data.blames[rows.blame[r]]) : null, line("circumstances", facts(r).join(", ")), line("the first relevant answer stands at rank", number(rows.rank[r], rows.rank[r] % 1 ? 1 : 0))));
  }

  function listed(changes, i) {                // what other facts would have done
    const sorted = [...changes].sort((a, b) => a.cost - b.cost || a.rank - b.rank || (a.name < b.name ? -1 : 1)), helps = sorted.find(c => c.rank <= 1 && c.cost > 0);
    return [note(helps ? `The smallest change that makes it succeed: ${helps.name}.` : "None of these changes makes it succeed."),
      h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ["one fact of the query changed", "rank of its own partner", "first answer then"].map(t => h("th", { scope: "col" }, t)))),
        h("tbody", {}, sorted.map(c => h("tr", { class: c === helps ? "chosen" : null }, h("td", {}, c.name), h("td", { class: "num" }, number(c.rank, c.rank % 1 ? 1 : 0)), h("td", {}, c.first ?? "–"))))))];
  }
  let turn = 0;
  function whatif(r) {
    const ready = data.whatif && data.whatif[r], box = h("div", { class: "whatif" }), mine = ++turn;
    if (ready) put(box, ...listed(ready));
    else if (host.can("whatif")) put(box, h("button", { type: "button", onclick: async () => {
      box.replaceChildren(note("Changing one fact at a time …"));
      try { const got = await host.ask("whatif", { row: r }); if (mine === turn) box.replaceChildren(...listed(got.changes)); }
      catch (error) { if (mine === turn) box.replaceChildren(note(error.message)); }
    } }, "Change one fact at a time"));
    else return null;
    return section("What if one fact of the query were different?", box);
  }
  function notebook(r) {                       // a note of one's own; needs the kernel, which writes it beside the run
    if (!host.can("note")) return null;
    const words = h("textarea", { rows: 2, "aria-label": "note", placeholder: "what you think went wrong" }), tags = h("input", { type: "text", "aria-label": "tags", placeholder: "tags, separated by commas" }), told = h("span", { class: "where", role: "status" });
    host.ask("read", { row: r }).then(kept => { words.value = kept.note; tags.value = kept.tags; }, error => { told.textContent = error.message; });
    const send = async (kind, fields) => { try { told.textContent = (await host.ask(kind, fields)).told; } catch (error) { told.textContent = error.message; } };
    return section("Note", h("div", { class: "controls" }, words, tags, h("button", { type: "button", onclick: () => send("note", { row: r, note: words.value, tags: tags.value }) }, "Save note"), h("button", { type: "button", onclick: () => send("export", {}) }, "Export all as CSV"), told));
  }
  function show() {
    const r = host.get("chosen");
    if (r === null || !(r >= 0 && r < count)) { detail.replaceChildren(note("Choose a failed query.")); return; }
    list.choose(r);
    const mine = [`First relevant at rank ${number(rows.rank[r], rows.rank[r] % 1 ? 1 : 0)}.`, `Marked: words that the nearest sentence in the report of the query's own study lacks.`];
    const first = answers(r, rows.top, rows.scores, rows.hits, `The ${k} ${way(r)[1]}s found first`, data.texts ? mine.join(" ") : mine[0]);
    const second = data.second ? answers(r, data.second.top, data.second.scores, data.second.hits, `The same query, ${data.second.name}`, `First relevant at rank ${number(data.second.rank[r], 0)}.`) : null;
    detail.replaceChildren(verdict(r), side(r), ...[whatif(r), notebook(r)].filter(Boolean), ...(second ? [h("div", { class: "columns even" }, first, second)] : [first]));
  }
  function popular() {
    const chips = data.hubs.map(b => h("li", {}, h("button", { type: "button", class: "link", onclick: () => { wanted.hub = wanted.hub && wanted.hub.study === b.study && wanted.hub.way === b.way ? null : b; sift(); } }, `${WAYS[b.way][1]} of ${id(b.study)}`), ` in ${b.count} lists (${number(b.expected, 0)} expected)`));
    return section("Hubs", note(data.hubnote), h("ul", { class: "plain" }, chips));
  }
  put(root, pickers(), h("div", { class: "linked" }, h("div", { class: "first" }, counts, list.node), detail, h("div", { class: "last" }, data.hubs.length ? popular() : null)));
  host.on("chosen", show);
  sift(); show();
});
