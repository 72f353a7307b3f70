"PECM: levels, its formulas read naively, the bank, one vector per film, two stages, learning by heart, saving."

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from medret_nb.data.batches import BatchMaker
from medret_nb.data.files import DataError
from medret_nb.losses.contrastive import info_nce
from medret_nb.methods.clip import CLIP
from medret_nb.methods.method import Embedding
from medret_nb.methods.pecm import (
    LEVEL_CHOICES,
    PECM,
    PECMConfig,
    Prototypes,
    bank_confidence,
    best_temperature,
    confidence_among,
    doubt,
    film_levels,
    first_seen,
    joint_vector,
    level_spread,
    listed_scores,
    once_each,
    pair_doubt,
    text_levels,
    vector_parts,
)
from medret_nb.methods.table import load_method
from medret_nb.retrieval.embeddings import embed
from medret_nb.retrieval.search import build_index
from medret_nb.training.loop import TrainConfig, fit

SMALL = dict(dim=16, prototype_dim=8, bank=24, top=8)


def made(studies, rows=range(12), seed=0, **config):
    method = PECM.create(PECMConfig(**{**SMALL, **config}), seed=seed).eval()
    maker = BatchMaker.for_method(studies, method, augmentation=0)
    return method, maker.batch(rows), maker


def both(method, batch):
    with torch.no_grad():
        return method.encode_image(batch.pixels[:, 0]), method.encode_text(batch.tokens[:, 0], batch.mask[:, 0])


def entropy_confidence(scores, temperature, top):
    best = sorted(scores, reverse=True)[:top]
    p = torch.tensor(best, dtype=torch.float64).div(temperature).softmax(0)
    return 1 + float((p * p.clamp_min(1e-300).log()).sum()) / math.log(len(best))


def squared_cosines(prototypes):
    "Mean squared inner product of different prototypes (B, K, d) of a study."
    count, found = prototypes.shape[1], []
    for own in prototypes:
        found += [float(own[k] @ own[m]) ** 2 for k in range(count) for m in range(count) if k != m]
    return np.mean(found)


@pytest.fixture(scope="module")
def finished(small_phantom):
    method, batch, maker = made(small_phantom)
    method.finish(maker.epoch(0, 16))
    return method, batch, *both(method, batch)


def test_the_levels_of_a_film_are_means_of_its_patches():
    patches = torch.randn(2, 4, 6, 5)
    (fine, _), (coarse, _), (whole, _) = film_levels(patches, 2)
    assert torch.equal(fine, patches.flatten(1, 2)) and torch.allclose(whole[:, 0], patches.mean((1, 2)))
    for row in range(2):
        for column in range(2):
            assert torch.allclose(
                coarse[:, 2 * row + column],
                patches[:, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3].mean((1, 2)),
                atol=1e-6,
            )


def test_the_levels_of_a_text_are_means_of_its_sentences():
    words = torch.randn(2, 7, 3)
    sentence = torch.tensor([[-1, 0, 0, 1, 2, 3, -1], [-1, 0, 0, 0, -1, -1, -1]])
    (fine, there), (coarse, filled), (whole, _) = text_levels(words, sentence, 3)
    assert torch.equal(fine, words) and torch.equal(there, sentence >= 0)
    assert filled.tolist() == [[True, True, True], [True, False, False]]
    assert torch.allclose(
        coarse[0], torch.stack([words[0, 1:3].mean(0), words[0, 3], words[0, 4:6].mean(0)])
    )  # the last takes what is left
    assert torch.allclose(coarse[1, 0], words[1, 1:4].mean(0)) and torch.allclose(whole[1, 0], words[1, 1:4].mean(0))


def test_a_full_stop_ends_a_sentence(small_phantom):
    method, _, _ = made(small_phantom, rows=range(2))
    short, _ = (method.prepare_text([t]) for t in ("No effusion. Large heart.", "."))
    with torch.no_grad():
        weights = method.encode_text(*short).local["coarse"][0]
    assert (weights.sum(1) - 1).abs().max() < 1e-5 and (weights[:, :2] > 0).all() and (weights[:, 2:] == 0).all()


