"MedProbCLIP: the released code's formulas read naively, switches, learning by heart, order, meta device, search."

import numpy as np
import pytest
import torch

from medret_nb.data.batches import BatchMaker
from medret_nb.data.files import DataError
from medret_nb.methods.clip import CLIP
from medret_nb.methods.medprobclip import (
    MedProbCLIP,
    MedProbCLIPConfig,
    cloud_head,
    cloud_scores,
    pair_loss,
    split_cloud,
    start_shift,
    study_clouds,
)
from medret_nb.methods.method import Embedding
from medret_nb.methods.towers import study_targets
from medret_nb.retrieval.embeddings import embed
from medret_nb.retrieval.scoring import score_matrix
from medret_nb.retrieval.search import build_index

SWITCHES = [(distance, loss) for distance in ("mls", "csd") for loss in ("softmax", "bce")]


def made(studies, config=None, rows=range(12), seed=0, augmentation=0):
    method = MedProbCLIP.create(config, seed=seed).eval()
    return method, BatchMaker.for_method(studies, method, augmentation=augmentation).batch(rows)


def one_view(method, batch, v=0):
    return method.encode_image(batch.pixels[:, v]), method.encode_text(batch.tokens[:, v], batch.mask[:, v])


def cross_entropy(logits):
    return -np.mean(np.diag(logits) - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) - logits.max(1))


def plain(cloud):
    return cloud.mu.double().numpy(), cloud.logvar.double().numpy()


def score_by_loops(x, y, distance):
    out = np.empty((len(x[0]), len(y[0])))
    for i, (m, ell) in enumerate(zip(*x)):
        for j, (n, other) in enumerate(zip(*y)):
            variance = np.exp(ell) + np.exp(other)
            if distance == "csd":
                out[i, j] = -(((m - n) ** 2).sum() + variance.sum())
            else:
                out[i, j] = -0.5 * ((m - n) ** 2 / variance + np.log(variance)).sum()
    return out


@pytest.mark.parametrize("distance,loss", SWITCHES)
def test_the_objective_is_the_formula_read_by_loops(small_phantom, distance, loss):
    method, batch = made(
        small_phantom,
        MedProbCLIPConfig(
            distance=distance, loss=loss, group_texts=False, dim=16, vib_weight=1e-2, init_scale=0.3, image_weight=0.7
        ),
        range(8),
        augmentation=1,
    )
    with torch.no_grad():
        films, texts = zip(*(map(plain, one_view(method, batch, v)) for v in range(2)))
        terms = method(batch)
        shift = method.shift.item()

    def pair_loss(x, y):
        logits = 0.3 * score_by_loops(x, y, distance) + shift
        if loss == "softmax":
            return 0.5 * (cross_entropy(logits) + cross_entropy(logits.T))
        return np.mean(np.eye(8) * np.logaddexp(0, -logits) + (1 - np.eye(8)) * np.logaddexp(0, logits))

    def kl_of_view(means, logvars):
        each = [0.5 * sum(np.exp(ell) + m * m - 1 - ell for m, ell in zip(mu, row)) for mu, row in zip(means, logvars)]
        return np.mean(each)

    def kl(side):
        return np.mean([kl_of_view(*view) for view in side])

    expected = {
        "pairs": np.mean([pair_loss(x, y) for x in films for y in texts]),
        "films": 0.7 * pair_loss(*films),
        "texts": 0.1 * pair_loss(*texts),
        "vib": 1e-2 * (kl(films) + kl(texts)),
    }
    assert set(terms) == set(expected)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-5, abs=1e-5)


def test_the_defaults_are_those_of_the_released_code(small_phantom):
    method = MedProbCLIP.create()
    assert (method.views, method.sections, method.similarity, method.logit_scale.item(), method.shift.item()) == (
        2,
        2,
        "mls",
        1.0,
        0.0,
    )
    c = method.config
    assert (c.loss, c.image_weight, c.text_weight, c.vib_weight, c.max_logvar) == ("softmax", 1.0, 0.1, 1e-4, 6.0)
    with torch.no_grad():
        method.log_scale.fill_(-50.0)
    assert method.logit_scale.item() == pytest.approx(1e-3)


def test_the_shift_is_idle_under_softmax_and_not_under_bce(small_phantom):
    for loss, idle in (("softmax", True), ("bce", False)):
        method, batch = made(small_phantom, MedProbCLIPConfig(loss=loss), range(6))
        before = sum(v for k, v in method(batch).items() if k != "vib")
        before.backward()
        with torch.no_grad():
            method.shift.add_(3.0)
            after = sum(v for k, v in method(batch).items() if k != "vib")
        assert (abs(after.item() - before.item()) < 1e-3) == idle and (abs(method.shift.grad.item()) < 1e-4) == idle


