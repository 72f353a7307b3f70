"""Maps: PCA against scikit-learn, seeds, caches, odd inputs, figures."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from medret_nb.figures.figures import save_figure
from medret_nb.views.items import from_arrays
from medret_nb.views.maps import map_figure, map_points, maps_of, pca_map, umap_map


def test_pca_is_that_of_scikit_learn():
    x = np.random.default_rng(0).normal(size=(80, 7)) * np.arange(1, 8)
    known = PCA(2, svd_solver="full").fit(x)
    made = pca_map(x)
    np.testing.assert_allclose(np.abs(made.xy), np.abs(known.transform(x)), atol=1e-4)
    assert f"{known.explained_variance_ratio_.sum():.0%}" in made.told
    np.testing.assert_allclose(made.place(x[:3]), made.xy[:3], atol=1e-5)
    np.testing.assert_array_equal(pca_map(-x).xy * [1, 1], pca_map(-x).xy)


@pytest.mark.parametrize(
    "x",
    [np.zeros((0, 3)), np.zeros((1, 3)), np.ones((4, 3)), np.arange(5.0)[:, None]],
    ids=["none", "one", "alike", "one direction"],
)
def test_odd_inputs_have_a_map(x):
    for made in (pca_map(x), umap_map(x)):
        assert made.xy.shape == (len(x), 2) and np.isfinite(made.xy).all() and made.told


def test_centring_takes_the_gap_away():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(40, 6))
    items = from_arrays(image, image + 50, image_logvar=np.zeros((40, 6)), text_logvar=np.zeros((40, 6)))
    plain, centred = maps_of(items, ("pca", "centred"))
    assert np.abs(plain.xy[:40] - plain.xy[40:]).max() > 50 and np.abs(centred.xy[:40] - centred.xy[40:]).max() < 1e-3
    np.testing.assert_allclose(centred.place(items.text.mu[:2]), centred.xy[40:42], atol=1e-3)
    with pytest.raises(ValueError, match="tsne"):
        maps_of(items, ["tsne"])


def test_the_mean_of_all_points_lies_in_the_middle():
    rng = np.random.default_rng(0)
    items = from_arrays(rng.normal(size=(40, 6)) + 2, rng.normal(size=(40, 6)) - 5)
    (plain,) = maps_of(items, ("pca",))
    middle = np.concatenate([map_points(items.image), map_points(items.text)]).mean(0)
    np.testing.assert_allclose(plain.place(middle[None]), 0, atol=1e-5)


@pytest.mark.slow
def test_umap_is_seeded_and_kept(tmp_path):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(60, 8)), rng.normal(size=(60, 8)) + 12])
    first, second, other = umap_map(x, 0, tmp_path), umap_map(x, 0), umap_map(x, 1)
    np.testing.assert_array_equal(first.xy, second.xy)
    assert not np.allclose(first.xy, other.xy) and len(list(tmp_path.glob("umap-*.npy"))) == 1
    np.testing.assert_array_equal(umap_map(x, 0, tmp_path).xy, first.xy)
    inside = np.linalg.norm(first.xy[:60] - first.xy[:60].mean(0), axis=1).max()
    assert np.linalg.norm(first.xy[:60].mean(0) - first.xy[60:].mean(0)) > inside


def test_a_map_prints_the_same_twice(tmp_path):
    rng = np.random.default_rng(0)
    xy = rng.normal(size=(50, 2))
    xy[3] = np.nan

    def draw():
        return map_figure(
            xy,
            rng.integers(0, 1, 50),
            ["<b>", "$x$"],
            np.arange(50) % 2 > 0,
            "told",
            [(0, "query"), (1, "1")],
            [(0.0, 0.0, "\u202e&")],
        )

    for kind in ("pdf", "svg"):
        first, second = (save_figure(draw(), tmp_path / f"{n}.{kind}").read_bytes() for n in "ab")
        assert first == second