def test_the_objective_is_its_formulas_read_naively(small_phantom):
    method, batch, _ = made(
        small_phantom, confidence_weight=0.5, diversity_weight=0.25, match_weight=2.0, prototype_share=0.7, top=6
    )
    batch.text_group[1] = batch.text_group[0]
    with torch.no_grad():
        method.level_logits.copy_(torch.tensor([0.5, -0.3, 0.1]))
        terms, images, texts = method(batch), *both(method, batch)
    groups, n, w = batch.text_group.tolist(), 12, method.level_logits.softmax(0).tolist()
    v, t = images.local["prototypes"], texts.local["prototypes"]
    parts = ((0, 8), (8, 12), (12, 13))
    s_p = torch.zeros(n, n)
    for i in range(n):
        for j in range(n):
            for weight, (a, b) in zip(w, parts):
                s_p[i, j] += weight * sum(float(v[i, k] @ t[j, k]) for k in range(a, b)) / (b - a)
    z_v, z_t = images.mu[:, :16], texts.mu[:, :16]

    def contrast(scores):
        total = 0.0
        for matrix in (scores, scores.T):
            for i in range(n):
                same = [j for j in range(n) if groups[j] == groups[i]]
                total += (matrix[i].exp().sum().log() - matrix[i, same].mean()).item() / (2 * n)
        return total

    assert terms["contrast"].item() == pytest.approx(contrast(method.logit_scale.detach() * z_v @ z_t.T), abs=1e-5)
    assert terms["prototypes"].item() == pytest.approx(2 * contrast(14.3 * s_p), abs=2e-5)
    spread = [squared_cosines(x[:, a:b]) for x in (v, t) for a, b in parts[:2]]
    assert terms["diversity"].item() == pytest.approx(0.25 * np.mean(spread), abs=1e-5)
    once = [j for j in range(n) if groups.index(groups[j]) == j]
    c_v = [entropy_confidence([s_p[i, j].item() for j in once], 0.1, 6) for i in range(n)]
    c_t = [entropy_confidence([s_p[j, i].item() for j in once], 0.1, 6) for i in range(n)]
    full = z_v @ z_t.T + 0.7 * torch.tensor(c_v)[:, None].mul(torch.tensor(c_t)).sqrt() * s_p
    loss = 0.0
    for matrix, confidence in ((full, c_v), (full.T, c_t)):
        for i in range(n):
            right = groups[int(matrix[i].argmax())] == groups[i]
            loss -= math.log(confidence[i] if right else 1 - confidence[i]) / (2 * n)
    assert terms["confidence"].item() == pytest.approx(0.5 * loss, abs=1e-5)


def test_the_bank_holds_different_reports_and_confidence_is_measured_against_it(small_phantom, finished):
    method, batch, images, texts = finished
    seen, rows = [], []
    maker = BatchMaker.for_method(small_phantom, method, augmentation=0)
    for part in maker.epoch(0, 16):
        for study, group in zip(part.study.tolist(), part.text_group.tolist()):
            if group not in seen and len(seen) < 24:
                seen.append(group), rows.append(study)
    bank_images, bank_texts = both(method, maker.batch(rows))
    assert method.bank_count == len(rows) == 24

    def vectors(e):
        return method.vector(e.local["prototypes"].split(method.counts, 1))

    assert torch.allclose(method.bank_text, vectors(bank_texts), atol=1e-6) and torch.allclose(
        method.bank_image, vectors(bank_images), atol=1e-6
    )
    for mine, bank in ((images, bank_texts), (texts, bank_images)):
        scores = vectors(mine) @ vectors(bank).T
        expected = [entropy_confidence(row.tolist(), method.bank_temperature.item(), 8) for row in scores]
        assert torch.allclose(mine.local["confidence"], torch.tensor(expected), atol=1e-5)


def test_the_temperature_of_the_bank_predicts_best_who_is_right(finished):
    method = finished[0]
    scores = method.bank_image @ method.bank_text.T

    def loss(temperature):
        total = 0.0
        for matrix in (scores, scores.T):
            for i, row in enumerate(matrix):
                c = min(max(entropy_confidence(row.tolist(), temperature, 8), 1e-6), 1 - 1e-6)
                total -= math.log(c if int(row.argmax()) == i else 1 - c)
        return total

    assert loss(method.bank_temperature.item()) <= min(loss(10**x) for x in np.linspace(-2.5, 0, 21)) + 1e-3


