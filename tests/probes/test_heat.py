"One map against its boxes: numbers against loops and scikit-learn, ties, inversion, films of any shape."

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, jaccard_score

from medret_nb.data.images import boxes_in_square, letterbox
from medret_nb.probes.heat import RAW, box_mask, contrast, film_grid, map_scores, on_film


@st.composite
def maps_and_masks(draw):
    "A small map with many ties, on values that float32 holds, and a mask with pixels inside and outside."
    ny, nx = draw(st.integers(1, 6)), draw(st.integers(2, 6))
    values = draw(hnp.arrays(np.int8, (ny, nx), elements=st.integers(-4, 8))) / 8
    mask = draw(hnp.arrays(bool, (ny, nx)))
    mask.flat[0], mask.flat[-1] = True, False
    return values, mask


@settings(max_examples=150, deadline=None)
@given(maps_and_masks())
def test_against_loops_and_scikit_learn(pair):
    values, mask = pair
    levels = np.array([-0.25, 0.125, 0.5])
    (cnr, pointing, area), ious = map_scores(values, mask, levels)
    flat, truth = values.ravel(), mask.ravel()
    assert area == pytest.approx(average_precision_score(truth, flat))
    best = [t for v, t in zip(flat, truth) if v == flat.max()]
    assert pointing == pytest.approx(sum(best) / len(best))
    assert ious == pytest.approx([jaccard_score(truth, flat >= level) for level in levels])
    inside, outside = flat[truth], flat[~truth]
    noise = inside.var() + outside.var()
    if noise:
        assert cnr == pytest.approx((inside.mean() - outside.mean()) / np.sqrt(noise), rel=1e-5, abs=1e-7)
    elif inside[0] == outside[0]:
        assert cnr == 0
    else:
        assert np.isnan(cnr)


@settings(max_examples=60, deadline=None)
@given(maps_and_masks(), st.sampled_from([0.5, 2, 16]), st.sampled_from([-2, 0, 1]))
def test_scale_and_offset_change_only_the_raw_thresholds(pair, scale, offset):
    values, mask = pair
    before, after = map_scores(values, mask), map_scores(scale * values + offset, mask)
    np.testing.assert_allclose(before[0], after[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        before[1],
        map_scores(scale * values + offset, mask, scale * np.float32(RAW) + offset)[1],
        atol=0.51 if offset else 1e-9,
    )


@settings(max_examples=60, deadline=None)
@given(maps_and_masks())
def test_the_absolute_contrast_rewards_an_inverted_map(pair):
    values, mask = pair
    right, wrong = map_scores(values, mask)[0][0], map_scores(-values, mask)[0][0]
    assert (
        np.isnan(right)
        and np.isnan(wrong)
        or right == pytest.approx(-wrong)
        and abs(right) == pytest.approx(abs(wrong))
    )


def test_known_answers():
    heat = np.array([[0.1, 0.1, 0.2, 0.1], [0.1, 0.3, 0.6, 0.2], [0.0, 0.2, 0.5, 0.3], [0.1, 0.1, 0.2, 0.1]])
    inside = np.zeros((4, 4), bool)
    inside[1:3, 2:] = True
    numbers, ious = map_scores(heat, inside)
    np.testing.assert_allclose(numbers, [0.8 / 3 / np.sqrt(0.025 + 0.28 / 12 - (1.6 / 12) ** 2), 1, 0.8125], rtol=1e-5)
    np.testing.assert_allclose(ious, [4 / 15, 4 / 8, 3 / 5, 2 / 4, 2 / 4])
    share = inside.mean()
    np.testing.assert_allclose(
        map_scores(np.full((4, 4), 0.1), inside)[0], [0, share, share]
    )  # a map that says nothing
    perfect, ious = map_scores(inside.astype(float), inside)
    assert np.isnan(perfect[0]) and perfect[1:].tolist() == [1, 1] and (ious == 1).all()
    everything, ious = map_scores(heat, np.ones((4, 4), bool))  # a box over the whole film
    assert np.isnan(everything[0]) and everything[1:].tolist() == [1, 1] and ious[0] == 15 / 16
    assert np.isnan(contrast(np.zeros(0), np.ones(3)))


def test_noise_has_no_signed_contrast_and_an_absolute_one():
    rng, mask = np.random.default_rng(0), np.zeros((12, 12), bool)
    mask[3:6, 7:10] = True
    values = np.array([map_scores(rng.normal(size=mask.shape), mask)[0] for _ in range(800)])
    assert abs(values[:, 0].mean()) < 0.03 and np.abs(values[:, 0]).mean() > 0.15
    assert values[:, 1].mean() == pytest.approx(mask.mean(), abs=0.03)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=3))
