"RRA-VL: each term is its formula, boxes are given or drawn and said to be, and it learns a few pairs by heart."

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from medret_nb.data.batches import BatchMaker
from medret_nb.data.files import DataError
from medret_nb.data.finding_names import FINDINGS
from medret_nb.data.studies import StudySet
from medret_nb.losses.region_word import sentence_walk, times_even
from medret_nb.methods.clip import CLIP
from medret_nb.methods.rra_vl import (
    REGIONS,
    RRAVL,
    RRAVLConfig,
    box_costs,
    box_loss,
    chosen_boxes,
    fine_patches,
    own_reports,
    padded_words,
    parts_of,
    place_labels,
    place_targets,
    walk_targets,
)
from medret_nb.methods.towers import findings_alike, graded_relevance
from medret_nb.retrieval.embeddings import embed
from medret_nb.retrieval.scoring import score_matrix
from medret_nb.retrieval.search import build_index


@pytest.fixture(scope="module")
def maker(small_phantom):
    return BatchMaker.for_method(small_phantom, RRAVL.create(), augmentation=0)


def encoded_at_random(batch=6, dim=5, words=7, seed=0):
    "What `encode_batch` gives, at random: some regions unknown, two equal texts, some labels uncertain."
    g = torch.Generator().manual_seed(seed)

    def unit(*shape):
        return torch.nn.functional.normalize(torch.randn(*shape, generator=g, dtype=torch.float64), dim=-1)

    known = torch.rand(batch, len(REGIONS), generator=g) < 0.8
    known[2] = False  # a film without any box
    labels = torch.randint(-1, 2, (batch, len(FINDINGS)), generator=g).double()
    at = torch.where(
        torch.rand(batch, len(REGIONS), len(FINDINGS), generator=g) < 0.15,
        torch.randint(-1, 2, (batch, len(REGIONS), len(FINDINGS)), generator=g).double(),
        torch.nan,
    )
    told = torch.arange(words) < torch.arange(2, 2 + batch)[:, None]
    return {
        "image": unit(batch, dim),
        "text": unit(batch, dim),
        "regions": unit(batch, len(REGIONS), dim),
        "looked_at": unit(batch, len(REGIONS), dim),
        "said": unit(batch, len(REGIONS), dim),
        "regions_mask": known,
        "words": unit(batch, words, dim),
        "words_mask": told,
        "sentence": (torch.arange(words) // 3).masked_fill(~told, -1),
        "labels": labels,
        "region_labels": at,
        "text_group": torch.tensor([0, 1, 2, 1, 4, 5])[:batch],
        "box_error": torch.rand(batch, generator=g).double(),
        "seen_error": torch.rand(batch, generator=g).double(),
    }


def cross_entropy(scores, targets):
    "Mean over both directions of the mean, over rows with a target, of soft cross-entropy; loops."
    both = []
    for s, t in ((scores, targets), (scores.T, targets.T)):
        rows = [
            -(t[i] / t[i].sum() * (s[i] - np.logaddexp.reduce(s[i]))).sum() for i in range(len(s)) if t[i].sum() > 0
        ]
        both.append(np.mean(rows) if rows else 0.0)
    return np.mean(both)


def placed(at):
    "The labels of each place as a dict finding -> amount, lungs completed."

    def amounts(row):
        return {f: {1.0: 1.0, -1.0: 0.5}[v] for f, v in enumerate(row) if v in (1.0, -1.0)}

    out = [amounts(row) for row in at]
    for lung in (0, 4):
        for zone in range(lung + 1, lung + 4):
            for f, v in amounts(at[zone]).items():
                out[lung][f] = max(v, out[lung].get(f, 0))
    return out


def walked(x, i, tau):
    "Chances (R, R) to come from a region of film i by a sentence of its report to a region; loops."
    seen, sentence = x["regions_mask"][i], x["sentence"][i]
    parts = [np.flatnonzero(sentence == s) for s in sorted(set(sentence.tolist()) - {-1})]
    inner = x["looked_at"][i] @ x["words"][i].T
    out = np.zeros((len(seen), len(seen)))
    for m, n in itertools.product(np.flatnonzero(seen), repeat=2):
        pull = np.array([np.exp(tau * inner[m, part].mean()) for part in parts])
        for part, chance in zip(parts, pull / pull.sum(), strict=True):
            heed = np.exp(tau * inner[:, part]) * seen[:, None]
            out[m, n] += chance * (heed[n] / heed.sum(0)).mean()
    return out


def naive_walk(x, tau):
    "The walk's cost: cross-entropy of its ends against the overlap of the findings at two places of a film."
    costs = []
    for i, labels in enumerate(x["region_labels"]):
        amounts = [{f: {1.0: 1.0, -1.0: 0.5}[v] for f, v in enumerate(row) if v in (1.0, -1.0)} for row in labels]
        chances = walked(x, i, tau)
        for m in np.flatnonzero(x["regions_mask"][i]):
            wanted = np.zeros(len(amounts))
            for n in np.flatnonzero(x["regions_mask"][i]):
                a, b = amounts[m], amounts[n]
                if a and b:
                    wanted[n] = sum(min(a.get(f, 0), b.get(f, 0)) for f in {*a, *b})
                    wanted[n] /= sum(max(a.get(f, 0), b.get(f, 0)) for f in {*a, *b})
            if wanted.sum():
                costs.append(-(wanted / wanted.sum() * np.log(np.maximum(chances[m], 1e-6))).sum())
    return np.mean(costs) if costs else 0.0


def naive(e, config, scale):
    "All terms, read from the formulas, one pair and one place at a time."
    x = {k: v.numpy() for k, v in e.items()}
    n, out = len(x["image"]), {}
    tau = (config.attention_scale, config.pool_scale, config.word_scale)
    found = [{f for f in range(1, len(FINDINGS)) if row[f] == 1} for row in x["labels"]]
    whole = np.zeros((n, n))
    for i in range(n):
        alike = np.array([len(found[i] & b) / len(found[i] | b) if found[i] | b else 1.0 for b in found])
        own = (x["text_group"] == x["text_group"][i]).astype(float)
        whole[i] = (1 - config.graded) * own / own.sum() + config.graded * np.exp(config.sharpness * alike) / np.exp(
            config.sharpness * alike
        ).sum()
    out["whole"] = cross_entropy(scale * x["image"] @ x["text"].T, whole)

    local = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            cosines = []
            for w in x["words"][j][x["words_mask"][j]]:
                regions = x["looked_at"][i] * x["regions_mask"][i][:, None]
                heed = np.exp(tau[0] * (regions @ w)) * x["regions_mask"][i]
                seen = (heed / max(heed.sum(), 1e-300)) @ regions
                cosines.append(seen @ w / max(np.linalg.norm(seen) * np.linalg.norm(w), 1e-12))
            local[i, j] = tau[2] * np.log(np.exp(tau[1] * np.array(cosines)).sum())
    own = (x["text_group"][:, None] == x["text_group"][None]) * x["regions_mask"].any(1)[:, None]
    out["words"] = config.word_weight * cross_entropy(local, own.astype(float))

    out["walk"] = config.walk_weight * naive_walk(x, tau[0])
    total, count, places = 0.0, 0, [placed(row) for row in x["region_labels"]]
    for m in range(len(REGIONS)):

        def alike(i, j, m=m):
            a, b = places[i][m], places[j][m]
            if not a or not b or not x["regions_mask"][i, m] or not x["regions_mask"][j, m]:
                return 0.0
            return sum(min(a.get(f, 0), b.get(f, 0)) for f in {*a, *b}) / sum(
                max(a.get(f, 0), b.get(f, 0)) for f in {*a, *b}
            )

        target = np.array([[alike(i, j) for j in range(n)] for i in range(n)])
        scores = x["regions"][:, m] @ x["said"][:, m].T / config.location_temperature
        for i in range(n):
            if target[i].sum():
                total += -(target[i] / target[i].sum() * (scores[i] - np.logaddexp.reduce(scores[i]))).sum()
                count += 1
        seen = np.flatnonzero(x["regions_mask"][:, m])
        for j in range(n):
            if target[:, j].sum():
                total += -(
                    target[seen, j] / target[seen, j].sum() * (scores[seen, j] - np.logaddexp.reduce(scores[seen, j]))
                ).sum()
                count += 1
    out["location"] = config.location_weight * total / max(count, 1)
    drawn = x["regions_mask"].any(1)
    out["boxes"] = config.box_weight * (x["box_error"].sum() / x["regions_mask"].sum() + x["seen_error"][drawn].mean())
    return out


@pytest.mark.parametrize("seed", range(3))
def test_the_objective_is_its_formulas(seed):
    method, e = (
        RRAVL.create(RRAVLConfig(graded=0.35, word_weight=0.7, location_weight=1.3, walk_weight=0.8)).double(),
        encoded_at_random(seed=seed),
    )
    terms = method.objective(e, None)
    expected = naive(e, method.config, method.logit_scale.item())
    assert set(terms) == set(expected) == {"whole", "words", "walk", "location", "boxes"}
    for name in terms:
        assert terms[name].item() == pytest.approx(expected[name], abs=1e-5), name


def test_lungs_have_what_their_zones_have():
    at = torch.full((1, len(REGIONS), 3), torch.nan)
    at[0, REGIONS.index("left mid lung zone"), 0] = at[0, REGIONS.index("right lung"), 1] = at[
        0, REGIONS.index("mediastinum"), 2
    ] = 1
    at[0, REGIONS.index("left upper lung zone"), 0] = at[0, REGIONS.index("right upper lung zone"), 2] = -1
    told = {(REGIONS[m], f): v for (m, f), v in np.ndenumerate(place_labels(at)[0].numpy()) if v}
    assert told == {
        ("left mid lung zone", 0): 1,
        ("left upper lung zone", 0): -1,
        ("left lung", 0): 1,
        ("right lung", 1): 1,
        ("right upper lung zone", 2): -1,
        ("right lung", 2): -1,
        ("mediastinum", 2): 1,
    }


def test_the_walk_ends_where_the_same_is_found():
    "Fluid in both lungs, a nodule in one zone, something at a place whose box is unknown, something uncertain."
    labels = torch.full((1, len(REGIONS), 3), torch.nan)
    right, left, zone = (REGIONS.index(name) for name in ("right lung", "left lung", "left upper lung zone"))
    heart, mediastinum = REGIONS.index("cardiac silhouette"), REGIONS.index("mediastinum")
    labels[0, [right, left], 0] = labels[0, zone, 1] = labels[0, heart, 0] = 1
    labels[0, mediastinum, 1] = -1
    known = torch.ones(1, len(REGIONS), dtype=torch.bool)
    known[0, heart] = False
    found = {(m, n): v for (m, n), v in np.ndenumerate(walk_targets(labels, known)[0].numpy()) if v}
    ends = {(right, right): 1, (right, left): 1, (left, right): 1, (left, left): 1, (zone, zone): 1}
    assert found == ends | {(zone, mediastinum): 0.5, (mediastinum, zone): 0.5, (mediastinum, mediastinum): 1}


def test_a_resnets_regions_come_from_a_grid_twice_as_fine():
    method = RRAVL.create().eval()
    films = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        pooled, patches, fine = fine_patches(method.image_encoder, films)
        plain = method.image_encoder(films)
        maps = method.image_encoder.backbone(films, output_hidden_states=True).hidden_states
    torch.testing.assert_close((pooled, patches), plain)
    assert patches.shape == (2, 4, 4, 128) and fine.shape == (2, 8, 8, 192)
    torch.testing.assert_close(fine[..., 128:], maps[-2].movedim(1, -1))
    torch.testing.assert_close(fine[:, 0, 0, :128], patches[:, 0, 0])  # a corner has no other neighbour
    middle = (9 * patches[:, 0, 0] + 3 * patches[:, 0, 1] + 3 * patches[:, 1, 0] + patches[:, 1, 1]) / 16
    torch.testing.assert_close(fine[:, 1, 1, :128], middle, atol=1e-5, rtol=1e-4)
    assert not method.image_encoder.backbone.encoder.stages[-2]._forward_hooks
    vit = RRAVL.create(image="tiny-vit").eval()
    with torch.no_grad():
        _, patches, fine = fine_patches(vit.image_encoder, films)
    assert fine is patches and patches.shape[1:3] == (8, 8)


def test_the_three_temperatures_start_where_set_and_are_learned(maker):
    method = RRAVL.create(RRAVLConfig(attention_scale=8.0, pool_scale=4.0, word_scale=200.0))
    assert method.word_scales.tolist() == pytest.approx([8.0, 4.0, method.config.max_scale])
    assert method.attention_scale.item() == pytest.approx(8.0)
    method = RRAVL.create()
    sum(method(maker.batch(range(8))).values()).backward()
    assert (method.log_scales.grad.abs() > 0).all()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_what_words_learn_reaches_the_encoders(maker, share):
    batch = maker.batch(range(8))
    grads = {}
    for part in (share, 1.0):
        method = RRAVL.create(RRAVLConfig(word_gradient=part), seed=1).eval()
        terms = method(batch)
        (terms["words"] + terms["walk"]).backward()
        grads[part] = {n: p.grad for n, p in method.named_parameters() if p.grad is not None}
    for name, full in grads[1.0].items():
        kept = share if name.startswith(("image_encoder", "text_encoder")) else 1.0
        found = grads[share].get(name, torch.zeros_like(full))
        torch.testing.assert_close(found, kept * full, atol=1e-5, rtol=1e-3)


def test_regions_look_as_they_are_seen(maker):
    "What words look at while training is what `encode_image` and `encode_text` give afterwards."
    method = RRAVL.create().eval()
    batch = maker.batch(range(4))
    with torch.no_grad():
        e = method.encode_batch(batch)
        film = method.encode_image(batch.pixels[:, 0], batch.boxes[:, 0]).local
        text = method.encode_text(batch.tokens[:, 0], batch.mask[:, 0]).local
    torch.testing.assert_close(e["looked_at"], film["regions"])
    torch.testing.assert_close(e["looked_at"], e["regions"])
    width = text["words"].shape[1]
    torch.testing.assert_close(e["words"][:, :width], text["words"] * text["words_mask"][..., None])
    assert torch.equal(e["sentence"][:, :width], text["sentence"]) and (e["sentence"][:, width:] == -1).all()


def test_a_word_is_read_with_its_own_sentence_alone():
    "The same pieces have the same vectors whatever stands before and after; a sentence alone is a text."
    method = RRAVL.create().eval()
    heart = "The heart is enlarged."
    texts = [f"Small left effusion. {heart}", heart, "", f"{heart} No mass."]
    tokens, mask = method.prepare_text(texts)
    with torch.no_grad():
        local = method.encode_text(tokens, mask).local
        plain = method.text_encoder(*method.prepare_text([heart]))[1]
    assert torch.equal(local["words_mask"], local["sentence"] >= 0) and not local["words_mask"][2].any()
    first, second, third = local["sentence"][0] == 1, local["sentence"][1] == 0, local["sentence"][3] == 0
    torch.testing.assert_close(local["words"][0][first], local["words"][1][second])
    torch.testing.assert_close(local["words"][3][third], local["words"][1][second])
    alone = torch.nn.functional.normalize(method.word_head(plain), dim=-1)[0, 1 : 1 + second.sum()]
    torch.testing.assert_close(local["words"][1][second], alone)


def test_weights_are_switches(maker):
    batch = maker.batch(range(12))
    full = RRAVL.create(seed=1).eval()(batch)
    for name, term in (
        ("word_weight", "words"),
        ("walk_weight", "walk"),
        ("location_weight", "location"),
        ("box_weight", "boxes"),
    ):
        off = RRAVL.create(RRAVLConfig(**{name: 0.0}), seed=1).eval()(batch)
        assert off[term] == 0 and full[term] > 0 and all(torch.allclose(off[t], full[t]) for t in full if t != term)
    plain = RRAVL.create(RRAVLConfig(graded=0.0), seed=1).eval()(batch)
    assert not torch.allclose(plain["whole"], full["whole"]) and torch.allclose(plain["location"], full["location"])


@pytest.mark.parametrize(
    "aligns, left", [("words", {"location"}), ("location", {"words", "walk"}), ("whole", {"words", "walk", "location"})]
)
def test_an_alignment_is_left_out_and_the_others_stay(maker, aligns, left):
    batch = maker.batch(range(12))
    full = RRAVL.create(seed=1).eval()(batch)
    found = RRAVL.create(RRAVLConfig(aligns=aligns), seed=1).eval()(batch)
    assert set(found) == set(full) - left
    assert all(torch.equal(found[name], full[name]) for name in found)


def weights_of(method, part=""):
    "The weights whose names begin with `part`, as they are now."
    return {n: p.detach().clone() for n, p in method.named_parameters() if n.startswith(part)}


def moved(before, after):
    "The names of weights that are no longer the same."
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


@pytest.mark.parametrize("stages", ["continued", "frozen"])
def test_stage_one_leaves_the_whole_alone_and_stage_two_the_frozen_encoders(maker, stages):
    method = RRAVL.create(RRAVLConfig(stages=stages, first_share=0.4, word_gradient=0.5), seed=1).train()
    optimiser = torch.optim.AdamW(method.parameters(), lr=1e-3, weight_decay=0.1)
    still = {}
    for step, done in enumerate((0.0, 0.2, 0.4, 0.6)):
        before = weights_of(method)
        method.begin_step(done)
        terms = method(maker.batch(range(8), epoch=step))
        assert ("whole" in terms) == (done >= 0.4) == (not method.early)
        optimiser.zero_grad()
        sum(terms.values()).backward()
        optimiser.step()
        still[done] = set(before) - moved(before, weights_of(method))
    whole = {"image_head.weight", "text_head.weight", "log_scale"}
    encoders = {n for n, p in method.named_parameters() if "_encoder." in n and p.requires_grad}
    assert whole <= still[0.2] and not whole & still[0.6]
    for side in ("image_encoder.", "text_encoder."):
        of_side = {name for name in encoders if name.startswith(side)}
        assert not of_side <= still[0.2], "both learn in the first stage"
        assert of_side <= still[0.6] if stages == "frozen" else not of_side <= still[0.6]


def test_together_is_one_stage_from_the_first_step_on(maker):
    batch = maker.batch(range(8))
    method = RRAVL.create(seed=1).eval()
    before = method(batch)
    method.begin_step(0.0)
    assert not method.early and not method.still and not method.idle_weights
    assert all(torch.equal(value, before[name]) for name, value in method(batch).items())
    assert (
        RRAVL.create(RRAVLConfig(aligns="words")).idle_weights
        and RRAVL.create(RRAVLConfig(stages="frozen")).idle_weights
    )


def test_a_first_stage_needs_something_to_teach():
    with pytest.raises(DataError, match="stages: frozen has nothing for its first stage"):
        RRAVLConfig(stages="frozen", aligns="whole")
    for wrong in ({"first_share": 1.0}, {"first_share": 0.0}, {"stages": "three"}, {"aligns": "regions"}):
        with pytest.raises(DataError, match=next(iter(wrong))):
            RRAVLConfig(**wrong)


def test_the_box_head_changes_nothing_else(maker):
    method, batch = RRAVL.create(), maker.batch(range(8))
    method(batch)["boxes"].backward()
    touched = {
        name.split(".")[0] for name, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
    }
    assert touched == {"box_head"}


def test_the_order_and_the_company_of_a_batch_do_not_matter(maker):
    method = RRAVL.create().eval()
    one, other = method(maker.batch([0, 1, 2, 3, 4, 5])), method(maker.batch([4, 2, 0, 5, 1, 3]))
    for name in one:
        assert one[name].item() == pytest.approx(other[name].item(), abs=1e-5)
    alone, company = method.encode_batch(maker.batch([3])), method.encode_batch(maker.batch([0, 3, 7]))
    for name in alone:
        torch.testing.assert_close(alone[name][0], company[name][1], atol=1e-5, rtol=1e-4, equal_nan=True)


def test_without_any_box_the_rest_still_trains(small_phantom):
    bare = StudySet(small_phantom.studies, small_phantom.images, None, small_phantom.info, small_phantom.folder)
    method = RRAVL.create()
    terms = method(BatchMaker.for_method(bare, method).batch(range(8)))
    assert terms["whole"] > 0 and terms["words"] == terms["walk"] == terms["location"] == terms["boxes"] == 0
    sum(terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)
    assert all(
        p.grad is not None for n, p in method.named_parameters() if p.requires_grad
    )  # or training on two processes would wait


def test_boxes_are_given_or_drawn_and_said_to_be(maker):
    method, batch = RRAVL.create().eval(), maker.batch(range(3))
    boxes = batch.boxes[:, 0].clone()
    boxes[1], boxes[2, 1:] = torch.nan, torch.nan  # the second film has none, the third a single one
    with torch.no_grad():
        mixed, none, given = (
            method.encode_image(batch.pixels[:, 0], boxes),
            method.encode_image(batch.pixels[:, 0]),
            method.encode_image(batch.pixels[:, 0], batch.boxes[:, 0]),
        )
    assert mixed.local["regions_given"].tolist() == [[True] * 10, [False] * 10, [True] + [False] * 9]
    assert (
        mixed.local["regions_mask"][2].tolist() == [True] + [False] * 9 and (mixed.local["regions"][2, 1:] == 0).all()
    )
    torch.testing.assert_close(mixed.local["regions"][1], none.local["regions"][1])
    torch.testing.assert_close(mixed.local["regions"][0], given.local["regions"][0])
    torch.testing.assert_close(mixed.mu, none.mu)  # the whole does not look at boxes
    torch.testing.assert_close(mixed.local["boxes"][0], boxes[0])


def learn(method, batch, steps, rate=5e-4):
    "Train on one batch, in place."
    optimiser = torch.optim.AdamW(method.parameters(), lr=rate)
    method.train()
    for _ in range(steps):
        loss = sum(method(batch).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return method.eval()


@pytest.fixture(scope="module")
def trained(maker):
    "A model that has seen 32 studies seventy times."
    torch.manual_seed(0)
    return learn(RRAVL.create(), maker.batch(range(32)), 70)


def test_it_learns_32_studies_by_heart(trained, maker):
    batch = maker.batch(range(32))
    with torch.no_grad():
        scores = trained.score(
            trained.encode_image(batch.pixels[:, 0]), trained.encode_text(batch.tokens[:, 0], batch.mask[:, 0])
        )
    groups = batch.text_group.numpy()
    assert np.mean(groups[scores.argmax(1).numpy()] == groups) > 0.95


def test_drawn_boxes_come_near_true_ones(trained, maker):
    batch = maker.batch(range(32))
    with torch.no_grad():
        local = trained.encode_image(batch.pixels[:, 0]).local
    assert local["regions_mask"].float().mean() > 0.95
    error = (local["boxes"] - batch.boxes[:, 0]).abs().mean()
    middle = (batch.boxes[:, 0].mean(0) - batch.boxes[:, 0]).abs().mean()  # the mean box of each region, everywhere
    assert error < 1.2 * middle and error < 0.05


def test_words_look_at_the_places_they_speak_of(trained, maker):
    "Pieces of the sentence that a place leads to look at this place at least three times as much as an even look."
    batch = maker.batch(range(32))
    with torch.no_grad():
        e = trained.encode_batch(batch)
        walk = sentence_walk(e["looked_at"], e["words"], e["sentence"], e["regions_mask"], trained.attention_scale)
    wanted = walk_targets(e["region_labels"], e["regions_mask"]) > 0
    asked = wanted.any(-1)
    there = e["regions_mask"][:, None].expand_as(wanted)
    assert asked.sum() > 20
    assert times_even(walk[asked], wanted[asked], there[asked]).mean() > 3


def test_places_agree_across_patients(trained, maker):
    "What is seen at a place is closer to what is said there of others with the same finding than of others without."
    batch = maker.batch(range(32))
    with torch.no_grad():
        films, texts = (
            trained.encode_image(batch.pixels[:, 0], batch.boxes[:, 0]),
            trained.encode_text(batch.tokens[:, 0], batch.mask[:, 0]),
        )
    cosine = torch.einsum("imd,jmd->ijm", films.local["regions"], texts.local["regions"])
    labels = place_labels(batch.region_labels[:, 0])
    both = torch.einsum("iml,jml->ijm", (labels == 1).float(), (labels == 1).float()) > 0
    asked = (labels == 1).any(-1)[:, None].expand_as(both) & ~torch.eye(32, dtype=torch.bool)[..., None]
    assert cosine[both & asked].mean() > cosine[~both & asked].mean() + 0.2


def test_saved_embedded_searched(trained, small_phantom, tmp_path):
    trained.save_pretrained(tmp_path / "run")
    again = RRAVL.from_pretrained(tmp_path / "run").eval()
    a, b = (embed(m, small_phantom, "test", progress=False) for m in (trained, again))
    for side in a:
        np.testing.assert_array_equal(a[side].mu, b[side].mu)
        np.testing.assert_array_equal(a[side].local["regions"], b[side].local["regions"])
    assert set(a["image"].local) == {"regions", "regions_mask", "regions_given", "boxes"} and set(a["text"].local) == {
        "regions",
        "regions_mask",
    }
    assert a["image"].local["regions_given"].all() and a["image"].meta["regions"].split("; ") == list(REGIONS)
    with torch.no_grad():
        score = (
            again.score(*(type("E", (), {"mu": torch.from_numpy(a[s].mu)}) for s in ("image", "text")))
            / again.logit_scale
        )
    np.testing.assert_allclose(score.detach().numpy(), score_matrix(a["image"], a["text"]), atol=1e-5)
    hits = build_index(b["text"]).search(a["image"], 3, regions=["left lung", "cardiac silhouette"])
    np.testing.assert_array_equal(
        hits.positions,
        build_index(a["text"]).search(b["image"], 3, regions=["left lung", "cardiac silhouette"]).positions,
    )
    bare = StudySet(small_phantom.studies, small_phantom.images, None, small_phantom.info, small_phantom.folder)
    drawn = embed(again, bare, "test", progress=False)["image"]
    assert not drawn.local["regions_given"].any() and drawn.meta["fingerprint"] != a["image"].meta["fingerprint"]
    with pytest.raises(DataError, match="not clip"):
        CLIP.from_pretrained(tmp_path / "run")


def test_on_the_meta_device(maker):
    method, batch = RRAVL.create().to("meta"), maker.batch(range(4)).to("meta")
    assert {v.device.type for v in method(batch).values()} == {"meta"}
    films, texts = (
        method.encode_image(batch.pixels[:, 0], batch.boxes[:, 0]),
        method.encode_text(batch.tokens[:, 0], batch.mask[:, 0]),
    )
    assert method.score(films, texts).shape == (4, 4) and films.local["regions"].shape == texts.local[
        "regions"
    ].shape == (4, 10, 128)


def test_words_have_one_shape_on_every_process(maker):
    method = RRAVL.create(dataclasses.replace(RRAVLConfig(), max_words=96)).eval()
    shapes = {method.encode_batch(maker.batch([i]))["words"].shape[1:] for i in range(4)}
    assert shapes == {(96, 128)}


def test_findings_are_alike_by_overlap_over_union():
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(-1, 2, (7, len(FINDINGS)), generator=g).float()
    labels[0, 1:], labels[1, 1:] = -1, torch.nan  # neither has any
    found = findings_alike(labels)
    sets = [{f for f in range(1, len(FINDINGS)) if row[f] == 1} for row in labels]
    for i, mine in enumerate(sets):
        for j, other in enumerate(sets):
            expected = len(mine & other) / len(mine | other) if mine | other else 1.0
            assert found[i, j].item() == pytest.approx(expected)


def test_graded_relevance_is_its_formula():
    g = torch.Generator().manual_seed(1)
    labels = torch.randint(-1, 2, (5, len(FINDINGS)), generator=g).float()
    groups, alike = [0, 1, 0, 3, 4], findings_alike(labels)
    found = graded_relevance(labels, torch.tensor(groups), 0.3, 6.0)
    for i in range(5):
        soft = [np.exp(6.0 * alike[i, j].item()) for j in range(5)]
        for j in range(5):
            own = (groups[i] == groups[j]) / groups.count(groups[i])
            assert found[i, j].item() == pytest.approx(0.7 * own + 0.3 * soft[j] / sum(soft), abs=1e-5)


def test_a_lung_has_four_parts_and_any_other_region_one():
    names = {region: [REGIONS[place] for place in parts_of(region)] for region in REGIONS}
    assert names["left lung"] == [name for name in REGIONS if name.startswith("left")] and len(names["right lung"]) == 4
    assert all(parts == [region] for region, parts in names.items() if not region.endswith(" lung"))


def test_targets_of_places_are_their_formula():
    e = encoded_at_random(seed=4)
    found = place_targets(e["region_labels"], e["regions_mask"])
    places = [placed(row) for row in e["region_labels"].numpy()]
    for i in range(6):
        for j in range(6):
            for m in range(len(REGIONS)):
                a, b = places[i][m], places[j][m]
                known = e["regions_mask"][i, m] and e["regions_mask"][j, m]
                names = {*a, *b} if a and b and known else set()
                overlap = sum(min(a.get(f, 0), b.get(f, 0)) for f in names)
                union = sum(max(a.get(f, 0), b.get(f, 0)) for f in names)
                assert found[i, j, m].item() == pytest.approx(overlap / union if union else 0.0)


def test_boxes_are_chosen_film_by_film():
    g = torch.Generator().manual_seed(0)
    drawn, visible, boxes = torch.rand(3, 4, 4, generator=g), torch.randn(3, 4, generator=g), torch.rand(3, 4, 4)
    boxes[1], boxes[2, 2:] = torch.nan, torch.nan
    used, there, given = chosen_boxes(drawn, visible, boxes)
    for i in range(3):
        some = any(not boxes[i, m].isnan().any() for m in range(4))
        for m in range(4):
            known = not boxes[i, m].isnan().any().item()
            assert given[i, m].item() == known and there[i, m].item() == (known if some else visible[i, m].item() > 0)
            expected = (boxes[i, m] if known else torch.zeros(4)) if some else drawn[i, m]
            assert torch.equal(used[i, m], expected)
    used, there, given = chosen_boxes(drawn, visible, None)
    assert torch.equal(used, drawn) and torch.equal(there, visible > 0) and not given.any()


def test_what_drawing_costs_is_its_formula():
    g = torch.Generator().manual_seed(0)
    drawn, visible, boxes = torch.rand(3, 5, 4, generator=g), torch.randn(3, 5, generator=g), torch.rand(3, 5, 4)
    known = torch.tensor([[True, True, False, True, False], [False] * 5, [True] * 5])
    off, seen = box_costs(drawn, visible, boxes, known)
    for i in range(3):
        e = sum((drawn[i, m] - boxes[i, m]).abs().sum().item() / 4 for m in range(5) if known[i, m])
        v = sum((visible[i, m] if known[i, m] else -visible[i, m]).sigmoid().log().item() for m in range(5)) / -5
        assert off[i].item() == pytest.approx(e, abs=1e-5) and seen[i].item() == pytest.approx(v, abs=1e-5)
    expected = (off[0] + off[1] + off[2]) / 8 + (seen[0] + seen[2]) / 2
    assert box_loss(off, seen, known).item() == pytest.approx(expected.item(), abs=1e-5)
    assert box_loss(torch.zeros(3), seen, torch.zeros_like(known)) == 0


def test_a_film_without_boxes_asks_nothing():
    known = torch.tensor([[True, False], [False, False], [True, True]])
    found = own_reports(torch.tensor([3, 3, 5]), known)
    for i in range(3):
        for j in range(3):
            assert found[i, j] == (float([3, 3, 5][i] == [3, 3, 5][j]) if known[i].any() else 0)


def test_words_are_filled_up_with_zeros():
    words, mask = torch.randn(2, 3, 4), torch.tensor([[True, True, False], [True, False, False]])
    filled, there = padded_words(words, mask, 6)
    assert filled.shape == (2, 6, 4) and there.tolist() == [[True, True] + [False] * 4, [True] + [False] * 5]
    for b in range(2):
        for w in range(6):
            assert torch.equal(filled[b, w], words[b, w] if there[b, w] else torch.zeros(4))
