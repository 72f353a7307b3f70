"CXR-CLIP: its objective read naively, what counts as true, learning by heart, order, meta device, saving."

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from medret_nb.data.batches import BatchMaker
from medret_nb.data.files import DataError
from medret_nb.losses.contrastive import section_targets
from medret_nb.methods.clip import CLIP
from medret_nb.methods.cxr_clip import CXRCLIP, CXRCLIPConfig, agreement
from medret_nb.retrieval.embeddings import embed
from medret_nb.retrieval.scoring import score_matrix
from medret_nb.retrieval.search import build_index


def made(studies, config=None, rows=range(12), seed=0, augmentation=0):
    method = CXRCLIP.create(config, seed=seed).eval()
    return method, BatchMaker.for_method(studies, method, augmentation=augmentation).batch(rows)


def test_the_objective_is_the_sum_that_the_public_code_computes(small_phantom):
    method, batch = made(small_phantom, CXRCLIPConfig(group_texts=False), augmentation=1)
    images = [method.encode_image(batch.pixels[:, v]).mu for v in range(2)]
    texts = [method.encode_text(batch.tokens[:, s], batch.mask[:, s]).mu for s in range(2)]

    def one_way(a, b):
        total = 0.0
        for i in range(len(a)):
            scores = torch.stack([method.logit_scale * (a[i] @ b[j]) for j in range(len(b))])
            total = total - torch.log(scores[i].exp() / scores.exp().sum())
        return total / len(a)

    mvs = (
        sum(one_way(i, t) for i in images for t in texts) / 4 + sum(one_way(t, i) for i in images for t in texts) / 4
    ) / 2
    icl = (one_way(images[0], images[1]) + one_way(images[1], images[0])) / 2
    tcl = (one_way(texts[1], texts[0]) + one_way(texts[0], texts[1])) / 2
    terms = method(batch)
    for name, expected in (("mvs", mvs), ("icl", icl), ("tcl", 0.5 * tcl)):
        assert terms[name].item() == pytest.approx(expected.item(), abs=1e-5)


def test_what_is_true_by_a_loop_over_studies():
    rng = np.random.default_rng(0)
    for _ in range(20):
        reports = rng.integers(0, 5, (9, 2)).tolist()  # 5 sentences, findings and impression
        whole = [reports.index(r) for r in reports]
        true = section_targets(torch.tensor(reports), torch.tensor(whole))
        for i, mine in enumerate(reports):
            for j, other in enumerate(reports):
                assert true["first"][i, j] == (other[0] in mine) and true["second"][i, j] == (other[1] in mine)
                assert true["written"][i, j] == any(mine[0] in r and other[1] in r for r in reports)
                assert true["films"][i, j] == (mine == other)
        assert all((matrix.diagonal() == 1).all() for matrix in true.values())


def test_no_two_vectors_that_are_equal_are_called_true_and_false(small_phantom):
    texts = torch.tensor([[0, 1], [2, 1], [0, 3], [4, 4], [1, 1]])
    true = section_targets(texts, torch.arange(5))
    for s, name in ((0, "first"), (1, "second")):
        for a in range(5):
            for b in range(5):
                if texts[a, s] == texts[b, s]:
                    assert torch.equal(true[name][:, a], true[name][:, b])
                if texts[a, 0] == texts[b, 0]:
                    assert torch.equal(true["written"][a], true["written"][b])
                if texts[a, 1] == texts[b, 1]:
                    assert torch.equal(true["written"][:, a], true["written"][:, b])


def test_group_texts_is_a_switch(small_phantom):
    grouped, batch = made(small_phantom, seed=1)
    alone, _ = made(small_phantom, CXRCLIPConfig(group_texts=False), seed=1)
    batch.text_group[:], batch.section_group[:] = torch.arange(12), torch.arange(24).unflatten(0, (12, 2))
    for name in ("mvs", "icl", "tcl"):
        assert torch.allclose(grouped(batch)[name], alone(batch)[name], atol=1e-6)
    batch.section_group[:2, 1] = 0
    for name in ("mvs", "tcl"):
        assert not torch.allclose(grouped(batch)[name], alone(batch)[name])
    assert torch.allclose(grouped(batch)["icl"], alone(batch)["icl"])  # the reports as a whole still differ


def test_weights_scale_their_terms(small_phantom):
    plain, batch = made(small_phantom)
    other, _ = made(small_phantom, CXRCLIPConfig(image_weight=0.0, text_weight=2.0))
    a, b = plain(batch), other(batch)
    assert (
        b["icl"].item() == 0
        and b["tcl"].item() == pytest.approx(4 * a["tcl"].item(), rel=1e-5)
        and torch.equal(a["mvs"], b["mvs"])
    )
    with pytest.raises(DataError, match="text_weight"):
        CXRCLIPConfig(text_weight=-1.0)


