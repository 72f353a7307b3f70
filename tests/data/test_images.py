"Films: any common file becomes the same grey values, boxes move along, and keys are the only chance."

import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

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
