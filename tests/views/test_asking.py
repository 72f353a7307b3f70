"""Questions to a kernel: which region a box means, films in pieces, and answers that are those of the command line."""

import re
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import alive
from PIL import Image
from playwright.sync_api import expect

from medret_nb.cli.search import Search
from medret_nb.data.files import DataError
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.methods.rra_vl import REGIONS, RRAVL, RRAVLConfig
from medret_nb.retrieval.embeddings import embed_films, embed_texts
from medret_nb.retrieval.search import build_index
from medret_nb.views.asking import AskedFilm, Desk, Pieces, check_box, known_regions, overlap, redrawn, region_meant
from medret_nb.views.explorer import explorer_view
from medret_nb.views.items import from_arrays, items_from

SIDE = st.floats(0, 1, width=32)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.lists(SIDE, min_size=4, max_size=4).map(lambda c: [*map(min, c[:2], c[2:]), *map(max, c[:2], c[2:])]),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 3),
)
def test_overlap_is_what_a_fine_grid_counts(boxes, which):
    box, at = boxes[which % len(boxes)], (np.arange(150) + 0.5) / 150

    def inside(b):
        return ((at >= b[1]) & (at < b[3]))[:, None] & ((at >= b[0]) & (at < b[2]))

    for found, other in zip(overlap(box, boxes), boxes):
        shared, together = (inside(box) & inside(other)).mean(), (inside(box) | inside(other)).mean()
        assert 0 <= found <= 1 + 1e-9
        if together > 0.05:
            assert found == pytest.approx(shared / together, abs=0.03 / together)


def test_a_box_means_the_region_that_it_overlaps_best():
    boxes = np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1], [0.5, 0, 1, 1], [np.nan] * 4])
    assert region_meant([0.4, 0, 1, 1], boxes, list("abcd")) == "b"
    with pytest.raises(DataError, match="on no region"):
        region_meant([0.2, 0.2, 0.3, 0.3], boxes[1:], list("bcd"))
    with pytest.raises(DataError, match="on no region"):
        region_meant([0.2, 0.2, 0.3, 0.3], np.zeros((0, 4)), [])


@pytest.mark.parametrize(
    "box, word",
    [
        ([0, 0, 1], "four numbers"),
        (None, "four numbers"),
        ("here", "four numbers"),
        ([0, 0, np.nan, 1], "four numbers"),
        ([[0, 0], 1, 1], "four numbers"),
        ([0, 0, 1.1, 1], "between 0 and 1"),
        ([0.5, 0, 0.5, 1], "left edge"),
        ([0, 1, 1, 0], "above the bottom"),
    ],
)
def test_boxes_that_are_none_are_refused(box, word):
    with pytest.raises(DataError, match=word):
        check_box(box)


def cut(data, name="mine.png", size=1000, upload="u"):
    "The requests that bring a file."
    parts = max(1, -(-len(data) // size))
    return [
        {
            "upload": upload,
            "name": name,
            "part": i,
            "parts": parts,
            "size": len(data),
            "data": memoryview(data[i * size : (i + 1) * size]),
        }
        for i in range(parts)
    ]


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=5000), st.integers(1, 1500))
def test_pieces_are_the_file_again(data, size):
    pieces = Pieces()
    for _ in range(2):
        got = [pieces.add(piece) for piece in cut(data, size=size)]
        assert got[:-1] == [None] * (len(got) - 1) and got[-1] == data


def test_pieces_out_of_turn_and_too_much_are_refused():
    post = cut(bytes(3000))
    for wrong in (
        post[1:],
        [post[0], post[2]],
        [post[0], {**post[1], "upload": "v"}],
        [*post[:2], {**post[2], "size": 9}],
    ):
        pieces = Pieces()
        with pytest.raises(DataError, match="mine.png: .*choose it again"):
            [pieces.add(piece) for piece in wrong]
        assert [pieces.add(piece) for piece in post][-1] == bytes(3000)  # nothing of the failure is left
    with pytest.raises(DataError, match="0.0 MB are more than the limit of 0 MB"):
        Pieces(limit=2000).add(post[0])
    small = Pieces(limit=2000)
    with pytest.raises(DataError, match="limit"):
        [small.add({**piece, "size": 1}) for piece in post]  # a size that is not true


