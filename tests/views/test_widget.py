"""The machinery of the views: what is packed arrives, hostile texts stay texts, pages need no network and no kernel."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import HOSTILE, opened
from playwright.sync_api import expect

from medret_nb.data.files import DataError
from medret_nb.data.studies import NOT_FOR_SHARING
from medret_nb.views.widget import (
    STATIC,
    Pictures,
    View,
    colour_codes,
    join_modules,
    make_view,
    pack,
    points_view,
    safe_json,
    script,
    style,
    thumbnails,
    view_html,
)


def payload_of(path) -> dict:
    "What lies in a page's payload element, as JSON reads it."
    return json.loads(
        re.search(
            r'<script id="medret-payload" type="application/json">(.*?)</script>',
            path.read_text(encoding="utf-8"),
            re.S,
        )[1]
    )["payload"]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), max_size=20),
    st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20),
)
def test_arrays_arrive_as_they_left(floats, whole):
    made = pack({"f": np.array(floats, np.float64), "i": np.array(whole, np.int64)})
    for key, wanted in (("f", np.array(floats, np.float32)), ("i", np.array(whole))):
        back = np.frombuffer(made[key]["data"], made[key]["$array"]).reshape(made[key]["shape"])
        np.testing.assert_array_equal(back, wanted)


@pytest.mark.parametrize(
    "value, kind",
    [
        (np.array([0, 255]), "uint8"),
        (np.array([256]), "uint16"),
        (np.array([-1]), "int32"),
        (np.array([True]), "uint8"),
        (np.zeros((2, 3)), "float32"),
        (np.array([], int), "uint8"),
    ],
)
def test_the_narrowest_type_is_taken(value, kind):
    assert pack(value)["$array"] == kind and pack(value)["shape"] == list(value.shape)


def test_what_cannot_be_sent_is_refused():
    with pytest.raises(ValueError, match="32 bits"):
        pack(np.array([2**40]))
    with pytest.raises(ValueError, match="cannot send a set"):
        pack({"x": {1}})
    assert pack([float("nan"), np.float64("inf"), np.int64(3), None, True]) == [None, None, 3, None, True]


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=80))
def test_no_text_leaves_its_element(text):
    made = safe_json({"t": [text]})
    assert json.loads(made) == {"t": [text]} and not set(made) & set("<>&") and made.isascii()


def test_pictures_know_which_are_missing():
    films = [np.full((40, 20), 7, np.uint8), None, np.zeros((128, 128), np.uint8)]
    made = thumbnails(films, size=32)
    assert (
        isinstance(made, Pictures) and len(made) == 3 and made.ends[0] == made.ends[1] < made.ends[2] == len(made.data)
    )
    for wrong in (np.zeros((3, 3)), np.zeros((2, 2, 3), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            thumbnails([wrong])


def test_seven_labels_get_a_colour():
    codes = colour_codes([c for i, c in enumerate("abcdefghij") for _ in range(20 - i)])
    assert codes["names"] == list("abcdefg") and codes["colour"].max() == 7 and codes["others"] == "others"
    assert colour_codes(None) == {} and colour_codes(["x"])["others"] is None


@pytest.mark.parametrize(
    "x, words, empty",
    [
        ([], "no points", True),
        ([np.nan] * 2, "all are NaN", True),
        ([1.0], "only one", False),
        ([1.0, 1.0], "same place", False),
        ([1.0, np.nan, 2.0], "1 of 3", False),
    ],
)
def test_odd_inputs_are_told(x, words, empty):
    view = points_view(x, x)
    assert words in " ".join(view.payload["says"]) and view.payload["empty"] == empty


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="texts: 1 for 2 points"):
        points_view([0, 1], [0, 1], texts=["a"])


def test_a_request_is_answered_and_a_failure_is_told():
    def fail(asked):
        raise OSError("disk")

    view = make_view(
        "points",
        "t",
        {"x": np.zeros(1), "y": np.zeros(1)},
        answers={"half": lambda asked: {"half": np.array([asked["value"] / 2])}, "fail": fail},
    )
    assert view.payload["asks"] == ["fail", "half"]
    view.request = {"id": 1, "kind": "half", "value": 3}
    assert view.answer["id"] == 1 and np.frombuffer(view.answer["half"]["data"], np.float32)[0] == 1.5
    view.request = {"id": 2, "kind": "fail"}
    assert view.answer == {"id": 2, "error": "OSError: disk"}
    view.answers |= {"length": lambda asked: {"length": len(asked["data"])}, "refuse": lambda asked: no(asked["data"])}

    def no(data):
        raise DataError("a.png: not a picture")

    view.request = {"id": 3, "kind": "length", "data": memoryview(b"film")}
    assert view.answer == {"id": 3, "length": 4} and view.request == {}  # a film is no state
    view.request = {"id": 4, "kind": "refuse", "data": b"film"}
    assert view.answer == {"id": 4, "error": "a.png: not a picture"} and view.request == {}
    view.choose(chosen=0)
    view.choose(more="x")
    assert view.state == {"chosen": 0, "more": "x"} and isinstance(view, View)


def test_a_restricted_page_holds_neither_text_nor_film(tmp_path):
    films = [np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)] * 2
    view = points_view(
        [0, 1], [0, 1], ["quiet", "loud"], ["s1", "s2"], ["Philomena one", "Philomena two"], films, "R", restricted=True
    )
    image = base64.b64encode(thumbnails(films).data).decode()[40:80]
    closed, opened = view_html(view, tmp_path / "a.html"), view_html(view, tmp_path / "b.html", show=True)
    assert "Philomena" not in closed.read_text() and image not in closed.read_text() and "s1" in closed.read_text()
    assert "Philomena" in opened.read_text() and image in opened.read_text()
    assert all(NOT_FOR_SHARING in path.read_text() for path in (closed, opened)) and payload_of(closed)["private"] == {}


def test_a_page_is_the_same_each_time(tmp_path):
    first, second = (
        view_html(points_view(np.arange(9.0), np.arange(9.0), list("abcabcabc")), tmp_path / n).read_bytes()
        for n in ("a.html", "b.html")
    )
    assert first == second


HARMFUL = [
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    r"document\.write",
    r"\beval\(",
    "new Function",
    "DOMParser",
    r"fetch\(",
    "XMLHttpRequest",
    r"https?://(?!www\.w3\.org/2000/svg)",
    "</script",
]


def test_the_script_sets_texts_as_texts_only():
    assert not re.search("|".join(HARMFUL), script())
    assert "url(" not in style() and "@import" not in style()


def test_modules_are_joined_behind_those_that_they_import_from():
    sources = {
        "a.js": 'import { twice } from "./c.js";\nimport {\n  half,\n  none,\n} from "./b.js";\n\n'
        "export default twice(half);\n",
        "b.js": "export const half = 0.5;\nexport async function none() {}\n",
        "c.js": "// export function old\nexport class Two {}\nexport function twice(x) {\n  return x * 2;\n}\n",
    }
    joined = join_modules(sources)
    assert joined == join_modules(dict(reversed(sources.items())))
    assert joined.index("class Two") < joined.index("const half") < joined.index("export default twice(half);")
    assert "import" not in joined and joined.count("export") == 2  # a comment, and the default
    assert join_modules({}) == ""


@pytest.mark.parametrize(
    "sources, word",
    [
        ({"a.js": 'import { x } from "./b.js";\n'}, "a.js: imports from b.js, which is not there"),
        ({"a.js": 'import { x as y } from "./b.js"; //\n', "b.js": ""}, "a.js: cannot join 'import"),
        ({"a.js": 'import * as b from "./b.js";\n', "b.js": ""}, "cannot join"),
        ({"a.js": 'import "./b.js";\n', "b.js": ""}, "cannot join"),
        ({"a.js": "const x = 1;\nexport { x };\n"}, "a.js: cannot join 'export { x };'"),
        ({"a.js": 'export * from "./b.js";\n', "b.js": ""}, "cannot join"),
        ({"a.js": "const x = 1;\n", "b.js": "function x() {}\n"}, "b.js: x is a name at the top of a.js too"),
        (
            {"a.js": 'import { x } from "./b.js";\n', "b.js": 'import { y } from "./a.js";\nexport const x = y;\n'},
            "a.js: imports itself by way of b.js",
        ),
    ],
)
def test_modules_that_cannot_be_joined_are_refused(sources, word):
    with pytest.raises(ValueError, match=re.escape(word)):
        join_modules(sources)


def test_names_that_are_imported_under_another_are_refused():
    with pytest.raises(ValueError, match="another name"):
        join_modules({"a.js": 'import { x as y } from "./b.js";\n', "b.js": "export const x = 1;\n"})


def test_a_page_names_its_script_by_its_hash(tmp_path):
    page = view_html(points_view([0, 1], [0, 1]), tmp_path / "p.html").read_text(encoding="utf-8")
    code = re.search(r'<script type="module">(.*?)</script>', page, re.S)[1]
    mark = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    assert f"script-src 'sha256-{mark}'" in page and code.endswith("\nbootstrap();\n")


@pytest.mark.browser
def test_each_file_is_a_module_on_its_own(page):
    "The browser loads them by their own imports, unjoined."
    address = "http://127.0.0.1:9/"
    views = sorted(path.name for path in STATIC.glob("*.js"))

    def serve(route):
        name = route.request.url.removeprefix(address)
        if name in views:
            return route.fulfill(body=(STATIC / name).read_text(encoding="utf-8"), content_type="text/javascript")
        return route.fulfill(body="<!doctype html><title>modules</title>", content_type="text/html")

    page.route(f"{address}**", serve)
    page.goto(address)
    load = "names => Promise.all(names.map(name => import('/' + name))).then(() => import('/core.js'))"
    registered = page.evaluate(f"names => ({load})(names).then(core => Object.keys(core.VIEWS).sort())", views)
    assert registered == ["adjudication", "attention", "ellipses", "explorer", "failures", "points", "prototypes"]
    assert not page.errors, page.errors


@pytest.mark.slow
def test_a_wheel_holds_the_static_files(root, tmp_path):
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, tmp_path)
    shutil.copytree(root / "medret_nb", tmp_path / "medret_nb", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path / "made", tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    names = zipfile.ZipFile(next((tmp_path / "made").glob("*.whl"))).namelist()
    assert {f"medret_nb/views/static/{p.name}" for p in (root / "medret_nb/views/static").iterdir()} <= set(names)


@pytest.mark.browser
def test_hostile_texts_are_texts(page, tmp_path):
    n = len(HOSTILE)
    view = points_view(np.arange(n), np.zeros(n), HOSTILE, HOSTILE, HOSTILE, None, HOSTILE[0])
    opened(page, view_html(view, tmp_path / "p.html"))
    page.locator(".stage").focus()
    seen = set()
    for _ in range(3 * n):
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        seen.add(page.evaluate("document.querySelector('.card .report')?.textContent ?? ''"))
    for _ in range(3 * n):
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Enter")
        seen.add(page.evaluate("document.querySelector('.card .report')?.textContent ?? ''"))
    wanted = {text.replace("\ud800", "?") for text in HOSTILE}  # half a surrogate pair is no character
    assert wanted <= seen, wanted - seen
    assert page.title() == HOSTILE[0] and not page.outside and not page.errors, page.errors
    assert page.locator("script").count() == 2 and page.locator("img").count() == 0


@pytest.mark.browser
def test_a_page_answers_without_a_kernel(page, tmp_path):
    rng = np.random.default_rng(0)
    films = [rng.integers(0, 256, (64, 64), dtype=np.uint8) for _ in range(30)]
    view = points_view(
        rng.normal(size=30),
        rng.normal(size=30),
        ["even", "odd"] * 15,
        [f"study {i}" for i in range(30)],
        [f"report {i}" for i in range(30)],
        films,
        "Thirty",
    )
    path = view_html(view, tmp_path / "p.html")
    for width, scheme in ((1200, "light"), (360, "dark")):
        opened(page, path, width, scheme)
        expect(page.locator(".map")).to_have_attribute("data-drawn", re.compile("[1-9]"))
        page.locator(".stage").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        assert (
            re.fullmatch(r"report \d+", page.locator(".card .report").inner_text())
            and page.locator(".card img").evaluate("i => i.decode().then(() => i.naturalWidth)") == 64
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        drawn = page.locator(".map").get_attribute("data-drawn")
        page.get_by_role("button", name="zoom in").click()
        expect(page.locator(".map")).not_to_have_attribute("data-drawn", drawn)
    assert not page.outside and not page.errors, page.errors


@pytest.mark.browser
def test_hover_finds_a_point_among_many(page, tmp_path):
    rng = np.random.default_rng(0)
    opened(page, view_html(points_view(rng.normal(size=100_000), rng.normal(size=100_000)), tmp_path / "p.html"))
    expect(page.locator(".map")).to_have_attribute("data-drawn", re.compile("[1-9]"))
    box = page.locator(".stage").bounding_box()
    for k in range(3):
        page.mouse.move(box["x"] + box["width"] / 2 + 9 * k, box["y"] + box["height"] / 2)
        expect(page.locator(".map")).to_have_attribute("data-hover", re.compile(r"^\d+$"))
