"Figures: same bytes twice, text that is only text, and what is drawn equals what was given."

import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex

from medret_nb.data.files import DataError
from medret_nb.figures import figures as F

RNG = np.random.default_rng(0)
FILMS = [RNG.integers(0, 256, (24, 20), dtype=np.uint8) for _ in range(5)]
NASTY = ["$5 \\alpha_", "\\frac{", "a\x00b\u202e", "x" * 500, "", "line\nline", "<b>&amp;</b>", "100 % $$ {}"]


ALL = {
    "film_sheet": lambda: F.film_sheet(FILMS, NASTY[:5], columns=3, boxes=[[(0, 0, 0.5, 1)]] * 5),
    "bars": lambda: F.bars_figure({"Views $": {"PA": 3, NASTY[0]: 5}, "b": {"x": 0.5}, "empty": {}}),
    "duplicates": lambda: F.duplicates_figure([0, 0, 1, 2, 2, 2]),
    "neighbours": lambda: F.neighbours_figure(
        FILMS[0], FILMS, NASTY[:5], [True, False] * 2 + [True], RNG.random(5), NASTY[1], columns=3
    ),
    "neighbours of a text": lambda: F.neighbours_figure(NASTY[1], captions=NASTY, hits=[False] * len(NASTY)),
}


@pytest.mark.parametrize("kind", ["pdf", "svg", "png"])
@pytest.mark.parametrize("name", ["film_sheet", "bars", "duplicates", "neighbours"])
def test_same_bytes_twice(tmp_path, name, kind):
    state = RNG.bit_generator.state
    first = F.save_figure(ALL[name](), tmp_path / f"a.{kind}", dpi=100)
    RNG.bit_generator.state = state
    second = F.save_figure(ALL[name](), tmp_path / f"b.{kind}", dpi=100)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a.{kind}", f"b.{kind}"]


@pytest.mark.parametrize("name", list(ALL))
def test_every_figure_draws_at_a_print_width_whatever_the_text(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fig = ALL[name]()
        assert fig._repr_png_().startswith(b"\x89PNG")
    assert fig.get_size_inches()[0] in (F.COLUMN, F.PAGE) and fig.get_size_inches()[1] < 12


def test_pdf_embeds_truetype_and_holds_no_date(tmp_path):
    data = F.save_figure(ALL["bars"](), tmp_path / "a.pdf").read_bytes()
    assert b"/TrueType" in data or b"/CIDFontType2" in data
    assert b"/Type3" not in data and b"CreationDate" not in data


def test_svg_keeps_text_and_escapes_it(tmp_path):
    fig = F.neighbours_figure(FILMS[0], captions=["Clear <script>alert(1)</script> lungs $x$"])
    text = F.save_figure(fig, tmp_path / "a.svg").read_text()
    assert "<script>" not in text and "&lt;script&gt;" in text and "$x$" in text
    assert not re.search("<dc:date>", text)


def test_style_does_not_leak():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    ALL["bars"]()._repr_png_()
    assert dict(mpl.rcParams) == before


def test_save_refuses_other_endings_and_unwritable_places(tmp_path):
    with pytest.raises(DataError, match="fig.jpg"):
        F.save_figure(ALL["bars"](), tmp_path / "fig.jpg")
    (tmp_path / "fig.png").mkdir()
    with pytest.raises(DataError, match="fig.png"):
        F.save_figure(ALL["bars"](), tmp_path / "fig.png")
    assert [p.name for p in tmp_path.iterdir()] == ["fig.png"]


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300), st.integers(3, 40), st.integers(1, 5))
def test_plain_fits_its_room(text, width, lines):
    shown = F.plain(text, width, lines)
    rows = shown.split("\n")
    assert len(rows) <= lines and all(len(r) <= width for r in rows)
    assert all(c.isprintable() for c in shown.replace("\n", ""))
    if not shown.endswith("…"):
        assert "".join(shown.split()) == "".join("".join(c if c.isprintable() else " " for c in text).split())


def test_film_sheet_shows_the_films_and_boxes_in_pixels():
    fig = F.film_sheet(FILMS[:3], columns=2, boxes=[[(0.25, 0.5, 0.75, 1.0)], [], []])
    axes = [a for a in fig.axes if a.images]
    assert len(axes) == 3
    for ax, film in zip(axes, FILMS):
        np.testing.assert_array_equal(ax.images[0].get_array(), film)
    assert axes[0].images[0].get_clim() == (0, 255)
    (box,) = axes[0].patches  # 24 rows, 20 columns; pixel centres are whole numbers
    assert box.get_bbox().bounds == pytest.approx((4.5, 11.5, 10, 12))
    with pytest.raises(ValueError, match="films"):
        F.film_sheet([])
    with pytest.raises(ValueError, match="films"):
        F.film_sheet([np.zeros((3, 4, 5))])


def test_duplicates_against_a_loop():
    groups = np.random.default_rng(1).integers(0, 30, 80)
    fig = F.duplicates_figure(groups)
    sizes = [sum(h == g for h in groups) for g in groups]
    names = [t.get_text() for t in fig.axes[0].get_xticklabels()]
    for name, bar in zip(names, fig.axes[0].patches):
        low, high = (name.split("–") * 2)[:2] if "+" not in name else (100, 10**9)
        assert bar.get_height() == sum(int(low) <= s <= int(high) for s in sizes)
    assert f"{np.mean([s > 1 for s in sizes]):.1%}" in fig.axes[0].get_title()


def test_neighbours_mark_hits_in_words_and_colour():
    fig = F.neighbours_figure("a query", FILMS[:3], hits=[True, False, True], scores=[0.5, 0.25, -1.0])
    titles = [a.title for a in fig.axes if a.images]
    assert [t.get_text() for t in titles] == ["1   0.500   hit", "2   0.250   miss", "3   -1.000   hit"]
    assert [to_hex(t.get_color()).upper() for t in titles] == [F.COLOURS[c] for c in ("green", "vermillion", "green")]
    with pytest.raises(ValueError, match="candidates"):
        F.neighbours_figure("a query")


def test_bars_of_the_same_categories_share_a_scale_and_others_do_not():
    "Two panels side by side are compared by the length of their bars."
    alike = F.bars_figure({"a": {"x": 10, "y": 2}, "b": {"x": 100, "y": 1}})
    assert len({ax.get_xlim() for ax in alike.axes}) == 1
    other = F.bars_figure({"a": {"x": 10, "y": 2}, "b": {"z": 100}})
    assert len({ax.get_xlim() for ax in other.axes}) == 2