@pytest.fixture(scope="module")
def run(small_phantom, tmp_path_factory):
    "A run folder of an untrained model with regions."
    folder = tmp_path_factory.mktemp("asking")
    RRAVL.create(RRAVLConfig(dim=8, data=str(small_phantom.folder))).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def desk(run):
    return Desk(items_from(run, split="train", progress=False), k=5)


def bring(desk, film, name="mine.png", **options):
    "A film as a file's bytes, sent in pieces; its number."
    held = BytesIO()
    Image.fromarray(film).save(held, "png", **options)
    for piece in cut(held.getvalue(), name):
        got = desk.receive(piece)
    return got["film"], held.getvalue()


def same(answer, hits):
    np.testing.assert_array_equal(answer["positions"], hits.positions[0])
    np.testing.assert_array_equal(answer["scores"], hits.scores[0])


@pytest.mark.parametrize(
    "side, find", [("film", "films"), ("film", "reports"), ("report", "films"), ("report", "reports")]
)
@pytest.mark.parametrize("regions, rho", [(["left lung"], 0.7), (["mediastinum", "right lung"], 1.0), ([], 0.5)])
def test_named_regions_are_searched_as_the_index_does(desk, side, find, regions, rho):
    sides = {"film": desk.items.image, "report": desk.items.text, "films": desk.items.image, "reports": desk.items.text}
    found = desk.ask({"row": 3, "side": side, "find": find, "regions": regions, "rho": rho})
    same(found, build_index(sides[find]).search(sides[side].select([3]), 5, regions=regions, rho=rho))
    assert (
        found["find"] == find
        and found["hits"].tolist() == (desk.items.groups[found["positions"]] == desk.items.groups[3]).tolist()
    )
    assert (f"weight {rho:g}" in found["told"]) == bool(regions) and not found["drawn"] and found["places"] == {}


def test_regions_of_no_weight_leave_the_question_as_it_was(desk):
    question = {"row": 5, "side": "film", "find": "films"}
    nothing = desk.ask(question | {"regions": ["left lung"], "rho": 0})
    whole = desk.ask(question)
    assert nothing["positions"].tolist() == whole["positions"].tolist()
    np.testing.assert_allclose(nothing["scores"], whole["scores"])


@pytest.mark.parametrize("find", ["films", "reports"])
@pytest.mark.parametrize("regions", [("left lung", "cardiac silhouette"), ()])
def test_a_new_film_and_a_sentence_get_what_the_command_line_prints(desk, run, tmp_path, capsys, find, regions):
    film = np.random.default_rng(1).integers(0, 256, (90, 70), dtype=np.uint8)
    number, data = bring(desk, film)
    path = tmp_path / "mine.png"
    path.write_bytes(data)
    for fields, options in (
        ({"film": number}, {"image": path}),
        ({"text": "Left effusion."}, {"text": "Left effusion."}),
    ):
        found = desk.ask({**fields, "find": find, "regions": list(regions), "rho": 0.4})
        Search(run, **options, region=regions, rho=0.4, find=find, split="train", k=5).run()
        printed = re.findall(r"^ +\d+  ([+-][\d.]+)  (\S+)", capsys.readouterr().out, re.M)
        assert [
            (f"{s:+.3f}", desk.items.ids[p]) for s, p in zip(found["scores"], found["positions"])
        ] == printed and len(printed) == 5
        assert found["hits"] is None


