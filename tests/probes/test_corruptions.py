"Corruptions: each against a naive reading, nested over the dial, the same in any order, and what training has seen."

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medret_nb.data.images import letterbox, read_image
from medret_nb.data.studies import StudySet
from medret_nb.phantom.rendering import render
from medret_nb.phantom.scenes import Acquisition
from medret_nb.phantom.truth import visibility_of
from medret_nb.phantom.truth_tables import load_truth
from medret_nb.probes.corruptions import (
    CORRUPTIONS,
    FAULTS,
    LONG_SIDE,
    corrupt,
    familiar,
    faulty,
    line_kernel,
    lung_boxes,
    quantum_noise,
)

SIZE, PIXEL = 64, LONG_SIDE / 64
WHOLE = np.array([[0.2, 0.15, 0.8, 0.85]])
names = st.text("abc123", min_size=1, max_size=6)


def ramp(n=1):
    "Films whose greys tell where they come from: brighter downwards and to the right."
    y, x = np.mgrid[:SIZE, :SIZE]
    return np.repeat((60 + y + 0.9 * x).astype(np.uint8)[None], n, 0)


def dot(x=32, y=32):
    film = np.zeros((1, SIZE, SIZE), np.uint8)
    film[0, y, x] = 255
    return film


def spoil(film, name, kind, severity, seed=0):
    return corrupt(film, [name], kind, severity, seed, lungs=WHOLE)[0]


def centre(film):
    y, x = np.mgrid[:SIZE, :SIZE]
    return np.array([(film * x).sum(), (film * y).sum()]) / film.sum(dtype=float)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_order_batch_and_seed(kind, small_phantom):
    ids = small_phantom.images[small_phantom.images["view"] == "PA"]["image_id"].tolist()[:5]
    pixels = small_phantom.pixels(SIZE)
    films, lungs = pixels.take(ids), lung_boxes(small_phantom, ids, np.tile([0.0, 0, 1, 1], (5, 1)))
    together, before = corrupt(films, ids, kind, 4, 1, lungs=lungs), films.copy()
    assert together.dtype == np.uint8 and together.shape == films.shape and (films == before).all()
    np.testing.assert_array_equal(corrupt(films[::-1], ids[::-1], kind, 4, 1, lungs=lungs[::-1])[::-1], together)
    np.testing.assert_array_equal(
        np.concatenate(
            [corrupt(films[i : i + 1], ids[i : i + 1], kind, 4, 1, lungs=lungs[i : i + 1]) for i in range(5)]
        ),
        together,
    )
    np.testing.assert_array_equal(corrupt(films, ids, kind, 0, 1, lungs=lungs), films)
    far = [np.abs(corrupt(films, ids, kind, s, 1, lungs=lungs).astype(float) - films).mean() for s in range(6)]
    assert far[0] == 0 and (np.diff(far) > 0).all()  # each step is further from the film
    by_chance = kind in ("quantum noise", "motion", "occlusion", "translation", "rotation", "gamma", "brightness")
    others = [corrupt(films, ids, kind, 4, s, lungs=lungs) for s in range(2, 6)]
    assert (
        not any((other == together).all() for other in others)
        if by_chance
        else all((other == together).all() for other in others)
    )


def test_noise_is_that_of_photons():
    rng = np.random.default_rng(0)
    for grey, photons in ((0, 500), (120, 500), (240, 500), (120, 50)):
        expected = photons * np.exp(-3 * grey / 255)
        noisy = quantum_noise(np.full((300, 300), grey), photons, rng.standard_normal((300, 300)), 1.0)
        counts = np.random.default_rng(1).poisson(expected, 90000)  # another sampler of the same law
        law = -85 * np.log(np.maximum(counts, 0.5) / photons)
        assert abs(noisy.mean() - law.mean()) < 0.35 and abs(noisy.std() / law.std() - 1) < 0.03
    half = quantum_noise(np.full((50, 50), 100), 100, rng.standard_normal((50, 50)), 2.0)
    assert abs(half.std() - 85 / np.sqrt(400 * np.exp(-300 / 255))) < 0.5  # a pixel of 2 mm catches four times as many