def test_a_bank_that_is_not_full_leaves_its_empty_places_out(small_phantom):
    method, batch, maker = made(small_phantom, rows=range(6), bank=100, top=8)
    method.finish(maker.epoch(0, 16))
    held, before = int(method.bank_count), both(method, batch)[0].local["confidence"]
    assert 8 < held < 100
    method.bank_text[held:] = 50.0
    assert torch.equal(both(method, batch)[0].local["confidence"], before)


def test_without_a_bank_the_confidence_is_one(small_phantom):
    method, batch, _ = made(small_phantom, rows=range(4))
    for e in both(method, batch):
        assert (e.local["confidence"] == 1).all() and (e.mu[:, -2:] == 0).all()


def test_one_vector_holds_the_whole_score(finished):
    method, _, images, texts = finished
    assert torch.allclose(images.mu.norm(dim=1), torch.full((12,), math.sqrt(2))) and torch.allclose(
        texts.mu.norm(dim=1), torch.full((12,), math.sqrt(2))
    )
    (z_v, _, c_v), (z_t, _, c_t) = method.parts(images), method.parts(texts)
    assert torch.allclose(c_v, images.local["confidence"], atol=1e-5) and torch.allclose(
        c_t, texts.local["confidence"], atol=1e-5
    )
    p_v, p_t = (method.vector(e.local["prototypes"].split(method.counts, 1)) for e in (images, texts))
    naive = torch.stack(
        [
            torch.stack([z_v[i] @ z_t[j] + (c_v[i] * c_t[j]).sqrt() * (p_v[i] @ p_t[j]) for j in range(12)])
            for i in range(12)
        ]
    )
    assert torch.allclose(method.score(images, texts), method.logit_scale * naive / 2, atol=1e-4)


def test_a_pair_keeps_its_score_when_other_queries_join(finished):
    method, batch, images, texts = finished
    with torch.no_grad():
        alone = method.score(
            method.encode_image(batch.pixels[3:4, 0]), method.encode_text(batch.tokens[5:7, 0], batch.mask[5:7, 0])
        )
        together = method.score(images, texts)
    assert torch.allclose(alone, together[3:4, 5:7], atol=1e-4)


def test_in_one_modality_a_film_is_nearest_to_itself(finished):
    method, _, images, texts = finished
    for e in (images, texts):
        scores = method.score(e, e)
        assert (
            torch.allclose(scores.diagonal(), method.logit_scale.expand(12), atol=1e-4)
            and (scores <= method.logit_scale + 1e-3).all()
        )


def test_the_second_stage_gives_the_scores_of_the_whole(finished):
    method, _, images, texts = finished
    shortlist = method.shortlist(images, texts, 5)
    z_v, z_t = images.mu[:, :16], texts.mu[:, :16]
    assert torch.equal(shortlist, (z_v @ z_t.T).argsort(1, descending=True)[:, :5])
    scores, confidence = method.rerank(images, texts, shortlist)
    assert torch.allclose(scores, method.score(images, texts).gather(1, shortlist), atol=1e-4)
    best = shortlist[torch.arange(12), scores.argmax(1)]
    assert torch.allclose(confidence, (images.local["confidence"] * texts.local["confidence"][best]).sqrt(), atol=1e-4)
    assert method.shortlist(images, texts, 1000).shape == (12, 12)


def test_switches(small_phantom):
    plain, batch, maker = made(small_phantom, group_texts=False)
    grouped, _, _ = made(small_phantom)
    batch.text_group[:] = torch.arange(12)
    assert all(torch.allclose(plain(batch)[k], v) for k, v in grouped(batch).items())
    batch.text_group[:3] = 0
    assert not torch.allclose(plain(batch)["contrast"], grouped(batch)["contrast"])
    off, batch, maker = made(
        small_phantom, prototype_share=0.0, match_weight=0.0, confidence_weight=0.0, diversity_weight=0.0
    )
    off.finish(maker.epoch(0, 16))
    images, texts = both(off, batch)
    assert torch.allclose(off.score(images, texts), off.logit_scale * images.mu[:, :16] @ texts.mu[:, :16].T, atol=1e-4)
    assert torch.allclose(
        sum(off(batch).values()),
        info_nce(images.mu[:, :16], texts.mu[:, :16], off.logit_scale, batch.text_group),
        atol=1e-5,
    )
    for wrong in (dict(fine=0), dict(bank=1), dict(prototype_share=-1.0), dict(init_temperature=0.0)):
        with pytest.raises(DataError, match=next(iter(wrong))):
            PECMConfig(**wrong)