def test_a_drawn_box_changes_its_region_alone(desk):
    film = AskedFilm("x", desk.items.films[2], desk.items.image.select([2]))
    place, box = REGIONS.index("left lung"), np.float32([0.5, 0.3, 0.8, 0.6])
    made = redrawn(desk.items.method, film, place, box)
    wanted = film.boxes.copy()
    wanted[place] = box
    np.testing.assert_array_equal(made.local["boxes"][0, place], box)
    others = np.arange(len(REGIONS)) != place
    np.testing.assert_allclose(made.local["regions"][0, others], film.points.local["regions"][0, others], atol=1e-5)
    assert np.abs(made.local["regions"][0, place] - film.points.local["regions"][0, place]).max() > 1e-4
    np.testing.assert_array_equal(made.local["regions_mask"], film.points.local["regions_mask"] | ~others)
    for stands, regions in ((None, ["mediastinum"]), ("right lung", [])):
        name = stands or region_meant(box, film.boxes, REGIONS)
        query = redrawn(desk.items.method, film, REGIONS.index(name), box)
        found = desk.ask(
            {
                "row": 2,
                "side": "film",
                "find": "films",
                "box": box.tolist(),
                "stands_for": stands,
                "regions": regions,
                "rho": 0.6,
            }
        )
        same(found, build_index(desk.items.image).search(query, 5, regions=[*regions, name], rho=0.6))
        assert found["drawn"] == name and f"{name} (your box)" in found["told"]


def test_a_box_on_a_new_film(desk):
    number, _ = bring(desk, np.random.default_rng(2).integers(0, 256, (64, 64), dtype=np.uint8))
    film, box = desk.films[number], [0.1, 0.1, 0.4, 0.4]
    query = redrawn(desk.items.method, film, REGIONS.index("right lung"), np.float32(box))
    found = desk.ask({"film": number, "find": "films", "box": box, "stands_for": "right lung", "rho": 1.0})
    same(found, build_index(desk.items.image).search(query, 5, regions=["right lung"], rho=1.0))
    stage = desk.stage({"film": number})
    assert stage["boxes"].shape == (len(REGIONS), 4) and not stage["given"] and desk.stage({"row": 0})["given"]


def test_only_the_last_films_are_held(desk):
    first, _ = bring(desk, np.zeros((20, 20), np.uint8))
    for shade in range(Desk.kept):
        last, _ = bring(desk, np.full((20, 30), shade, np.uint8))
    assert last in desk.films and first not in desk.films and len(desk.films) == Desk.kept
    with pytest.raises(DataError, match="not held any more"):
        desk.ask({"film": first})


def test_sixteen_bits_are_read_as_everywhere(desk):
    film = (np.arange(60 * 50).reshape(60, 50) * 20).astype(np.uint16)
    number, data = bring(desk, film, "sixteen.png")
    np.testing.assert_array_equal(
        desk.films[number].points.mu,
        embed_films(desk.items.method, [np.round(film / film.max() * 255).astype(np.uint8)]).mu,
    )


@pytest.mark.parametrize(
    "asked, word",
    [
        ({"row": 0, "side": "film", "regions": ["spleen"]}, "'spleen' is none of"),
        ({"row": 0, "side": "film", "regions": ["left lung"], "rho": 1.5}, "rho: 1.5"),
        ({"row": 0, "side": "film", "regions": ["left lung"], "rho": "much"}, "rho: 'much'"),
        ({"row": 0, "side": "film", "find": "bones"}, "find: 'bones'"),
        ({"row": 0, "side": "film", "box": [0, 0, 2, 2]}, "between 0 and 1"),
        ({"row": 0, "side": "film", "box": [0, 0, 1, 1], "stands_for": "spleen"}, "stands_for: 'spleen'"),
        ({"text": " ... ", "regions": ["left lung"]}, "no word"),
        ({"film": 99}, "not held"),
    ],
)
def test_wrong_questions_are_told_in_one_line(desk, asked, word):
    with pytest.raises(DataError, match=word) as error:
        desk.ask(asked)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data, word", [(b"%PDF-1.7", "not a picture"), (b"", "empty")])
def test_files_that_are_no_film_leave_all_as_it_was(desk, data, word):
    held = dict(desk.films)
    with pytest.raises(DataError, match=f"letter.pdf: .*{word}"):
        [desk.receive(piece) for piece in cut(data, "letter.pdf")]
    assert desk.films == held


