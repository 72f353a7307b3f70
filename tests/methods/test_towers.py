"Two towers: unit vectors by the definition, what is true of two films and two texts, and the terms that clouds share."

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from medret_nb.data.finding_names import FINDINGS
from medret_nb.losses.contrastive import section_targets
from medret_nb.methods.clip import CLIP
from medret_nb.methods.method import Embedding
from medret_nb.methods.towers import (
    TwoTowers,
    clouds_to_prior,
    graded_relevance,
    multi_view_loss,
    paired_clouds,
    sentence_numbers,
    sentence_rows,
    study_targets,
)


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


def test_sentences_are_numbered_by_the_full_stops_before():
    torch.manual_seed(0)
    tokens = torch.randint(4, 9, (5, 12))
    tokens[:, 0], tokens[:, 9] = 2, 3
    mask = torch.arange(12).expand(5, 12) < 10
    found = sentence_numbers(tokens, mask, 7, (2, 3))
    for b in range(5):
        for t in range(12):
            before = sum(token == 7 for token in tokens[b, :t].tolist())
            assert found[b, t] == (before if 0 < t < 9 else -1)


def test_graded_relevance_by_hand_and_the_own_text_stays_first():
    labels = torch.zeros(3, len(FINDINGS))
    labels[0, 2] = labels[1, 2] = labels[1, 3] = 1
    row = graded_relevance(labels, torch.arange(3), 1.0, np.log(2.0))[0]
    assert row.tolist() == pytest.approx(np.array([2, 2**0.5, 1]) / (3 + 2**0.5))
    targets = graded_relevance(
        torch.zeros(5, len(FINDINGS)), torch.arange(5), 0.49, 50.0
    )  # five equal label sets, five texts
    assert (targets.argmax(1) == torch.arange(5)).all() and torch.allclose(targets.sum(1), torch.ones(5))


@pytest.mark.parametrize("seed", range(4))
def test_sentences_become_texts_of_their_own(seed):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(4, 8, (4, 11), generator=generator)
    tokens[:, 0] = 2
    mask = torch.arange(11) < torch.tensor([11, 7, 2, 9])[:, None]
    tokens[torch.arange(4), mask.sum(1) - 1] = 3
    tokens[~mask] = 0
    sentence = sentence_numbers(tokens, mask, 7, (2, 3))
    rows, there, place = sentence_rows(tokens, sentence, (2, 3), padding=99)
    wanted = []
    for text, numbers in zip(tokens.tolist(), sentence.tolist(), strict=True):
        for number in sorted(set(numbers) - {-1}):
            wanted.append([2, *(piece for piece, n in zip(text, numbers) if n == number), 3])
    assert [row[seen].tolist() for row, seen in zip(rows, there)] == wanted
    assert (rows[~there] == 99).all() and there.sum(1).max() == rows.shape[1]
    told = sentence >= 0
    assert torch.equal(rows.flatten()[place[told]], tokens[told]) and (place[~told] == 0).all()


def test_the_rows_of_a_batch_ask_the_device_once(monkeypatch):
    tokens = torch.tensor([[2, 5, 7, 6, 7, 3], [2, 5, 5, 5, 3, 0]])
    asked = []
    for name in ("item", "tolist", "nonzero", "__bool__", "__int__"):
        real = getattr(torch.Tensor, name)
        counted = lambda self, *rest, name=name, real=real: asked.append(name) or real(self, *rest)  # noqa: E731
        monkeypatch.setattr(torch.Tensor, name, counted)
    sentence_rows(tokens, sentence_numbers(tokens, tokens > 0, 7, (2, 3)), (2, 3))
    assert asked == ["tolist"]


def test_texts_without_any_sentence_give_one_empty_row():
    tokens, none = torch.tensor([[2, 3, 0]]), torch.full((1, 3), -1)
    rows, there, place = sentence_rows(tokens, none, (2, 3))
    assert rows.tolist() == [[2, 3]] and there.all() and (place == 0).all()