def test_identical_texts_are_true_for_each_others_films(small_phantom):
    grouped, batch = made(small_phantom, MedProbCLIPConfig(), range(6))
    alone = made(small_phantom, MedProbCLIPConfig(group_texts=False))[0]
    batch.section_group = torch.arange(12).view(6, 2)
    batch.text_group = torch.arange(6)
    for name, value in alone(batch).items():
        assert torch.allclose(grouped(batch)[name], value, atol=1e-5)
    batch.section_group[3, 1] = batch.section_group[0, 0]  # the impression of study 3 is the findings of study 0
    true = study_targets(batch.section_group, batch.text_group)
    expected = {name: torch.eye(6) for name in ("first", "second", "films", "written")}
    expected["first"][3, 0] = expected["second"][0, 3] = 1
    expected["written"][0, 3] = expected["written"][3, 3] = expected["written"][0, 0] = 1
    for name in ("first", "second", "films"):
        assert torch.equal(true[name], expected[name])
    for i in range(6):
        for j in range(6):
            assert true["written"][i, j] == any(
                {batch.section_group[i, 0].item(), batch.section_group[j, 1].item()} <= set(row)
                for row in batch.section_group.tolist()
            )


def test_log_variances_stay_within_the_clamp_and_means_are_free(small_phantom):
    method, batch = made(small_phantom, MedProbCLIPConfig(max_logvar=2.0))
    with torch.no_grad():
        method.image_head.bias[: method.config.dim] = 3.0
        method.image_head.bias[method.config.dim :] = 50.0
        method.text_head.bias[method.config.dim :] = -50.0
    image, text = one_view(method, batch)
    assert (image.logvar == 2).all() and (text.logvar == -2).all() and (image.mu.norm(dim=1) > 10).all()


def test_it_learns_32_studies_by_heart(small_phantom):
    method = MedProbCLIP.create()
    batch = BatchMaker.for_method(small_phantom, method, augmentation=0).batch(range(32))
    optimiser = torch.optim.AdamW(method.parameters(), lr=1e-3)
    torch.manual_seed(0)
    method.train()
    for _ in range(90):
        loss = sum(method(batch).values())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimiser.step()
    method.eval()
    with torch.no_grad():
        image, text = one_view(method, batch)
    best, groups = method.score(image, text).argmax(1), batch.section_group
    assert np.mean([groups[j, 0] in groups[i] for i, j in enumerate(best.tolist())]) > 0.95


def test_the_order_of_a_batch_does_not_matter(small_phantom):
    method = MedProbCLIP.create().eval()
    maker = BatchMaker.for_method(small_phantom, method)
    for name, value in method(maker.batch([0, 1, 2, 3, 4])).items():
        assert value.item() == pytest.approx(method(maker.batch([4, 2, 0, 1, 3]))[name].item(), rel=1e-5)


@pytest.mark.parametrize("distance,loss", SWITCHES)
def test_forward_and_score_on_the_meta_device(small_phantom, distance, loss):
    method, batch = made(small_phantom, MedProbCLIPConfig(distance=distance, loss=loss), range(4))
    method, batch = method.train().to("meta"), batch.to("meta")
    assert {v.device.type for v in method(batch).values()} == {"meta"}
    assert method.score(*one_view(method, batch)).shape == (4, 4)


@pytest.mark.parametrize("distance", ["mls", "csd"])
def test_saved_loaded_and_searched_the_scores_are_the_same(small_phantom, tmp_path, distance):
    method = MedProbCLIP.create(MedProbCLIPConfig(dim=48, distance=distance), seed=4).eval()
    method.save_pretrained(tmp_path)
    again = MedProbCLIP.from_pretrained(tmp_path)
    with pytest.raises(DataError, match="medprobclip"):
        CLIP.from_pretrained(tmp_path)
    found = [embed(m, small_phantom, progress=False) for m in (method, again)]
    assert np.array_equal(found[0]["image"].logvar, found[1]["image"].logvar)
    image, text = found[0]["image"], found[0]["text"]
    assert image.similarity == again.similarity == distance and image.logvar.std() > 0.01
    scores = method.score(
        *(Embedding(torch.from_numpy(e.mu), torch.from_numpy(e.logvar)) for e in (image, text))
    ).numpy()
    assert np.allclose(score_matrix(image, text), scores, atol=1e-4)
    assert np.allclose(build_index(text).search(image, 5).scores, np.sort(scores, 1)[:, ::-1][:, :5], atol=1e-4)


def test_under_mls_the_spread_of_the_query_changes_its_ranking_under_csd_it_does_not(small_phantom):
    for distance, moved in (("mls", True), ("csd", False)):
        method, batch = made(small_phantom, MedProbCLIPConfig(distance=distance))
        image, text = one_view(method, batch)
        order = method.score(image, text).argsort(1)
        image.logvar = image.logvar + torch.linspace(-3, 3, image.logvar.shape[1])
        assert torch.equal(method.score(image, text).argsort(1), order) != moved