def test_without_regions_there_is_no_asking_at_a_place(small_phantom, tmp_path):
    CLIP.create(CLIPConfig(dim=8, data=str(small_phantom.folder))).save_pretrained(tmp_path)
    desk = Desk(items_from(tmp_path, split="train", progress=False), k=3)
    assert desk.regions == [] and sorted(desk.answers()) == ["ask", "draft", "film", "sentence"]
    number, _ = bring(desk, desk.items.films[4])
    same(
        desk.ask({"film": number}),
        build_index(desk.items.text).search(embed_films(desk.items.method, [desk.items.films[4]]), 3),
    )
    for more in ({"regions": ["left lung"]}, {"box": [0, 0, 1, 1]}):
        with pytest.raises(DataError, match="no vectors for regions|no regions"):
            desk.ask({"row": 0, "side": "film", **more})
    plain = from_arrays(np.eye(3), np.eye(3))
    assert (
        known_regions(plain) == []
        and Desk(plain).answers() == {}
        and Desk(from_arrays(np.zeros((0, 3)), np.zeros((0, 3)))).answers() == {}
    )


@pytest.mark.browser
def test_controls_follow_the_state_and_the_state_the_controls(run, page, tmp_path):
    items = items_from(run, split="train", progress=False)
    view = explorer_view(items, k=4, state={"chosen": 2, "find": "films", "regions": ["left lung"], "rho": 0.8})
    alive(page, view, tmp_path, 420)

    def first():
        return page.locator(".ranked .card button.link")

    def wanted(query, gallery, **more):
        return [
            f"{r + 1}. {i}" for r, i in enumerate(items.ids[build_index(gallery).search(query, 4, **more).positions[0]])
        ]

    expect(page.locator(".second")).to_contain_text("At left lung: weight 0.8; as a whole: weight 0.2.")
    expect(first()).to_have_text(wanted(items.image.select([2]), items.image, regions=["left lung"], rho=0.8))
    page.get_by_label("mediastinum", exact=True).focus()
    page.keyboard.press("Space")  # a name, by keyboard
    expect(first()).to_have_text(
        wanted(items.image.select([2]), items.image, regions=["left lung", "mediastinum"], rho=0.8)
    )
    page.get_by_label("Find").select_option("reports")
    expect(first()).to_have_text(
        wanted(items.image.select([2]), items.text, regions=["left lung", "mediastinum"], rho=0.8)
    )
    page.locator(".film-stage").focus()
    for key in ("ArrowUp", "ArrowRight", "Shift+ArrowDown"):
        page.keyboard.press(key)  # the first makes a box
    expect(page.locator("rect.drawn")).to_have_count(1)
    assert view.state["box"] == [0.37, 0.35, 0.67, 0.67]
    page.get_by_label("box, left edge").fill("90")
    page.get_by_label("box, left edge").press("Enter")
    expect(page.locator(".places .note")).to_contain_text("left edge left of its right one")
    assert view.state["box"] == [0.37, 0.35, 0.67, 0.67]
    page.get_by_role("button", name="Take the box away").click()
    expect(page.locator("rect.drawn")).to_have_count(0)
    page.get_by_label("Find").select_option("what fits the query")
    page.get_by_label("Ask with a sentence").fill("Left effusion.")
    page.get_by_label("Ask with a sentence").press("Enter")
    expect(first()).to_have_text(
        wanted(
            embed_texts(items.method, ["Left effusion."]), items.image, regions=["left lung", "mediastinum"], rho=0.8
        )
    )
    expect(page.locator(".film-stage")).to_be_hidden()
    film, path = items.films[5], tmp_path / "mine.png"
    Image.fromarray(film).save(path)
    page.get_by_label("Ask with a film from the disk").set_input_files(path)
    expect(first()).to_have_text(
        wanted(embed_films(items.method, [film]), items.text, regions=["left lung", "mediastinum"], rho=0.8)
    )
    expect(page.get_by_alt_text("your film")).to_be_visible()
    for _ in range(50):
        if view.answer:
            page.wait_for_timeout(100)
    assert view.answer == {} and "data" not in view.request  # nothing of a film stays in what a notebook may save
    path.write_bytes(b"none")
    page.get_by_label("Ask with a film from the disk").set_input_files(path)
    expect(page.locator("p[role=status]").first).to_contain_text("mine.png: not a picture")
    expect(page.locator(".second .card strong").first).to_have_text("mine.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= 420 and not page.outside and not page.errors, (
        page.errors
    )
