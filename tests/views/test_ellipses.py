"""Ellipses: exact distances in the plane, shadows by sampling, parts against the losses, the view in a browser."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import HOSTILE, opened
from playwright.sync_api import expect

from medret_nb.data.files import DataError
from medret_nb.figures.figures import save_figure
from medret_nb.losses.gaussian import csd, mls
from medret_nb.retrieval.scoring import score_matrix
from medret_nb.views.ellipses import (
    confusers,
    contour,
    ellipse_figure,
    ellipses_view,
    planes,
    rounded,
    split_distance,
    triples,
    vague_and_specific,
)
from medret_nb.views.items import answers_to, from_arrays
from medret_nb.views.widget import view_html


def clouds(n=20, dim=6, seed=0, **more):
    "n studies with clouds."
    rng = np.random.default_rng(seed)
    mu = rng.normal(size=(n, dim))
    return from_arrays(
        mu,
        mu + 0.4 * rng.normal(size=(n, dim)),
        rng.normal(size=(n, dim)),
        rng.normal(size=(n, dim)),
        **{"ids": [f"s{i}" for i in range(n)], "similarity": "csd", **more},
    )


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 12),
    st.sampled_from(["general", "same query and partner", "same partner and confuser", "all equal", "one line"]),
    st.integers(0, 999),
)
def test_distances_are_exact_in_every_plane(dim, kind, seed):
    rng = np.random.default_rng(seed)
    mu = rng.normal(size=(1, 3, dim))
    if kind == "same query and partner":
        mu[:, 1] = mu[:, 0]
    if kind == "same partner and confuser":
        mu[:, 2] = mu[:, 1]
    if kind == "all equal":
        mu[:] = mu[:, :1]
    if kind == "one line":
        mu[:, 2] = 3 * mu[:, 1] - 2 * mu[:, 0]
    places, shadow = planes(mu, rng.normal(size=(1, 3, dim)))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.isclose(np.linalg.norm(places[0, i] - places[0, j]), np.linalg.norm(mu[0, i] - mu[0, j]), atol=1e-6)
    assert np.isfinite(shadow).all() and (shadow[..., 0] * shadow[..., 2] - shadow[..., 1] ** 2 > -1e-9).all()
    assert np.allclose(places[0, 0], 0) and places[0, 1, 0] >= -1e-12


def test_the_shadow_is_that_of_samples():
    rng = np.random.default_rng(0)
    mu, logvar = rng.normal(size=(1, 3, 5)), rng.normal(size=(1, 3, 5))
    places, shadow = planes(mu, logvar)
    first = (mu[0, 1] - mu[0, 0]) / np.linalg.norm(mu[0, 1] - mu[0, 0])
    second = (mu[0, 2] - mu[0, 0]) - (mu[0, 2] - mu[0, 0]) @ first * first
    basis = np.stack([first, second / np.linalg.norm(second)])
    drawn = rng.normal(size=(200_000, 5)) * np.exp(0.5 * logvar[0, 1]) @ basis.T
    known = np.cov(drawn.T)
    np.testing.assert_allclose(shadow[0, 1], [known[0, 0], known[0, 1], known[1, 1]], rtol=0.03, atol=0.02)
    long, short, angle = contour(shadow[0, 1], 0.5)
    turn = np.radians(angle)
    along = drawn @ [np.cos(turn), np.sin(turn)] / long, drawn @ [-np.sin(turn), np.cos(turn)] / short
    assert abs((along[0] ** 2 + along[1] ** 2 < 1).mean() - 0.5) < 0.01 and long >= short


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 9), st.integers(0, 999))
def test_parts_add_up_to_the_score(dim, seed):
    rng = np.random.default_rng(seed)
    q, g = rng.normal(size=(2, 4, dim)), rng.normal(size=(2, 5, dim))
    tensors = [torch.tensor(x) for x in (*q, *g)]
    for name, known in (("csd", csd(*tensors)), ("mls", -mls(*tensors))):
        parts = split_distance(q[0][:, None], q[1][:, None], g[0], g[1], name)
        np.testing.assert_allclose(parts.sum(-1), known.numpy(), rtol=1e-6)
    round_csd = split_distance(q[0], rounded(q[1]), g[0][:4], rounded(g[1][:4]), "csd")
    np.testing.assert_allclose(round_csd, split_distance(q[0], q[1], g[0][:4], g[1][:4], "csd"))
    assert (split_distance(q[0], q[1], g[0][:4], g[1][:4], "cosine")[..., 1] == 0).all()
    with pytest.raises(ValueError, match="similarity"):
        split_distance(q[0], q[1], q[0], q[1], "l2")


@pytest.mark.parametrize("direction", ["image-to-text", "text-to-image"])
def test_confusers_are_the_best_wrong_ones(direction):
    items = clouds(groups=np.arange(20) // 3)
    scores = score_matrix(*items.sides(direction))
    found, places = confusers(items, direction, np.arange(20), 4)
    np.testing.assert_allclose(places, answers_to(items, direction).ranks)
    for i in range(20):
        wrong = [j for j in np.argsort(-scores[i], kind="stable") if items.groups[j] != items.groups[i]]
        assert found[i].tolist() == wrong[:4]
    assert confusers(clouds(4, groups=[0, 0, 0, 1]), direction, np.arange(4), 5)[0].shape == (4, 1)
    assert confusers(clouds(4, groups=[0] * 4), direction, np.arange(4), 5)[0].shape == (4, 0)


def test_what_the_view_sends_is_what_was_computed():
    items = clouds(similarity="mls")
    view, some = ellipses_view(items, k=3), triples(items, k=3)
    side = view.payload["data"]["directions"]["it"]
    for key in ("others", "xy", "cov", "parts", "trace", "ranks", "sphere"):
        sent = np.frombuffer(side[key]["data"], side[key]["$array"]).reshape(side[key]["shape"])
        np.testing.assert_allclose(sent, getattr(some, key), rtol=1e-5, atol=1e-5)
    assert view.state["chosen"] == int(some.trace.argmax()) and "shape of a cloud" in view.payload["data"]["shape"]


def test_uncertainty_is_held_against_a_yardstick():
    assert "1.00 over 5" in vague_and_specific(np.arange(5.0), np.arange(5.0), "words", True)
    assert "Too few" in vague_and_specific(np.ones(5), np.arange(5.0), "words", True)
    assert "-1.00 over 4" in vague_and_specific(np.array([1.0, 2, 3, 4, np.nan]), -np.arange(5.0), "words", True)


ODD = {
    "no study": ((np.zeros((0, 3)),) * 2, (np.zeros((0, 3)),) * 2, "no studies", True),
    "points": ((np.eye(3),) * 2, (None, None), "points, not clouds", True),
    "one": ((np.eye(3)[:1],) * 2, (np.zeros((1, 3)),) * 2, "only one study", False),
    "alike": ((np.ones((4, 3)),) * 2, (np.zeros((4, 3)),) * 2, "same mean", False),
    "NaN": (
        (np.array([[np.nan, 1, 0], [1, 0, 0], [0, 1, 0]]), np.eye(3)),
        (np.zeros((3, 3)),) * 2,
        "1 of 3 studies",
        False,
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_inputs_are_told(name, page, tmp_path):
    (image, text), (a, b), word, empty = ODD[name]
    view = ellipses_view(
        image=image,
        text=text,
        image_logvar=a,
        text_logvar=b,
        texts=["same words"] * len(image) if name == "alike" else None,
    )
    assert word in " ".join(view.payload["says"]) and view.payload["empty"] == empty
    opened(page, view_html(view, tmp_path / "p.html"))
    assert word in page.inner_text("header") and not page.errors, page.errors


@pytest.mark.browser
def test_a_page_answers_without_a_kernel(page, tmp_path):
    items = clouds(similarity="mls", texts=HOSTILE + [f"report {i}" for i in range(20 - len(HOSTILE))])
    path, some = view_html(ellipses_view(items, k=3), tmp_path / "p.html"), triples(items, k=3)
    for width, scheme in ((1200, "light"), (420, "dark")):
        opened(page, path, width, scheme)
        expect(page.locator("svg ellipse")).to_have_count(3)
        order = np.argsort(-some.trace, kind="stable")
        assert page.locator("tbody tr button").nth(3).inner_text() == f"s{order[0]}"  # sorted by uncertainty
        page.get_by_label("also round").check()
        expect(page.locator("svg ellipse")).to_have_count(6)
        page.get_by_role("button", name=re.compile("^confuser 2")).click()
        i = int(some.trace.argmax())
        shown = sorted(float(t) for t in page.locator("svg .far").all_text_contents())
        means = items.image.mu[i], items.text.mu[i], items.text.mu[some.others[i, 1]]
        known = sorted(
            np.linalg.norm(a - b) for a, b in ((means[0], means[1]), (means[0], means[2]), (means[1], means[2]))
        )
        np.testing.assert_allclose(shown, known, atol=6e-4)
        page.get_by_label("Ask with").select_option("report → films")
        expect(page.locator(".card strong").first).to_have_text(re.compile("^query: report"))
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (
        page.title() == "Uncertainty ellipses"
        and page.locator("script").count() == 2
        and not page.outside
        and not page.errors
    ), page.errors


def test_the_print_form(tmp_path):
    rng = np.random.default_rng(0)
    mu, logvar = rng.normal(size=(3, 9)), rng.normal(size=(3, 9))
    first, second = (
        save_figure(ellipse_figure(mu, logvar, HOSTILE[:3], "mls", round_too=True), tmp_path / f"{n}.svg").read_bytes()
        for n in "ab"
    )
    assert first == second and b"<script>" not in first
    with pytest.raises(ValueError, match="NaN"):
        ellipse_figure(mu * np.nan, logvar)
    with pytest.raises(DataError, match="points"):
        triples(from_arrays(np.eye(3), np.eye(3)))


@pytest.mark.parametrize("name", ["pcmepp", "medprobclip"])
def test_a_run_of_a_probabilistic_method(name, small_phantom, tmp_path):
    from medret_nb.methods.table import method_class

    kind = method_class(name)
    kind.create(kind.Config(data=str(small_phantom.folder), max_words=32)).save_pretrained(tmp_path)
    view = ellipses_view(tmp_path, split="train", progress=False, k=2)
    data = view.payload["data"]
    assert data["confusers"] == 2 and data["similarity"] == kind.similarity and not view.payload["empty"]
    assert (
        "bits" in data["directions"]["it"]["axes"][0]
        and "scenes that fit" in data["directions"]["ti"]["axes"][0]
        and "tau" in data["directions"]["ti"]["told"]
    )


def loop_parts(mu, sigma, nu, tau, similarity):
    "The two parts of a distance, from the equations, one coordinate at a time; sigma, tau: standard deviations."
    means = variances = product = long_mu = long_nu = 0.0
    for d in range(len(mu)):
        square = (mu[d] - nu[d]) ** 2
        total = sigma[d] ** 2 + tau[d] ** 2
        means += square if similarity == "csd" else square / total / 2
        variances += total if similarity == "csd" else math.log(total) / 2
        product += mu[d] * nu[d]
        long_mu += mu[d] ** 2
        long_nu += nu[d] ** 2
    if similarity == "cosine":
        return [1 - product / math.sqrt(long_mu * long_nu), 0.0]
    return [means, variances]


@pytest.mark.parametrize("similarity", ["csd", "mls", "cosine"])
def test_parts_are_those_of_a_loop(similarity):
    rng = np.random.default_rng(0)
    mu, nu = rng.normal(size=(2, 7))
    log_s, log_t = rng.normal(size=(2, 7))
    found = split_distance(mu, log_s, nu, log_t, similarity)
    wanted = loop_parts(mu, np.exp(log_s / 2), nu, np.exp(log_t / 2), similarity)
    np.testing.assert_allclose(found, wanted)
