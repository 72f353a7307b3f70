"PCME++: its objective against the formulas read naively, mixed targets, learning by heart, order, meta device, search."

import numpy as np
import pytest
import torch

from medret_nb.data.batches import BatchMaker
from medret_nb.data.files import DataError
from medret_nb.losses.gaussian import match_probability
from medret_nb.methods.clip import CLIP
from medret_nb.methods.method import Embedding
from medret_nb.methods.pcmepp import (
    PCMEPP,
    PCMEPPConfig,
    SpreadHead,
    means_contrast,
    mixed_targets,
    mixture_of,
    unit_cloud,
)
from medret_nb.retrieval.embeddings import embed
from medret_nb.retrieval.scoring import score_matrix
from medret_nb.retrieval.search import build_index


def made(studies, config=None, rows=range(12), seed=0, augmentation=0):
    method = PCMEPP.create(config, seed=seed).eval()
    return method, BatchMaker.for_method(studies, method, augmentation=augmentation).batch(rows)


def clouds(method, batch):
    return method.encode_image(batch.pixels[:, 0]), method.encode_text(batch.tokens[:, 0], batch.mask[:, 0])


def by_loops(image, text, targets, a, b, alpha, beta, gamma):
    n = len(targets)
    d = np.array(
        [[((x - y) ** 2).sum() + np.exp(lx).sum() + np.exp(ly).sum() for y, ly in zip(*text)] for x, lx in zip(*image)]
    )
    logit = b - a * d

    def bce(m):
        return np.mean(m * np.logaddexp(0, -logit) + (1 - m) * np.logaddexp(0, logit))

    rows, columns = targets.copy(), targets.copy()
    for i in range(n):
        best_row = max(range(n), key=lambda j: (targets[i, j], j == i))
        best_column = max(range(n), key=lambda j: (targets[j, i], j == i))
        for j in range(n):
            if logit[i, j] >= logit[i, best_row]:
                rows[i, j] = targets[i, best_row]
            if logit[j, i] >= logit[best_column, i]:
                columns[j, i] = targets[best_column, i]
    kl = sum(np.mean(-0.5 * (1 + ell - mu**2 - np.exp(ell))) for mu, ell in (image, text))
    alike = np.array([[-a * ((x - y) ** 2).sum() for y in text[0]] for x in image[0]])

    def contrast(s, m):
        return np.mean([-(m[i] / m[i].sum() * (s[i] - np.log(np.exp(s[i]).sum()))).sum() for i in range(n)])

    means = gamma * 0.5 * (contrast(alike, targets) + contrast(alike.T, targets.T))
    return {"match": 2 * bce(targets), "means": means, "pseudo": alpha * (bce(rows) + bce(columns)), "vib": beta * kl}


@pytest.mark.parametrize("augmentation,grouped", [(0, True), (1, True), (1, False)])
def test_the_objective_is_the_formula_read_by_loops(small_phantom, augmentation, grouped):
    method, batch = made(
        small_phantom,
        PCMEPPConfig(
            mixing=0.6, group_texts=grouped, pseudo_weight=0.3, vib_weight=0.02, means_weight=0.4, smoothing=0.01
        ),
        range(14),
        augmentation=augmentation,
    )
    batch.text_group[3] = batch.text_group[5]
    with torch.no_grad():
        method.shift.fill_(4.0)
        sides = [tuple(x.double().numpy() for x in (e.mu, e.logvar)) for e in clouds(method, batch)]
        terms = method(batch)
    study, group = batch.study.tolist(), (batch.text_group if grouped else batch.study).tolist()
    targets = np.zeros((14, 14))
    for i in range(14):
        for j in range(14):
            share, partner = (
                (1.0, i) if batch.share is None else (batch.share[i].item(), study.index(batch.partner[i].item()))
            )
            targets[i, j] = 0.98 * (share * (group[i] == group[j]) + (1 - share) * (group[partner] == group[j])) + 0.01
    expected = by_loops(*sides, targets, method.logit_scale.item(), 4.0, 0.3, 0.02, 0.4)
    assert set(terms) == set(expected)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, abs=1e-5)


def test_mixed_targets_by_hand():
    study, partner, share = torch.tensor([10, 11, 12]), torch.tensor([12, 11, 12]), torch.tensor([0.7, 1.0, 1.0])
    assert torch.allclose(
        mixed_targets(study, partner, share, torch.arange(3)), torch.tensor([[0.7, 0, 0.3], [0, 1, 0], [0, 0, 1]])
    )
    assert torch.allclose(
        mixed_targets(study, partner, share, torch.tensor([0, 1, 0])), torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 0, 1]])
    )
    assert torch.allclose(
        mixed_targets(study, partner, share, torch.arange(3), 0.1)[0], torch.tensor([0.66, 0.1, 0.34])
    )


