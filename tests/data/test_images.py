"Films: any common file becomes the same grey values, boxes move along, and keys are the only chance."

import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia.geometry.transform import get_affine_matrix2d, warp_affine
from PIL import Image

from medret_nb.data.counters import derived_keys, keyed_bell, keyed_noise
from medret_nb.data.files import DataError
from medret_nb.data.images import MAX_PIXELS, augment, boxes_in_square, letterbox, mix, normalise, read_image, stretch

GREY = np.add.outer(np.arange(40) * 3, np.arange(30) * 4).astype(np.uint8)


def save(path, array, mode=None, **options):
    image = Image.fromarray(array) if mode is None else Image.fromarray(array).convert(mode)
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    "suffix, mode",
    [
        ("png", "L"),
        ("png", "RGB"),
        ("png", "P"),
        ("tif", "L"),
        ("bmp", "L"),
        ("png", "RGBA"),
        ("png", "LA"),
        ("jp2", "L"),
        ("webp", "RGB"),
        ("tif", "F"),
    ],
)
def test_grey_pictures_come_back_in_every_mode(tmp_path, suffix, mode):
    options = {"lossless": True} if suffix == "webp" else {}
    read = read_image(save(tmp_path / f"film.{suffix}", GREY, mode, **options))
    expected = stretch(GREY) if mode == "F" else GREY
    assert read.dtype == np.uint8 and read.shape == (40, 30) and np.abs(read.astype(int) - expected).max() <= 1


def test_more_than_eight_bits_are_stretched_not_cut(tmp_path):
    for factor, kind in ((16, np.uint16), (1000, np.int32), (0.01, np.float32)):
        read = read_image(save(tmp_path / f"{kind.__name__}.tif", (GREY.astype(float) * factor).astype(kind)))
        assert np.abs(read.astype(int) - stretch(GREY)).max() <= 1
    read = read_image(save(tmp_path / "sixteen.png", GREY.astype(np.uint16) * 257))
    assert read.min() == 0
    assert read.max() == 255
    assert np.corrcoef(read.ravel(), GREY.ravel())[0, 1] > 0.9999
    assert (stretch(np.full((2, 2), 7)) == 0).all()
    assert stretch(np.array([[np.nan, 1.0], [2.0, np.inf]])).tolist() == [[0, 0], [255, 0]]


def test_transparency_is_black_and_colour_is_luminance(tmp_path):
    picture = np.zeros((4, 4, 4), np.uint8)
    picture[..., :3] = 255
    picture[:2, :, 3] = 255
    assert read_image(save(tmp_path / "a.png", picture)).tolist() == [[255] * 4] * 2 + [[0] * 4] * 2
    green = np.zeros((2, 2, 3), np.uint8)
    green[..., 1] = 200
    assert read_image(save(tmp_path / "g.png", green))[0, 0] == round(200 * 0.587)


def test_the_orientation_in_exif_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer turns it clockwise by 90 degrees
    read = read_image(save(tmp_path / "turned.png", GREY, exif=exif))
    assert read.shape == (30, 40) and (read == np.rot90(GREY, -1)).all()


def spoil(kind, folder):
    """A file that must be refused, and what the message must say."""
    path = save(folder / "film.png", GREY)
    if kind == "missing":
        return folder / "none.png", "no such file"
    if kind == "folder":
        return folder, "cannot be read"
    if kind == "empty":
        path.write_bytes(b"")
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-30])
    if kind == "misnamed":
        path.write_text("%PDF-1.7 not a film")
    if kind == "damaged":
        path.write_bytes(path.read_bytes()[:50] + bytes(60) + path.read_bytes()[110:])
    if kind == "postscript":
        path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    if kind in ("bomb", "large"):  # a header that claims many pixels, with its checksum
        side = 30_000 if kind == "bomb" else 9_000
        data = path.read_bytes()
        header = b"IHDR" + struct.pack(">II", side, side) + data[24:29]
        path.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    if kind in ("animated", "pages"):
        path = folder / ("film.gif" if kind == "animated" else "film.tif")
        Image.fromarray(GREY).save(path, save_all=True, append_images=[Image.fromarray(255 - GREY)])
    says = {
        "empty": "empty",
        "truncated": "cannot be read",
        "damaged": "cannot be read",
        "bomb": "limit",
        "large": "limit",
        "animated": "2 frames",
        "pages": "2 frames",
    }
    return path, says.get(kind, "not a picture")