def test_it_learns_32_studies_by_heart(small_phantom):
    torch.manual_seed(0)
    method, batch = made(small_phantom, rows=range(32))
    optimiser = torch.optim.AdamW(method.parameters(), lr=5e-4)
    method.train()
    for _ in range(60):
        loss = sum(method(batch).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    method.eval()
    with torch.no_grad():
        films = [method.encode_image(batch.pixels[:, v]) for v in range(2)]
        texts = [method.encode_text(batch.tokens[:, s], batch.mask[:, s]) for s in range(2)]
    groups = batch.section_group
    found = [
        (groups[method.score(film, text).argmax(1), s] == groups[:, s]).float().mean()
        for film in films
        for s, text in enumerate(texts)
    ]
    assert np.mean(found) > 0.95


def test_the_order_of_a_batch_does_not_matter(small_phantom):
    method = CXRCLIP.create().eval()
    maker = BatchMaker.for_method(small_phantom, method)
    one, two = method(maker.batch([0, 1, 2, 3, 4])), method(maker.batch([4, 2, 0, 1, 3]))
    for name in one:
        assert one[name].item() == pytest.approx(two[name].item(), abs=1e-5)


def test_forward_and_score_on_the_meta_device(small_phantom):
    method, batch = made(small_phantom, rows=range(4))
    method, batch = method.to("meta"), batch.to("meta")
    assert {v.device.type for v in method(batch).values()} == {"meta"}
    assert method.score(
        method.encode_image(batch.pixels[:, 0]), method.encode_text(batch.tokens[:, 0], batch.mask[:, 0])
    ).shape == (4, 4)


def test_saved_loaded_and_searched_it_scores_the_same(small_phantom, tmp_path):
    first = CXRCLIP.create(CXRCLIPConfig(dim=24, text_weight=0.25), seed=3).eval()
    first.save_pretrained(tmp_path)
    second = CXRCLIP.from_pretrained(tmp_path)
    assert second.config.text_weight == 0.25
    with pytest.raises(DataError, match="holds a cxr_clip method, not clip"):
        CLIP.from_pretrained(tmp_path)
    a, b = embed(first, small_phantom, progress=False), embed(second, small_phantom, progress=False)
    scores = score_matrix(a["image"], a["text"])
    assert np.array_equal(scores, score_matrix(b["image"], b["text"]))
    hits = build_index(b["text"]).search(b["image"], 5)
    assert np.allclose(np.take_along_axis(scores, hits.positions, 1), hits.scores, atol=1e-6)
    cosines = F.normalize(torch.from_numpy(a["image"].mu), dim=1) @ F.normalize(torch.from_numpy(a["text"].mu), dim=1).T
    assert np.allclose(scores, cosines.numpy(), atol=1e-6)


def test_an_agreement_is_its_formula():
    torch.manual_seed(0)
    a, b = F.normalize(torch.randn(5, 4), dim=1), F.normalize(torch.randn(5, 4), dim=1)
    true = torch.eye(5)
    true[0, 3] = true[1, 2] = true[4, 2] = 1

    def one_way(a, b, m):
        total = 0.0
        for i in range(5):
            scores = torch.stack([7.0 * a[i] @ b[k] for k in range(5)])
            for j in range(5):
                total += m[i, j] / m[i].sum() * (scores.exp().sum().log() - scores[j]) / 5
        return total

    expected = (one_way(a, b, true) + one_way(b, a, true.T)) / 2
    assert agreement(a, b, 7.0, true).item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("views, sections", [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_views_and_sections_are_switches(small_phantom, views, sections):
    "Batches, terms, what is embedded: one film or one text takes its term away, the mean is over what is there."
    method, batch = made(small_phantom, CXRCLIPConfig(views=views, sections=sections, group_texts=False))
    assert batch.pixels.shape[1] == views and batch.tokens.shape[1] == sections
    terms = method(batch)
    wanted = {"mvs"} | ({"icl"} if views == 2 else set()) | ({"tcl"} if sections == 2 else set())
    assert set(terms) == wanted
    films = [method.encode_image(batch.pixels[:, v]).mu for v in range(views)]
    texts = [method.encode_text(batch.tokens[:, s], batch.mask[:, s]).mu for s in range(sections)]
    pairs = [agreement(film, text, method.logit_scale, torch.eye(12)) for film in films for text in texts]
    assert terms["mvs"].item() == pytest.approx(torch.stack(pairs).mean().item(), abs=1e-5)
    assert method.config.inference_policy == ("findings" if sections == 2 else "both")


def test_one_text_per_study_counts_as_true_where_it_is_equal(small_phantom):
    method, batch = made(small_phantom, CXRCLIPConfig(views=1, sections=1))
    plain, _ = made(small_phantom, CXRCLIPConfig(views=1, sections=1, group_texts=False))
    batch.section_group[:, 0] = torch.arange(12)
    assert torch.allclose(method(batch)["mvs"], plain(batch)["mvs"])
    batch.section_group[:4] = 0
    assert not torch.allclose(method(batch)["mvs"], plain(batch)["mvs"])