@pytest.mark.parametrize(
    "wrong",
    [
        dict(distance="l2"),
        dict(loss="hinge"),
        dict(vib_weight=-1.0),
        dict(max_logvar=30.0),
        dict(init_logvar=7.0),
        dict(text_weight=-0.1),
    ],
)
def test_settings_that_make_no_sense_are_named(wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        MedProbCLIPConfig(**wrong)


def test_the_head_gives_means_and_clamped_log_variances():
    head = cloud_head(5, 3, -1.5)
    assert (head.weight.shape, head.bias[3:].tolist()) == ((6, 5), [-1.5] * 3)
    both = torch.randn(2, 4, 6) * 5
    mu, logvar = split_cloud(both, 2.0)
    for k in range(3):
        assert torch.equal(mu[..., k], both[..., k])
        assert torch.equal(logvar[..., k], both[..., 3 + k].minimum(torch.tensor(2.0)).maximum(torch.tensor(-2.0)))


@pytest.mark.parametrize("distance", ["mls", "csd"])
def test_scores_of_clouds_are_their_formula(distance):
    torch.manual_seed(0)
    x, y = (torch.randn(4, 6), torch.randn(4, 6)), (torch.randn(3, 6), torch.randn(3, 6))
    expected = score_by_loops(*[[part.double().numpy() for part in cloud] for cloud in (x, y)], distance)
    np.testing.assert_allclose(cloud_scores(x, y, distance), expected, rtol=1e-4)


def test_what_a_pair_costs_is_its_formula():
    torch.manual_seed(0)
    scores, m = torch.randn(4, 4), torch.eye(4)
    m[0, 2] = m[3, 1] = 1
    logits = 1.7 * scores + 0.4
    total = 0.0
    for i in range(4):
        for j in range(4):
            total -= m[i, j] / m[i].sum() * logits[i].log_softmax(0)[j] / 8
            total -= m[i, j] / m[:, j].sum() * logits[:, j].log_softmax(0)[i] / 8
    assert pair_loss(scores, m, 1.7, 0.4, "softmax").item() == pytest.approx(total.item(), abs=1e-5)
    yes = [m[i, j] * logits[i, j].sigmoid().log() for i in range(4) for j in range(4)]
    no = [(1 - m[i, j]) * (-logits[i, j]).sigmoid().log() for i in range(4) for j in range(4)]
    expected = -(sum(yes) + sum(no)) / 16
    assert pair_loss(scores, m, 1.7, 0.4, "bce").item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("distance", ["mls", "csd"])
def test_two_equal_clouds_start_at_the_logit_that_was_asked_for(distance):
    config = MedProbCLIPConfig(distance=distance, loss="bce", init_shift=2.0, init_scale=0.5, init_logvar=-1.0, dim=10)
    variance = 2 * np.exp(-1.0)
    score = -10 * variance if distance == "csd" else -5 * np.log(variance)
    assert 0.5 * score + start_shift(config) == pytest.approx(2.0, abs=1e-5)
    assert start_shift(MedProbCLIPConfig(distance=distance, init_shift=2.0)) == 2.0


@pytest.mark.parametrize("count", [1, 2])
def test_a_study_has_a_cloud_for_each_text(count):
    encoded = {"text_mu": torch.randn(3, count, 4), "text_logvar": torch.randn(3, count, 4)}
    clouds = study_clouds(encoded, "text")
    assert len(clouds) == count
    for v, (mu, logvar) in enumerate(clouds):
        assert torch.equal(mu, encoded["text_mu"][:, v]) and torch.equal(logvar, encoded["text_logvar"][:, v])


@pytest.mark.parametrize("views, sections", [(1, 1), (1, 2), (2, 1)])
def test_views_and_sections_are_switches(small_phantom, views, sections):
    "One film or one text takes its term away, and the mean is over what is there."
    method, batch = made(small_phantom, MedProbCLIPConfig(views=views, sections=sections, group_texts=False))
    terms = method(batch)
    assert set(terms) == {"pairs", "vib"} | ({"films"} if views == 2 else set()) | (
        {"texts"} if sections == 2 else set()
    )
    films = [method.encode_image(batch.pixels[:, v]).cloud for v in range(views)]
    texts = [method.encode_text(batch.tokens[:, s], batch.mask[:, s]).cloud for s in range(sections)]
    costs = [
        pair_loss(cloud_scores(film, text), torch.eye(12), method.logit_scale, method.shift, "softmax")
        for film in films
        for text in texts
    ]
    assert terms["pairs"].item() == pytest.approx(torch.stack(costs).mean().item(), abs=1e-4)


def test_the_text_is_pooled_as_released_by_a_setting(small_phantom):
    "The released code takes the first token, of a BERT trained for it; the setting does, too."
    mean, batch = made(small_phantom)
    first, _ = made(small_phantom, MedProbCLIPConfig(text_pool="first"))
    tokens = batch.tokens[:, 0], batch.mask[:, 0]
    with torch.no_grad():
        pooled, words = first.text_encoder(*tokens)
        assert torch.allclose(pooled, words[:, 0], atol=1e-6)
        assert not torch.allclose(mean.encode_text(*tokens).mu, first.encode_text(*tokens).mu, atol=1e-3)