@pytest.mark.parametrize(
    "kind",
    [
        "missing",
        "folder",
        "empty",
        "truncated",
        "misnamed",
        "damaged",
        "postscript",
        "bomb",
        "large",
        "animated",
        "pages",
    ],
)
def test_files_that_are_no_film_are_refused_in_one_line(tmp_path, kind):
    path, says = spoil(kind, tmp_path)
    with pytest.raises(DataError) as error:
        read_image(path)
    assert str(path) in str(error.value) and says in str(error.value) and "\n" not in str(error.value)
    assert MAX_PIXELS < 9_000 * 9_000
    if path.is_file():
        with pytest.raises(DataError) as error:
            read_image(path.read_bytes(), "mine.png")
        assert str(error.value).startswith("mine.png: ") and says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "jp2", "webp"])
def test_bytes_are_read_as_the_file_is(tmp_path, suffix):
    path = save(tmp_path / f"film.{suffix}", GREY)
    np.testing.assert_array_equal(read_image(path.read_bytes()), read_image(path))


@given(st.integers(1, 300), st.integers(1, 300), st.integers(8, 128))
@settings(max_examples=60, deadline=None)
def test_the_letterbox_keeps_the_shape_and_knows_where_the_film_is(height, width, size):
    square, (x0, y0, x1, y1) = letterbox(np.full((height, width), 200, np.uint8), size)
    assert square.shape == (size, size)
    assert max(x1 - x0, y1 - y0) == 1
    shown = np.argwhere(square == 200)
    assert shown.min(0).tolist() == [round(y0 * size), round(x0 * size)]
    assert (shown.max(0) + 1).tolist() == [round(y1 * size), round(x1 * size)]
    assert len(shown) == np.count_nonzero(square) == round((x1 - x0) * size) * round((y1 - y0) * size)
    assert abs((x1 - x0) * size - size * width / max(height, width)) <= 1
    assert abs((y1 - y0) * size - size * height / max(height, width)) <= 1


def test_boxes_follow_into_the_square():
    film = np.zeros((100, 200), np.uint8)
    film[20:60, 100:150] = 255
    square, content = letterbox(film, 100)
    box = boxes_in_square([[0.5, 0.2, 0.75, 0.6]], content)[0] * 100
    rows, columns = np.where(square > 128)
    assert np.abs(np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) - box).max() <= 1


def test_normalise_is_the_formula():
    pixels = np.array([[0, 51, 255]], np.uint8)
    assert torch.allclose(normalise(pixels, 0.2, 0.1), torch.tensor([[-2.0, 0.0, 8.0]]))
    assert normalise(torch.from_numpy(pixels)).dtype == torch.float32


def test_the_same_key_gives_the_same_film_in_any_batch():
    films = torch.rand(12, 1, 40, 48, generator=torch.Generator().manual_seed(0))
    keys = torch.randint(-(2**62), 2**62, (12,), generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([0.2, 0.3, 0.6, 0.8]).expand(12, 2, 4)
    together, moved = augment(films, keys, boxes)
    for i in range(12):
        alone, box = augment(films[i : i + 1], keys[i : i + 1], boxes[i : i + 1])
        assert torch.equal(alone[0], together[i]) and torch.equal(box[0], moved[i])
    assert len({float(film.sum()) for film in augment(films[:1].expand(12, -1, -1, -1), keys)[0]}) == 12
    assert together.min() >= 0 and together.max() <= 1


def in_words(film, key, strength):
    """One film (1, 1, H, W) varied as the lesson says it, step by step, its warp by kornia."""
    u = (keyed_noise(derived_keys(key, "film"), 8)[0] * 2 - 1) * strength
    height, width = film.shape[-2:]
    zoom = (0.12 * u[1]).exp().expand(1, 2)
    shift = torch.stack([0.06 * u[2] * width, 0.06 * u[3] * height])[None]
    centre = torch.tensor([[(width - 1) / 2, (height - 1) / 2]])
    matrix = get_affine_matrix2d(shift, centre, zoom, 6 * u[:1])[:, :2]
    warped = warp_affine(film, matrix, (height, width), align_corners=True)
    bend = (0.34 * u[4]).clamp(-1, 1)
    toned = warped + bend * warped * (1 - warped)
    mean = toned.mean()
    toned = mean + (toned - mean) * (1 + 0.2 * u[5]) + 0.06 * u[6]
    noise = 0.02 * u[7].abs() * keyed_bell(key, height * width).view(1, 1, height, width)
    return (toned + noise).clamp(0, 1)


@pytest.mark.parametrize("shape", [(40, 40), (24, 56), (33, 17)])
@pytest.mark.parametrize("strength", [0.5, 1.0, 3.0])
def test_a_film_is_varied_as_the_lesson_says(shape, strength):
    films = torch.rand(6, 1, *shape, generator=torch.Generator().manual_seed(2))
    keys = torch.arange(-3, 3)
    varied = augment(films, keys, strength=strength)[0]
    for i in range(6):
        judge = in_words(films[i : i + 1], keys[i : i + 1], strength)
        torch.testing.assert_close(varied[i : i + 1], judge, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3)])
