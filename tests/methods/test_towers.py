"Two towers: unit vectors by the definition, what is true of two films and two texts, and the terms that clouds share."

import pytest
import torch
from torch.nn import functional as F

from medret_nb.losses.contrastive import section_targets
from medret_nb.methods.clip import CLIP
from medret_nb.methods.method import Embedding
from medret_nb.methods.towers import TwoTowers, clouds_to_prior, multi_view_loss, paired_clouds, study_targets


def test_vectors_are_the_heads_of_what_the_encoders_say():
    method = CLIP.create(seed=2).eval()
    assert isinstance(method, TwoTowers) and method.image_head.bias is None and method.text_head.bias is None
    pixels = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    tokens, mask = method.prepare_text(["No effusion.", "Small left pneumothorax and a large heart."])
    with torch.no_grad():
        film, text = method.encode_image(pixels), method.encode_text(tokens, mask)
        pooled, patches = method.image_encoder(pixels)
        said, words = method.text_encoder(tokens, mask)
    for i in range(2):
        for found, weight, feature in (
            (film.mu, method.image_head.weight, pooled),
            (text.mu, method.text_head.weight, said),
        ):
            mapped = torch.stack([sum(weight[d, c] * feature[i, c] for c in range(len(feature[i]))) for d in range(4)])
            whole = (weight @ feature[i]).norm()
            assert torch.allclose(found[i, :4], mapped / whole, atol=1e-5)
    assert torch.allclose(film.local["patches"][1, 2, 3], method.image_head.weight @ patches[1, 2, 3], atol=1e-5)
    assert torch.allclose(text.local["words"][1, 4], method.text_head.weight @ words[1, 4], atol=1e-5)
    assert torch.equal(text.local["words_mask"], mask)


def test_targets_are_those_of_the_sections_or_the_own_study():
    sections, whole = torch.tensor([[0, 1], [2, 1], [0, 3]]), torch.tensor([0, 1, 0])
    for name, value in study_targets(sections, whole).items():
        assert torch.equal(value, section_targets(sections, whole)[name])
    alone = study_targets(sections, whole, grouped=False)
    assert set(alone) == {"first", "second", "written", "films"}
    for matrix in alone.values():
        for i in range(3):
            assert [matrix[i, j].item() for j in range(3)] == [float(i == j) for j in range(3)]


def test_every_film_meets_every_text():
    films, texts = torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0])
    met = []

    def loss(film, text, name):
        met.append((film.item(), text.item(), name))
        return film * text

    found = multi_view_loss(films, texts, loss)
    expected = 0.0
    for film in films:
        for text in texts:
            expected += film * text / 4
    assert found == expected
    assert sorted(met) == [(1, 10, "first"), (1, 20, "second"), (2, 10, "first"), (2, 20, "second")]


def test_clouds_have_four_names_and_points_have_none():
    image, text = (Embedding(torch.randn(3, 5), torch.randn(3, 5)) for _ in range(2))
    clouds = paired_clouds(image, text)
    assert list(clouds) == ["image_mu", "image_logvar", "text_mu", "text_logvar"]
    assert clouds["text_logvar"] is text.logvar and clouds["image_mu"] is image.mu
    with pytest.raises(ValueError, match="points"):
        paired_clouds(image, Embedding(torch.randn(3, 5)))


@pytest.mark.parametrize("shape", [(4, 5), (4, 2, 5)])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_pull_to_the_standard_normal_by_loops(reduction, shape):
    torch.manual_seed(0)
    clouds = {name: torch.randn(shape) for name in ("image_mu", "image_logvar", "text_mu", "text_logvar")}
    total = 0.0
    for side in ("image", "text"):
        each = []
        for mu, ell in zip(clouds[f"{side}_mu"].view(-1, 5), clouds[f"{side}_logvar"].view(-1, 5)):
            each.append(sum(0.5 * (ell[k].exp() + mu[k] ** 2 - 1 - ell[k]) for k in range(5)))
        total += sum(each) / len(each) / (5 if reduction == "mean" else 1)
    assert torch.allclose(clouds_to_prior(clouds, reduction), total, atol=1e-5)


def test_a_cloud_that_is_the_standard_normal_pays_nothing():
    nothing = Embedding(torch.zeros(2, 3), torch.zeros(2, 3))
    assert clouds_to_prior(paired_clouds(nothing, nothing), "sum") == 0
    wide = Embedding(F.normalize(torch.ones(2, 3), dim=-1), torch.ones(2, 3))
    assert clouds_to_prior(paired_clouds(wide, nothing), "sum") > 0