def test_masks_by_pixel_centres(ny, nx, corners):
    boxes = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]
    mask = box_mask(boxes, ny, nx)
    y, x = (np.arange(ny) + 0.5) / ny, (np.arange(nx) + 0.5) / nx
    for i in range(ny):
        for j in range(nx):
            if any(x0 <= x[j] < x1 and y0 <= y[i] < y1 for x0, y0, x1, y1 in boxes):
                assert mask[i, j]
    single = [box_mask([b], ny, nx) for b in boxes]
    np.testing.assert_array_equal(mask, np.any(single, 0))  # a union
    assert all(m.any() for m in single)  # nothing is too small to be found
    for (x0, y0, x1, y1), m in zip(boxes, single):  # and nothing is drawn far outside
        rows, columns = np.nonzero(m)
        assert (np.abs(y[rows] - np.clip(y[rows], y0, y1)) <= 0.5 / ny + 1e-9).all() and (
            np.abs(x[columns] - np.clip(x[columns], x0, x1)) <= 0.5 / nx + 1e-9
        ).all()


@pytest.mark.parametrize("height,width", [(64, 64), (40, 80), (100, 30), (301, 500)])
def test_maps_of_the_square_lie_on_the_film(height, width):
    "A map that is high exactly where the box lies in the letterboxed square finds the box on the film."
    content = np.array(letterbox(np.zeros((height, width), np.uint8), 96)[1])
    box = np.array([[0.3, 0.2, 0.7, 0.5]])
    ny, nx = film_grid(content, 96)
    assert max(ny, nx) == 96 and ny / nx == pytest.approx(height / width, rel=0.03)
    in_square = boxes_in_square(box, content)
    heat = box_mask(in_square, 96, 96).astype(float)
    numbers, ious = map_scores(on_film(heat, content, ny, nx), box_mask(box, ny, nx), [0.5])
    assert numbers[2] > 0.97 and ious[0] > 0.93
    if height != width:
        assert (
            map_scores(on_film(heat, np.array([0, 0, 1, 1]), ny, nx), box_mask(box, ny, nx), [0.5])[1][0] < 0.75
        )  # boxes of the film on the square


def test_padding_never_counts():
    content = np.array([0, 0.25, 1, 0.75])
    heat = np.zeros((8, 8))
    heat[2:6] = 0.5  # the film's own rows
    dark = on_film(heat, content, 16, 32)
    heat[:2] = heat[6:] = 9  # whatever is said of the bars, away from the film's edge
    inner = slice(2, -2)  # half a cell next to the bars mixes with them, as bilinear does
    np.testing.assert_array_equal(on_film(heat, content, 16, 32)[inner], dark[inner])
    assert np.allclose(on_film(np.full((4, 4), 0.3), content, 16, 32), 0.3)


@pytest.mark.parametrize("h,w,ny,nx", [(4, 4, 16, 16), (3, 5, 9, 20), (1, 2, 4, 4)])
def test_bilinear_as_torch(h, w, ny, nx):
    heat = np.random.default_rng(0).normal(size=(h, w))
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(heat)[None, None], (ny, nx), mode="bilinear", align_corners=False
    )[0, 0].numpy()
    np.testing.assert_allclose(on_film(heat, np.array([0, 0, 1, 1]), ny, nx), wanted, atol=1e-6)