def test_the_smallest_films_and_no_films_are_varied_too(shape):
    varied, moved = augment(torch.rand(3, 1, *shape), torch.arange(3), torch.rand(3, 0, 4))
    assert varied.shape == (3, 1, *shape) and varied.isfinite().all() and moved.shape == (3, 0, 4)
    none, boxes = augment(torch.rand(0, 1, *shape), torch.arange(0), torch.rand(0, 2, 4))
    assert none.shape == (0, 1, *shape) and boxes.shape == (0, 2, 4)
    mixed, share = mix(torch.rand(0, 1, *shape), torch.rand(0, 1, *shape), torch.arange(0))
    assert mixed.shape == (0, 1, *shape) and share.shape == (0,)


def test_bytes_and_floats_of_any_width_give_the_same_film():
    stored = torch.randint(0, 256, (5, 1, 30, 30), dtype=torch.uint8)
    keys = torch.arange(5)
    expected = augment(stored.float() / 255, keys)[0]
    assert torch.equal(augment(stored, keys)[0], expected)
    assert torch.equal(augment(stored, keys, strength=0)[0], stored.float() / 255)
    double = augment(stored.double() / 255, keys)[0]
    half = augment((stored.float() / 255).half(), keys)[0]
    assert double.dtype == torch.float64 and half.dtype == torch.float16
    torch.testing.assert_close(double.float(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(half.float(), expected, atol=5e-3, rtol=0)
    mixed, share = mix(stored, stored.flip(0), keys)
    again, other = mix(stored.float() / 255, stored.flip(0).float() / 255, keys)
    assert torch.equal(mixed, again) and torch.equal(share, other)


def test_films_that_are_given_stay_as_they_were():
    films = torch.rand(3, 1, 20, 20)
    before = films.clone()
    augment(films, torch.arange(3))
    mix(films, films.flip(0), torch.arange(3))
    assert torch.equal(films, before)


def test_the_device_changes_no_draw_and_no_grey_value(device):
    films = torch.rand(40, 1, 48, 64, generator=torch.Generator().manual_seed(3))
    keys = torch.randint(-(2**62), 2**62, (40,), generator=torch.Generator().manual_seed(4))
    boxes = torch.tensor([0.2, 0.3, 0.6, 0.8]).expand(40, 3, 4)
    assert torch.equal(keyed_bell(keys.to(device), 99).cpu(), keyed_bell(keys, 99))
    expected, placed = augment(films, keys, boxes)
    varied, moved = augment(films.to(device), keys.to(device), boxes.to(device))
    assert varied.device == device and moved.device == device
    torch.testing.assert_close(varied.cpu(), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(moved.cpu(), placed, atol=1e-6, rtol=0)
    mixed, share = mix(films, films.flip(0), keys)
    there, left = mix(films.to(device), films.flip(0).to(device), keys.to(device))
    torch.testing.assert_close(there.cpu(), mixed, atol=1e-6, rtol=0)
    torch.testing.assert_close(left.cpu(), share, atol=1e-7, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_cuda_nothing_waits_for_the_card():
    films = torch.randint(0, 256, (8, 1, 32, 32), dtype=torch.uint8, device="cuda")
    keys = torch.arange(8, device="cuda")
    boxes = torch.rand(8, 4, 4, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        varied, _ = augment(films, keys, boxes)
        mix(varied, varied.flip(0), keys)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@given(st.integers(0, 2**63 - 1))
@settings(max_examples=40, deadline=None)
def test_left_stays_left_and_up_stays_up(key):
    film = torch.zeros(1, 1, 64, 64)
    film[..., 10:22, 8:20] = 1
    out = augment(film, torch.tensor([key]))[0][0, 0]
    rows, columns = torch.where(out > 0.6 * out.max())
    assert columns.float().mean() < 32 and rows.float().mean() < 32


@given(st.integers(0, 2**63 - 1), st.integers(20, 60), st.integers(20, 40), st.sampled_from([(80, 80), (64, 96)]))
@settings(max_examples=40, deadline=None)
def test_boxes_follow_a_bright_square(key, x, y, shape):
    film = torch.zeros(1, 1, *shape)
    x, y = min(x, shape[1] - 35), min(y, shape[0] - 30)
    film[..., y : y + 12, x : x + 16] = 1
    box = torch.tensor([[[x / shape[1], y / shape[0], (x + 16) / shape[1], (y + 12) / shape[0]]]])
    out, moved = augment(film, torch.tensor([key]), box)
    rows, columns = torch.where(out[0, 0] > (out[0, 0].max() + out[0, 0].min()) / 2)
    seen = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
    assert (moved[0, 0] * torch.tensor([shape[1], shape[0]] * 2) - seen).abs().max() < 2


def test_a_box_that_leaves_the_picture_ends_without_area():
    films = torch.zeros(60, 1, 32, 32)
    keys = torch.arange(60)
    boxes = torch.tensor([0.0, 0.0, 0.005, 0.005]).expand(60, 1, 4)
    moved = augment(films, keys, boxes, strength=2)[1]
    area = (moved[..., 2] - moved[..., 0]) * (moved[..., 3] - moved[..., 1])
    assert (area >= 0).all() and (area == 0).any() and moved.min() >= 0 and moved.max() <= 1


def test_strength_and_keys_are_checked_and_zero_changes_nothing():
    films = torch.rand(2, 1, 16, 16)
    assert torch.equal(augment(films, torch.arange(2), strength=0)[0], films)
    assert augment(films, torch.arange(2))[1] is None
    with pytest.raises(ValueError, match="strength"):
        augment(films, torch.arange(2), strength=-1)
    with pytest.raises(ValueError, match="keys"):
        augment(films, torch.arange(3))
    with pytest.raises(ValueError, match="pixels are torch.int64"):
        augment(films.long(), torch.arange(2))


def test_mixed_films_hold_the_share_that_is_stated_and_depend_on_their_keys_alone():
    white = torch.ones(60, 1, 24, 36)
    black = torch.zeros(60, 1, 24, 36)
    keys = torch.arange(60)
    mixed, share = mix(white, black, keys)
    assert torch.allclose(mixed.mean((1, 2, 3)), share, atol=1e-5) and (share > 0).all() and (share <= 1).all()
    pasted = ((mixed == 0) | (mixed == 1)).all((1, 2, 3))
    assert 15 < pasted.sum() < 45  # both kinds, each about half of the time
    for picture in mixed[pasted]:  # what is pasted is one rectangle
        rows, columns = torch.where(picture[0] == 0)
        if len(rows):
            assert (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1) == len(rows)
    again, other = mix(white[:3], black[:3], keys[[41, 2, 17]])
    assert torch.equal(again, mixed[[41, 2, 17]]) and torch.equal(other, share[[41, 2, 17]])


def test_mixing_checks_its_arguments():
    with pytest.raises(ValueError, match="keys"):
        mix(torch.ones(2, 1, 8, 8), torch.ones(2, 1, 8, 8), torch.arange(3))
    with pytest.raises(ValueError, match="alpha"):
        mix(torch.ones(2, 1, 8, 8), torch.ones(2, 1, 8, 8), torch.arange(2), alpha=0.0)
    with pytest.raises(ValueError, match="alpha must be a whole number above 0, it is 2.5"):
        mix(torch.ones(2, 1, 8, 8), torch.ones(2, 1, 8, 8), torch.arange(2), alpha=2.5)


@pytest.mark.parametrize("alpha", [1, 2, 5])
def test_shares_are_drawn_from_the_beta_distribution(alpha):
    keys = torch.arange(8000)
    laid, share = mix(torch.ones(8000, 1, 3, 3), torch.zeros(8000, 1, 3, 3), keys, alpha)
    over = (laid.flatten(1).std(1) == 0) & (share > 0) & (share < 1)  # neither pasted nor whole
    drawn = share[over].double()
    assert abs(len(drawn) - 4000) < 200
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(drawn.mean() - 0.5) < 4.5 * (variance / len(drawn)) ** 0.5
    assert abs(drawn.var() / variance - 1) < 0.08