def test_it_learns_32_studies_by_heart(small_phantom):
    torch.manual_seed(0)
    method, batch, maker = made(small_phantom, rows=range(32), dim=64, prototype_dim=16)
    optimiser = torch.optim.AdamW(method.parameters(), lr=5e-4)
    method.train()
    for _ in range(45):
        loss = sum(method(batch).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    method.eval().finish(maker.epoch(0, 16))
    groups = batch.text_group
    assert (groups[method.score(*both(method, batch)).argmax(1)] == groups).float().mean() > 0.95


def test_the_order_of_a_batch_does_not_matter(small_phantom):
    method, _, maker = made(small_phantom)
    one, two = method(maker.batch([0, 1, 2, 3, 4])), method(maker.batch([4, 2, 0, 1, 3]))
    for name in one:
        assert one[name].item() == pytest.approx(two[name].item(), abs=1e-5)


def test_every_parameter_learns(small_phantom):
    method, batch, _ = made(small_phantom)
    sum(method(batch).values()).backward()
    assert not [
        name
        for name, p in method.named_parameters()
        if p.requires_grad and (p.grad is None or not torch.isfinite(p.grad).all())
    ]
    assert method.log_temperature.grad != 0 and method.level_logits.grad.abs().min() > 0


def test_forward_and_score_on_the_meta_device(small_phantom):
    method, batch, _ = made(small_phantom, rows=range(4))
    method, batch = method.to("meta"), batch.to("meta")
    assert {v.device.type for v in method(batch).values()} == {"meta"}
    images, texts = both(method, batch)
    assert method.score(images, texts).shape == (4, 4)
    assert method.rerank(images, texts, method.shortlist(images, texts, 3))[0].shape == (4, 3)


def test_trained_saved_loaded_and_searched_it_scores_the_same(small_phantom, tmp_path):
    first = PECM.create(PECMConfig(**SMALL))
    run = fit(first, small_phantom, TrainConfig(epochs=1, batch_size=8), tmp_path / "run", progress=False)
    second = load_method(run.folder)
    assert first.bank_count > 8 and torch.equal(first.bank_image, second.bank_image)
    with pytest.raises(DataError, match="holds a pecm method, not clip"):
        CLIP.from_pretrained(run.folder)
    a, b = embed(first, small_phantom, progress=False), embed(second, small_phantom, progress=False)
    assert np.array_equal(a["image"].mu, b["image"].mu) and np.array_equal(a["text"].mu, b["text"].mu)
    queries, gallery = (Embedding(torch.from_numpy(b[side].mu)) for side in ("image", "text"))
    scores = (second.score(queries, gallery) / second.logit_scale).detach().numpy()
    hits = build_index(b["text"]).search(b["image"], 5)
    assert np.allclose(np.take_along_axis(scores, hits.positions, 1), hits.scores, atol=1e-5)
    assert np.allclose(np.sort(scores, 1)[:, :-6:-1], hits.scores, atol=1e-5)
    (z_v, p_v, _), (z_t, p_t, _) = second.parts(queries), second.parts(gallery)
    assert np.allclose(scores, ((z_v @ z_t.T + p_v @ p_t.T) / 2).numpy(), atol=1e-5)
    assert torch.allclose(F.normalize(queries.mu, dim=1) * math.sqrt(2), queries.mu, atol=1e-5)


def unit(*shape):
    return F.normalize(torch.randn(*shape), dim=-1)


def test_prototypes_gather_what_answers_to_their_question():
    torch.manual_seed(0)
    asking = Prototypes(5, (3, 1), 4)
    parts, mask = torch.randn(2, 6, 5), torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    prototypes, weights = asking([(parts, mask), (parts.mean(1, keepdim=True), None)])
    for b, count in enumerate((6, 4)):
        mapped = [asking.maps[0].weight @ parts[b, n] for n in range(count)]
        for k in range(3):
            alpha = torch.stack([asking.queries[0][k] @ h for h in mapped]).softmax(0)
            assert torch.allclose(weights[0][b, k, :count], alpha, atol=1e-6) and (weights[0][b, k, count:] == 0).all()
            total = sum(alpha[n] * mapped[n] for n in range(count))
            assert torch.allclose(prototypes[0][b, k], total / total.norm(), atol=1e-5)
    assert [p.shape for p in prototypes] == [(2, 3, 4), (2, 1, 4)]


def test_the_spread_of_levels_is_its_formula():
    torch.manual_seed(0)
    image, text = ([unit(4, 3, 5), unit(4, 2, 5), unit(4, 1, 5)] for _ in range(2))
    expected = np.mean([squared_cosines(level) for side in (image, text) for level in side[:2]])
    assert level_spread(image, text).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("share", [0.7, 1.0])
def test_one_vector_holds_three_parts_and_gives_them_back(share):
    torch.manual_seed(0)
    z, p, c = unit(4, 3), unit(4, 5), torch.tensor([0.0, 0.3, 0.8, 1.0])
    film, report = (joint_vector(z, p, c, share, which) for which in (True, False))
    for i in range(4):
        assert film[i] @ film[i] == pytest.approx(1 + share, abs=1e-5)
        for j in range(4):
            expected = z[i] @ z[j] + share * (c[i] * c[j]).sqrt() * (p[i] @ p[j])
            assert (film[i] @ report[j]).item() == pytest.approx(expected.item(), abs=1e-5)
    for mu in (film, report):
        again, weighted, confidence = vector_parts(mu, 3, share)
        assert torch.equal(again, z) and torch.allclose(confidence, c, atol=1e-6)
        assert torch.allclose(weighted, (share * c).sqrt()[:, None] * p)
    assert (vector_parts(joint_vector(z, p, c, 0.0, True), 3, 0.0)[2] == 1).all()


def test_confidence_is_measured_among_those_that_are_there():
    torch.manual_seed(0)
    scores, there = torch.randn(5, 9), torch.tensor([True, False] * 4 + [True])
    found = confidence_among(scores, there, torch.tensor(0.4), 4)
    for q in range(5):
        known = [score for score, here in zip(scores[q].tolist(), there.tolist()) if here]
        assert found[q].item() == pytest.approx(entropy_confidence(known, 0.4, 4), abs=1e-5)
    p, bank = unit(3, 6), unit(8, 6)
    filled = bank_confidence(p, bank, torch.tensor(5), torch.tensor(0.4), 4)
    for q in range(3):
        known = [float(p[q] @ bank[n]) for n in range(5)]
        assert filled[q].item() == pytest.approx(entropy_confidence(known, 0.4, 4), abs=1e-5)
    assert (bank_confidence(p, bank, torch.tensor(0), torch.tensor(0.4), 4) == 1).all()


def test_each_report_counts_once():
    groups = [4, 1, 4, 2, 1, 7]
    expected = [groups.index(group) == i for i, group in enumerate(groups)]
    assert once_each(torch.tensor(groups)).tolist() == expected
    seen = set()
    assert first_seen(groups, seen) == [i for i, first in enumerate(expected) if first] and seen == set(groups)
    assert first_seen([7, 9, 9], seen) == [1]


def test_doubt_is_its_formula():
    torch.manual_seed(0)
    s_global, s_prototype = torch.randn(6, 6), torch.randn(6, 6)
    films, reports, groups = torch.rand(6), torch.rand(6), [0, 1, 2, 0, 4, 5]
    total = 0.0
    for i in range(6):
        asked = [s_global[i, j] + 0.5 * (films[i] * reports[j]).sqrt() * s_prototype[i, j] for j in range(6)]
        back = [s_global[j, i] + 0.5 * (films[j] * reports[i]).sqrt() * s_prototype[j, i] for j in range(6)]
        for scores, c in ((asked, films[i].item()), (back, reports[i].item())):
            right = groups[int(torch.stack(scores).argmax())] == groups[i]
            total -= math.log(c if right else 1 - c) / 12
    found = doubt(s_global, s_prototype, films, reports, torch.tensor(groups), 0.5)
    assert found.item() == pytest.approx(total, abs=1e-5)


def test_the_best_of_81_temperatures_is_chosen():
    torch.manual_seed(0)
    scores = 0.3 * torch.eye(12) + 0.3 * torch.randn(12, 12)

    def loss(temperature):
        total = 0.0
        for matrix in (scores, scores.T):
            for i, row in enumerate(matrix):
                c = min(max(entropy_confidence(row.tolist(), temperature, 5), 1e-6), 1 - 1e-6)
                total -= math.log(c if int(row.argmax()) == i else 1 - c) / 12
        return total

    every = torch.logspace(-2.5, 0, 81).tolist()
    assert loss(best_temperature(scores, 5).item()) == pytest.approx(min(map(loss, every)), abs=1e-4)


def test_listed_scores_are_inner_products_of_the_listed():
    torch.manual_seed(0)
    queries, gallery, listed = torch.randn(3, 4), torch.randn(6, 4), torch.tensor([[0, 5], [2, 2], [4, 1]])
    found = listed_scores(queries, gallery, listed)
    for q in range(3):
        for m in range(2):
            assert found[q, m].item() == pytest.approx((queries[q] @ gallery[listed[q, m]]).item(), abs=1e-5)


@pytest.mark.parametrize("levels", LEVEL_CHOICES)
def test_levels_are_a_switch(small_phantom, levels):
    "What is not asked has no prototypes, no weight and no map; the score holds the rest."
    method, batch, maker = made(small_phantom, levels=levels)
    names = levels.split("+")
    assert method.counts == tuple({"fine": 8, "coarse": 4, "whole": 1}[name] for name in names)
    terms = method(batch)
    assert (terms["diversity"] > 0) == (levels != "whole")
    method.finish(maker.epoch(0, 16))
    images, texts = both(method, batch)
    assert images.mu.shape[1] == method.config.dim + method.config.prototype_dim * sum(method.counts) + 2
    assert {"fine", "coarse"} & set(images.local) == set(names) - {"whole"} == {"fine", "coarse"} & set(texts.local)
    second, _ = method.rerank(images, texts, method.shortlist(images, texts, 5))
    assert torch.allclose(second, method.score(images, texts).gather(1, method.shortlist(images, texts, 5)), atol=1e-3)


def test_weighting_is_a_switch(small_phantom):
    "Against a bank, by the pair itself in the second ranking, or not at all."
    plain, batch, maker = made(small_phantom, weighting="none")
    assert "confidence" not in plain(batch)
    plain.finish(maker.epoch(0, 16))
    images, texts = both(plain, batch)
    assert plain.bank_count == 0 and (plain.parts(images)[2] - 1).abs().max() < 1e-5
    pair, _, _ = made(small_phantom, weighting="pair")
    z_v, p_v, _ = pair.parts(images)
    z_t, p_t, _ = pair.parts(texts)
    shortlist = pair.shortlist(images, texts, 5)
    scores, sure = pair.rerank(images, texts, shortlist)
    for i in range(3):
        expected = []
        for j in shortlist[i].tolist():
            similarity = (p_v[i] @ p_t[j]).item()
            expected.append(((z_v[i] @ z_t[j]).item() + (1 + similarity) / 2 * similarity) / 2)
        assert scores[i].tolist() == pytest.approx([pair.logit_scale.item() * e for e in expected], abs=1e-3)
        best = shortlist[i][scores[i].argmax()]
        assert sure[i].item() == pytest.approx((1 + (p_v[i] @ p_t[best]).item()) / 2, abs=1e-4)


def test_doubt_of_pairs_is_its_formula():
    s_global, s_prototype = torch.randn(5, 5), torch.rand(5, 5)
    groups = torch.tensor([0, 1, 1, 2, 3])
    ranked = s_global + 0.7 * (1 + s_prototype) / 2 * s_prototype
    total = 0.0
    for i in range(5):
        for best in (ranked[i].argmax(), ranked[:, i].argmax()):
            c = (1 + s_prototype[i, i]) / 2
            total -= (c if groups[best] == groups[i] else 1 - c).log() / 10
    assert pair_doubt(s_global, s_prototype, groups, 0.7).item() == pytest.approx(total.item(), abs=1e-5)
