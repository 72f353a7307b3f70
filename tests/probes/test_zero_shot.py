"Zero-shot prompts and scores: styles, mistakes in one line, pooled scores by loops."

import numpy as np
import pytest

from medret_nb.data.files import DataError
from medret_nb.evaluation.relevance import OBSERVATIONS
from medret_nb.methods.clip import CLIP
from medret_nb.probes import zero_shot as Z
from medret_nb.probes.zero_shot import STYLES, class_logits, pooled_scores, prompt_table
from medret_nb.retrieval.embeddings import embed, embed_texts
from medret_nb.retrieval.points import Embeddings


@pytest.mark.parametrize("similarity", ["cosine", "csd", "mls"])
def test_pooled_scores_are_those_of_a_loop(similarity):
    rng = np.random.default_rng(3)

    def points(n, d=5):
        return Embeddings(
            [f"{n}-{i}" for i in range(n)],
            [str(i) for i in range(n)],
            rng.normal(size=(n, d)),
            None if similarity == "cosine" else rng.normal(size=(n, d)) - 1,
            {"similarity": similarity},
        )

    def score(a, i, b, j):
        x, y = a.mu[i].astype(float), b.mu[j].astype(float)
        if similarity == "cosine":
            return x @ y / np.linalg.norm(x) / np.linalg.norm(y)
        p, q = np.exp(a.logvar[i].astype(float)), np.exp(b.logvar[j].astype(float))
        return (
            -((x - y) ** 2 + p + q).sum()
            if similarity == "csd"
            else -0.5 * ((x - y) ** 2 / (p + q) + np.log(p + q)).sum()
        )

    films, prompts = points(7), points(4)
    each = 3 * np.array([[score(films, i, prompts, j) for j in range(4)] for i in range(7)])
    for pool, wanted in (("score", each.mean(1)), ("max", each.max(1)), ("mixture", np.log(np.exp(each).mean(1)))):
        np.testing.assert_allclose(pooled_scores(films, prompts, pool, 3), wanted, rtol=1e-4, atol=1e-4)
    pooled = pooled_scores(films, prompts, "embedding", 3)
    if similarity == "csd":
        np.testing.assert_allclose(pooled, each.mean(1), rtol=1e-4)  # the mixture's moments say all
    if similarity == "cosine":  # the mean is stretched to length 1
        unit = prompts.mu / np.linalg.norm(prompts.mu, axis=1, keepdims=True)
        np.testing.assert_allclose(pooled * np.linalg.norm(unit.mean(0)), each.mean(1), rtol=1e-4)
    alone = prompts.select([2])
    for pool in Z.POOLS:
        np.testing.assert_allclose(pooled_scores(films, alone, pool, 3), each[:, 2], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="pool: 'median'"):
        pooled_scores(films, prompts, "median")


def test_every_style_is_whole():
    for style in STYLES:
        table = prompt_table(style)
        assert list(table) == list(OBSERVATIONS) and "No Finding" not in table
        assert all(yes and not set(yes) & set(no) for yes, no in table.values())
        assert all(no for _, no in table.values()) != (style in ("prior", "gloria"))
    assert prompt_table("chexzero")["Edema"] == (["edema"], ["no edema"])
    table = prompt_table("dictated")
    table["Edema"][0].append("x")
    assert "x" not in prompt_table("dictated")["Edema"][0]
    assert prompt_table({"Edema": ("a", [])}) == {"Edema": (["a"], [])}


@pytest.mark.parametrize(
    "given, message",
    [
        ("chexone", "style: 'chexone' is none of chexzero"),
        ({}, "style: must be"),
        (3, "style: must be"),
        ({"Edema": "wet"}, "prompts of Edema: must be a pair"),
        ({"Edema": ("wet",)}, "Edema: must be a pair"),
        ({"Edema": ([], "dry")}, "Edema: there is no positive one"),
        ({"Edema": (["wet", " . "], "dry")}, "Edema, positive: ' . ' is no prompt"),
        ({"Edema": ("wet", 3)}, "Edema, negative: must be a text or a list"),
        ({"Edema": ("wet", ["dry", None])}, "Edema, negative: None is no prompt"),
        ({"Edema": ("wet", "wet")}, "both positive and negative"),
    ],
)
def test_bad_prompts_are_one_line(given, message):
    with pytest.raises(DataError, match=message) as told:
        prompt_table(given)
    assert "\n" not in str(told.value)


def test_logits_are_the_pooled_scores_of_each_side(small_phantom):
    method = CLIP.create().eval()
    films = embed(method, small_phantom, "train", progress=False)["image"]
    yes, no = class_logits(
        films, method, {"Edema": (["Wet."], ["Dry.", "No edema."]), "Fracture": (["Broken."], [])}, "max", 0.5
    )
    np.testing.assert_allclose(yes[:, 0], pooled_scores(films, embed_texts(method, ["Wet."]), "max", 2))
    np.testing.assert_allclose(no[:, 0], pooled_scores(films, embed_texts(method, ["Dry.", "No edema."]), "max", 2))
    assert np.isnan(no[:, 1]).all() and np.isfinite(yes).all()
    with pytest.raises(ValueError, match="temperature: 0 is not above 0"):
        class_logits(films, method, {}, temperature=0)