def test_clouds_have_unit_means_and_start_small_within_the_clamp(small_phantom):
    method, batch = made(small_phantom, PCMEPPConfig(init_spread=0.2, min_logvar=-8.0, max_logvar=-1.0))
    for cloud in clouds(method, batch):
        assert torch.allclose(cloud.mu.norm(dim=1), torch.ones(12)) and torch.allclose(
            cloud.logvar.exp().sum(1), torch.full((12,), 0.2), rtol=0.3
        )
    with torch.no_grad():
        method.image_spread.linear.bias.fill_(5.0), method.text_spread.linear.bias.fill_(-50.0)
    image, text = clouds(method, batch)
    assert (image.logvar == -1).all() and (text.logvar == -8).all()


def test_padding_does_not_change_a_text(small_phantom):
    method, batch = made(small_phantom)
    tokens, mask = batch.tokens[:1, 0], batch.mask[:1, 0]
    longer = [torch.nn.functional.pad(x, (0, 9)) for x in (tokens, mask)]
    for name in ("mu", "logvar"):
        assert torch.allclose(
            *(getattr(method.encode_text(*given), name) for given in ((tokens, mask), longer)), atol=1e-5
        )


def test_it_learns_32_studies_by_heart(small_phantom):
    method = PCMEPP.create()
    batch = BatchMaker.for_method(small_phantom, method, augmentation=0).batch(range(32))
    optimiser = torch.optim.AdamW(method.parameters(), lr=1e-3)
    torch.manual_seed(0)
    method.train()
    for _ in range(70):
        loss = sum(method(batch).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    method.eval()
    with torch.no_grad():
        image, text = clouds(method, batch)
    scores, groups = method.score(image, text), batch.text_group
    assert np.mean((groups[scores.argmax(1)] == groups).numpy()) > 0.95
    probability = match_probability(-scores, method.logit_scale, method.shift)
    true = groups[:, None] == groups
    assert probability[true].mean() > 0.5 > 0.1 > probability[~true].mean()


def test_the_order_of_a_batch_does_not_matter_even_where_films_are_mixed(small_phantom):
    method = PCMEPP.create(PCMEPPConfig(mixing=0.7)).eval()
    maker = BatchMaker.for_method(small_phantom, method)
    for name, value in method(maker.batch([0, 1, 2, 3, 4])).items():
        assert value.item() == pytest.approx(method(maker.batch([4, 2, 0, 1, 3]))[name].item(), abs=1e-5)


def test_mixing_is_a_switch(small_phantom):
    assert made(small_phantom, PCMEPPConfig(mixing=0.0), augmentation=1)[1].share is None
    method, batch = made(small_phantom, PCMEPPConfig(mixing=1.0), augmentation=1)
    assert (batch.partner != batch.study).all() and PCMEPP(method.config, method.tokenizer).mixing == 1.0


def test_forward_and_score_on_the_meta_device(small_phantom):
    method, batch = made(small_phantom, rows=range(4), augmentation=1)
    method, batch = method.train().to("meta"), batch.to("meta")
    assert {v.device.type for v in method(batch).values()} == {"meta"}
    assert method.score(*clouds(method, batch)).shape == (4, 4)


def test_saved_loaded_and_searched_the_scores_are_the_same(small_phantom, tmp_path):
    method = PCMEPP.create(PCMEPPConfig(dim=48), seed=4).eval()
    with torch.no_grad():  # clouds of different size
        for head in (method.image_spread, method.text_spread):
            head.linear.weight.mul_(30)
    method.save_pretrained(tmp_path)
    again = PCMEPP.from_pretrained(tmp_path)
    with pytest.raises(DataError, match="pcmepp"):
        CLIP.from_pretrained(tmp_path)
    found = [embed(m, small_phantom, progress=False) for m in (method, again)]
    assert np.array_equal(found[0]["image"].logvar, found[1]["image"].logvar)
    image, text = found[0]["image"], found[0]["text"]
    scores = method.score(
        *(Embedding(torch.from_numpy(e.mu), torch.from_numpy(e.logvar)) for e in (image, text))
    ).numpy()
    assert np.allclose(score_matrix(image, text), scores, atol=1e-5) and image.meta["shift"] == pytest.approx(5.0)
    hits = build_index(text).search(image, 5)
    best = np.sort(scores, 1)[:, ::-1][:, :5]
    assert np.allclose(hits.scores, best, atol=1e-5) and text.logvar.std() > 0.01


def test_only_the_gallerys_spread_changes_a_ranking(small_phantom):
    method, batch = made(small_phantom)
    image, text = clouds(method, batch)
    order = method.score(image, text).argsort(1)
    image.logvar = image.logvar + torch.linspace(-2, 2, 12)[:, None]
    assert torch.equal(method.score(image, text).argsort(1), order)
    text.logvar[order[:, -1]] += 6.0  # the winners become vague
    assert not torch.equal(method.score(image, text).argmax(1), order[:, -1])


@pytest.mark.parametrize(
    "wrong",
    [
        dict(mixing=1.2),
        dict(smoothing=0.7),
        dict(pseudo_weight=-1.0),
        dict(means_weight=-1.0),
        dict(spread_layers=-1),
        dict(min_logvar=3.0),
        dict(max_logvar=30.0),
        dict(init_spread=0.0),
    ],
)
def test_settings_that_make_no_sense_are_named(wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        PCMEPPConfig(**wrong)


def test_mixed_targets_are_their_formula():
    rng = np.random.default_rng(0)
    for _ in range(10):
        study = torch.tensor(rng.permutation(20)[:6])
        partner, groups = study[torch.tensor(rng.integers(0, 6, 6))], torch.tensor(rng.integers(0, 3, 6))
        share, epsilon = torch.tensor(rng.random(6)), 0.01
        found = mixed_targets(study, partner, share, groups, epsilon)
        for i in range(6):
            at = study.tolist().index(partner[i].item())
            for j in range(6):
                m = share[i] * (groups[i] == groups[j]) + (1 - share[i]) * (groups[at] == groups[j])
                assert found[i, j].item() == pytest.approx(((1 - 2 * epsilon) * m + epsilon).item())


def test_the_contrast_of_the_means_is_its_formula():
    torch.manual_seed(0)
    x, y = (torch.nn.functional.normalize(torch.randn(5, 3), dim=1) for _ in range(2))
    m = torch.eye(5)
    m[0, 1], m[2, 2], m[3, 0] = 0.3, 0.6, 1.0

    def one_way(x, y, m):
        total = 0.0
        for i in range(5):
            logits = torch.stack([-4.0 * (x[i] - y[k]).square().sum() for k in range(5)])
            for j in range(5):
                total -= m[i, j] / m[i].sum() * (logits[j] - logits.exp().sum().log()) / 5
        return total

    expected = (one_way(x, y, m) + one_way(y, x, m.T)) / 2
    assert means_contrast(x, y, 4.0, m).item() == pytest.approx(expected.item(), abs=1e-5)


def test_a_cloud_has_unit_mean_and_clamped_spread():
    mu, logvar = torch.randn(4, 3), torch.tensor([[-9.0, 0.5, 7.0]]).expand(4, 3)
    unit, clamped = unit_cloud(mu, logvar, -3.0, 2.0)
    for i in range(4):
        assert torch.allclose(unit[i], mu[i] / sum(value**2 for value in mu[i]) ** 0.5)
    assert clamped.tolist() == [[-3, 0.5, 2]] * 4


def test_the_spread_is_a_map_of_the_mean_token():
    torch.manual_seed(0)
    head = SpreadHead(6, 4, 0, start=-2.0).eval()  # no layer between
    tokens, mask = torch.randn(2, 5, 6), torch.tensor([[True] * 5, [True, True, False, False, False]])
    for b, count in enumerate((5, 2)):
        mean = sum(tokens[b, t] for t in range(count)) / count
        assert torch.allclose(head(tokens, mask)[b], head.linear.weight @ mean + head.linear.bias, atol=1e-6)
    assert (head.linear.bias == -2).all() and len(SpreadHead(6, 4, 3, 0.0).layers) == 3


def test_without_mixing_each_film_is_its_own(small_phantom):
    plain = mixture_of(made(small_phantom, PCMEPPConfig(mixing=0.0))[1])
    assert (plain["share"] == 1).all() and torch.equal(plain["study"], plain["partner"])
    batch = made(small_phantom, PCMEPPConfig(mixing=1.0), augmentation=1)[1]
    assert mixture_of(batch)["share"] is batch.share and mixture_of(batch)["partner"] is batch.partner