@settings(max_examples=25, deadline=None)
@given(names, st.integers(0, 5))
def test_noise_nests_and_leaves_the_mean(name, seed):
    film = ramp()
    errors = [spoil(film, name, "quantum noise", s, seed).astype(float) - film[0] for s in (2, 3, 4, 5)]
    for less, more in zip(errors, errors[1:]):
        sure = np.abs(less) >= 4  # beyond the rounding to counts and greys
        assert (np.sign(more[sure]) == np.sign(less[sure])).mean() > 0.99 and more.std() > less.std()
    assert abs(errors[2].mean()) < 2  # not darker: the system ranges itself


@settings(max_examples=40, deadline=None)
@given(names, st.integers(0, 5))
def test_blocks_contain_smaller_ones(name, seed):
    film, before = ramp(), np.zeros((SIZE, SIZE), bool)
    for severity, share in enumerate(CORRUPTIONS["occlusion"].steps, 1):
        out = spoil(film, name, "occlusion", severity, seed)
        hidden = out == np.rint(film.mean())
        rows, columns = np.flatnonzero(hidden.all(1) | (hidden.sum(1) > 4)), np.flatnonzero(hidden.sum(0) > 4)
        block = np.zeros_like(before)
        block[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        assert (
            (before <= block).all()
            and abs(block.mean() - share) < 0.04
            and (out[~block] == film[0][~block]).all()
            and hidden[block].all()
        )
        before = block


@settings(max_examples=25, deadline=None)
@given(names)
def test_shifts_and_turns_keep_their_direction(name):
    moves = [centre(spoil(dot(), name, "translation", s)) - 32 for s in (1, 2, 3)]
    for move, mm in zip(moves, CORRUPTIONS["translation"].steps):
        assert abs(np.linalg.norm(move) * PIXEL - mm) < 1 and move @ moves[0] > 0.99 * np.linalg.norm(
            move
        ) * np.linalg.norm(moves[0])

    def angle(film):
        return np.degrees(np.arctan2(*(centre(film) - 31.5)[::-1]))

    start = angle(dot(50, 32)[0])
    turned = [angle(spoil(dot(50, 32), name, "rotation", s)) - start for s in (1, 2, 3, 4, 5)]
    assert len(set(np.sign(turned))) == 1
    np.testing.assert_allclose(np.abs(turned), CORRUPTIONS["rotation"].steps, atol=0.7)


@settings(max_examples=25, deadline=None)
@given(names)
def test_motion_lengthens_along_one_line(name):
    y, x = np.mgrid[:SIZE, :SIZE] - 32.0
    axes = []
    for severity, mm in enumerate(CORRUPTIONS["motion"].steps, 1):
        mass = spoil(dot(), name, "motion", severity).astype(float) / 255
        if severity == 5:
            continue  # spread too thin for whole greys
        spread = np.array([[(mass * a * b).sum() for a in (x, y)] for b in (x, y)]) / mass.sum()
        values, vectors = np.linalg.eigh(spread)
        if severity > 1:
            assert (
                abs(np.sqrt(12 * values[1]) * PIXEL - mm) < 0.25 * mm
            )  # a uniform path has the variance length^2 / 12
            axes.append(vectors[:, 1])
    assert all(abs(a @ axes[0]) > 0.97 for a in axes)


def test_kernel_is_a_line():
    for length, angle in ((0, 0.3), (3.3, 0.0), (7, 1.1), (10, 2.9)):
        kernel, t = line_kernel(length, angle), np.linspace(-length / 2, length / 2, 2001)
        y, x = np.mgrid[: len(kernel), : len(kernel)] - len(kernel) // 2
        assert np.isclose(kernel.sum(), 1) and np.allclose(kernel, kernel[::-1, ::-1])
        assert abs((kernel * x * y).sum() - (t**2).mean() * np.cos(angle) * np.sin(angle)) < 0.05 * max(length, 1)
        off = np.abs(x * np.sin(angle) - y * np.cos(angle))
        assert kernel[off >= 1.5].sum() == 0


def test_filters_by_hand():
    rng = np.random.default_rng(0)
    film = rng.integers(90, 160, (1, SIZE, SIZE)).astype(np.uint8)
    for s, lost in enumerate(CORRUPTIONS["contrast"].steps, 1):
        out = spoil(film, "a", "contrast", s)
        np.testing.assert_allclose(out, film.mean() + (1 - lost) * (film[0] - film.mean()), atol=0.51)
    for s, quality in enumerate(CORRUPTIONS["jpeg"].steps, 1):
        file = io.BytesIO()
        Image.fromarray(film[0]).save(file, format="JPEG", quality=quality)
        np.testing.assert_array_equal(spoil(film, "a", "jpeg", s), np.asarray(Image.open(file)))
    signs = {}
    for name in "abcdefgh":
        for kind, oracle in (
            ("gamma", lambda level, sign: 255 * (film[0] / 255) ** np.exp(sign * level)),
            ("brightness", lambda level, sign: film[0] + sign * 255 * level),
        ):
            fits = [
                {
                    sign
                    for sign in (-1, 1)
                    if np.abs(spoil(film, name, kind, s) - np.clip(oracle(level, sign), 0, 255)).max() <= 0.51
                }
                for s, level in enumerate(CORRUPTIONS[kind].steps, 1)
            ]
            assert len(set.intersection(*fits)) == 1  # the same way at every step
            signs.setdefault(kind, set()).add(min(fits[0]))
    assert signs == {"gamma": {-1, 1}, "brightness": {-1, 1}}  # and both ways occur
    spread = spoil(dot(), "a", "blur", 3).astype(float)
    y, x = np.mgrid[:SIZE, :SIZE] - 32.0
    assert abs(np.sqrt((spread * x**2).sum() / spread.sum()) * PIXEL - CORRUPTIONS["blur"].steps[2]) < 1
    block = spoil(film, "a", "resolution", 3)
    small = Image.fromarray(film[0]).resize((25, 25), Image.Resampling.BOX)  # 400 mm in pixels of 16 mm
    np.testing.assert_array_equal(block, np.asarray(small.resize((SIZE, SIZE), Image.Resampling.BILINEAR)))


def test_lung_crop_goes_to_the_box(small_phantom):
    film, seen = ramp(), []
    for severity, share in enumerate(CORRUPTIONS["lung crop"].steps, 1):
        x0, y0, x1, y1 = np.round((share * (WHOLE[0] - [0, 0, 1, 1]) + [0, 0, 1, 1]) * SIZE).astype(int)
        np.testing.assert_array_equal(
            spoil(film, "a", "lung crop", severity), letterbox(film[0, y0:y1, x0:x1], SIZE)[0]
        )
        seen.append((x0, y0, SIZE - x1, SIZE - y1))
    assert (np.diff(seen, axis=0) >= 0).all()
    rows = small_phantom.regions
    image = small_phantom.images["image_id"].iloc[0]
    mine = rows[(rows["image_id"] == image) & rows["region"].isin(["right lung", "left lung"])]
    found = lung_boxes(small_phantom, [image, "nobody"], np.array([[0, 0, 1, 1], [0, 0, 1, 1.0]]))
    np.testing.assert_allclose(found[0], [mine["x0"].min(), mine["y0"].min(), mine["x1"].max(), mine["y1"].max()])
    assert np.isnan(found[1]).all()
    one = StudySet(
        small_phantom.studies,
        small_phantom.images,
        rows[~((rows["image_id"] == image) & (rows["region"] == "left lung"))],
        small_phantom.info,
        small_phantom.folder,
    )
    assert np.isnan(lung_boxes(one, [image], np.array([[0, 0, 1, 1.0]]))).all()


@pytest.mark.parametrize("kind", [k for k in CORRUPTIONS if k != "lung crop"])
def test_the_black_beside_a_film_stays(kind):
    square, box = letterbox(np.random.default_rng(0).integers(60, 200, (100, 60), dtype=np.uint8), SIZE)
    out = corrupt(square[None], ["a"], kind, 5, content=np.array([box]))[0]
    x0, x1 = round(box[0] * SIZE), round(box[2] * SIZE)
    assert (out[:, :x0] == 0).all() and (out[:, x1:] == 0).all() and (out[:, x0:x1] != square[:, x0:x1]).any()


def test_arguments():
    film = ramp()
    for arguments, word in (
        ((film, ["a"], "snow", 1), "kind"),
        ((film, ["a"], "blur", 6), "severity"),
        ((film, ["a"], "blur", 1.5), "severity"),
        ((film.astype(float), ["a"], "blur", 1), "films"),
        ((film, ["a", "b"], "blur", 1), "ids"),
        ((film, ["a"], "lung crop", 1), "lungs"),
    ):
        with pytest.raises(ValueError, match=word):
            corrupt(*arguments)


def test_marks_are_what_augment_does():
    limits = {
        "rotation": 6,
        "translation": 0.06 * LONG_SIDE,
        "gamma": 0.25,
        "contrast": 0.2,
        "brightness": 0.06,
    }  # of data.images
    for kind, limit in limits.items():
        for severity, step in enumerate(CORRUPTIONS[kind].steps, 1):
            assert (
                familiar(kind, severity) == ("seen" if step <= limit else "stronger")
                and familiar(kind, severity, augmented=False) == "new"
            )
    for kind in ("occlusion", "jpeg", "blur", "motion", "resolution", *FAULTS):
        assert familiar(kind, 1) == "new"
    assert familiar("quantum noise", 1) == "alike" and familiar("quantum noise", 1, augmented=False) == "new"
    assert familiar("occlusion", 5, hiding=True) == "alike" and familiar("blur", 1, hiding=True) == "new"


def test_faults_nest(small_phantom):
    film = Acquisition(rotation=-2.0, inspiration=0.5, photons=1000.0, seed=7)
    turned = [faulty(film, "patient rotation", s).rotation for s in range(6)]
    breath = [faulty(film, "poor inspiration", s).inspiration for s in range(6)]
    photons = [faulty(film, "dose", s).photons for s in range(6)]
    assert (
        (np.diff(turned) < 0).all()
        and (np.diff(breath) <= 0).all()
        and breath[1] == 0.5
        and (np.diff(photons) < 0).all()
    )
    assert all(faulty(film, kind, s).seed == 7 for kind in FAULTS for s in range(len(FAULTS[kind].steps) + 1))
    assert faulty(film, "supine AP", 1) == Acquisition("AP", 1000.0, -2.0, 0.5, True, seed=7)
    assert (
        faulty(Acquisition("LATERAL"), "supine AP", 1) is None
        and faulty(Acquisition("AP", supine=True), "supine AP", 0) is None
    )
    with pytest.raises(ValueError, match="severity"):
        faulty(film, "supine AP", 2)
    scene = next(s for s in load_truth(small_phantom).scenes if s.findings and s.acquisitions[0].view == "PA")
    own = scene.acquisitions[0]
    d = [[*visibility_of(scene, faulty(own, "dose", s))[0].values()] for s in (0, 2)]
    np.testing.assert_allclose(d[1], np.sqrt(FAULTS["dose"].steps[1]) * np.array(d[0]), rtol=2e-3)
    full, less, least = (render(scene, faulty(own, "dose", s), SIZE).astype(float) for s in (0, 3, 5))
    assert np.corrcoef((less - full).ravel(), (least - full).ravel())[0, 1] > 0.7 and abs(less.mean() - full.mean()) < 2
    assert (least - full).std() > 2 * (less - full).std()


def test_real_films(shared_data):
    files = sorted((shared_data / "cxr-notes" / "images").glob("*.*"))[:3]
    if not files:
        pytest.skip("needs the films of cxr-notes")
    squares, boxes = zip(*(letterbox(read_image(f), 96) for f in files))
    for kind in (k for k in CORRUPTIONS if k != "lung crop"):
        far = [
            np.abs(
                corrupt(np.stack(squares), [f.name for f in files], kind, s, content=np.array(boxes)).astype(float)
                - np.stack(squares)
            ).mean()
            for s in (0, 1, 3, 5)
        ]
        assert (np.diff(far) > 0).all(), kind
