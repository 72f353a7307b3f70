"""Time the views in headless Chromium, without a network: python benchmarks/views.py [N ...]

For each view and N studies (default 1000, 10000 and 100000): seconds to compute the view and to write its page, the
page's size, seconds from opening the file until it is drawn, the slowest of eight moves of the pointer until what
lies under it is named, and of five clicks until the answer stands there. What a view is made of is prepared before,
untimed: points of 64 dimensions, random; up to 10,000 studies have thumbnails and texts.

points      the bare map: the pointer over points, a key on one of them
explorer    map, table, answers to 5,000 queries each way: a click on a row of the table
ellipses    clouds
prototypes  sixteen of them
failures    N queries each way, evaluated under `text`, with films of 64 pixels on disk; computing reads the reports
            of all failed ones, the page shows 2,000. It has nothing to point at; a click is one on a row, until
            query, truth and five compared reports stand there. Not beyond 10,000: the evaluation before it compares
            all pairs, and keeps 100 candidates of each query
attention   the films that it shows, 24 by default, whatever N is; and 100. Each has 80 words and 14 x 14 patches of
            64 dimensions, ten regions and a film of 224 pixels. The pointer goes over words until the note below says
            where each looks; a click takes another film

Last, what the kernel needs for a question of the explorer at two of ten regions (`Desk.ask`): the first, which makes
the index, and the slowest of five others, in ms.
"""

import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from medret_nb.data.finding_names import FINDINGS
from medret_nb.data.studies import StudySet
from medret_nb.evaluation.results import evaluate
from medret_nb.retrieval.points import Embeddings
from medret_nb.views.asking import Desk
from medret_nb.views.attention import attention_view
from medret_nb.views.ellipses import ellipses_view
from medret_nb.views.explorer import explorer_view
from medret_nb.views.failures import failures_view
from medret_nb.views.items import from_arrays
from medret_nb.views.looks import look_at
from medret_nb.views.prototypes import prototypes_view
from medret_nb.views.widget import points_view, view_html

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from conftest import CHROMIUM_FLAGS, find_chromium  # noqa: E402


def some_films(n: int, size: int, rng) -> list[np.ndarray]:
    "n pictures that are as hard to compress as films."
    lungs = np.clip(90 + 60 * np.sin(np.linspace(0, 6, size))[None] * np.cos(np.linspace(0, 4, size))[:, None], 0, 255)
    return [np.clip(lungs + rng.normal(0, 6, (size, size)), 0, 255).astype(np.uint8) for _ in range(n)]


def made(n: int, clouds: bool = False):
    "n studies of ten kinds."
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 10, n)
    image = rng.normal(size=(10, 64))[kinds] + rng.normal(size=(n, 64))
    spread = [rng.normal(-1, 0.3, (n, 64)) for _ in range(2)] if clouds else [None, None]
    return from_arrays(
        image,
        image + rng.normal(size=(n, 64)),
        *spread,
        films=some_films(n, 96, rng) if n <= 10_000 else None,
        findings=[[f"finding {k}"] for k in kinds],
        texts=[
            f"Study {i}. Moderate right pleural effusion with adjacent atelectasis. "
            "Heart size is normal. No pneumothorax."
            for i in range(n)
        ],
    )


def evaluated(n: int, folder: Path):
    "n studies with films on disk and reports of 156 kinds, and their evaluation: (results, studies)."
    rng = np.random.default_rng(0)
    names = np.array([f"study {i}" for i in range(n)], dtype=object)
    facts = [
        (FINDINGS[1 + f], ("left", "right")[s], ("small", "moderate", "large")[v], ("normal", "enlarged")[h])
        for f, s, v, h in rng.integers(0, (13, 2, 3, 2), (n, 4))
    ]
    texts = [
        f"{size.capitalize()} {side} {name.lower()}. Heart size is {heart}. No pneumothorax. The bones are intact."
        for name, side, size, heart in facts
    ]
    (folder / "images").mkdir(parents=True)
    for i, film in enumerate(some_films(n, 64, rng)):
        Image.fromarray(film).save(folder / "images" / f"{i}.png", compress_level=1)
    table = pd.DataFrame(
        {
            "study_id": names,
            "patient_id": names,
            "split": "test",
            "findings": texts,
            "labels": [{fact[0]: 1} for fact in facts],
        }
    )
    images = pd.DataFrame(
        {"image_id": names, "study_id": names, "view": "PA", "path": [f"images/{i}.png" for i in range(n)]}
    )
    studies = StudySet(table, images, info={"name": "benchmark", "restricted": False}, folder=folder)
    kinds = np.unique(texts, return_inverse=True)[1].ravel()
    points, meta = (
        rng.normal(size=(kinds.max() + 1, 64))[kinds],
        {"similarity": "cosine", "split": "test", "policy": "both"},
    )
    sides = {}
    for kind, noise in (("image", 4), ("text", 0.2)):
        seen = (points + noise * rng.normal(size=points.shape)).astype(np.float32)
        sides[kind] = Embeddings(names, names, seen, None, meta | {"modality": kind})
    studies.pixels(96)
    return evaluate(sides, studies, "text", ks=(1, 10), draws=20, verbose=False), studies


def looks(n: int):
    "n films with 80 words each."
    rng = np.random.default_rng(0)
    boxes = np.tile([[0.1, 0.1, 0.5, 0.9], [0.5, 0.1, 0.9, 0.9]], (5, 1))
    return [
        look_at(
            [f"word{i}" for i in range(80)],
            rng.normal(size=(80, 64)),
            rng.normal(size=(14, 14, 64)),
            film,
            boxes=boxes,
            truth=[("nodule", (0.2, 0.2, 0.4, 0.4))],
            id=f"film {k}",
        )
        for k, film in enumerate(some_films(n, 224, rng))
    ]


def failures(n: int, folder: Path):
    "A function that makes the failures view of n studies."
    results, studies = evaluated(n, folder)
    return partial(failures_view, results, studies=studies)


# name -> what to prepare for n studies (a function that makes the view), and the sizes that make sense among those
# that are wanted
VIEWS = {
    "points": (
        lambda n, _: partial(
            points_view, *np.random.default_rng(0).normal(size=(2, n)), [f"k{i % 7}" for i in range(n)]
        ),
        lambda sizes: sizes,
    ),
    "explorer": (lambda n, _: partial(explorer_view, made(n), maps=("pca",)), lambda sizes: sizes),
    "ellipses": (lambda n, _: partial(ellipses_view, made(n, True)), lambda sizes: sizes),
    "prototypes": (
        lambda n, _: partial(prototypes_view, made(n), prototypes=np.random.default_rng(1).normal(size=(16, 64))),
        lambda sizes: sizes,
    ),
    "failures": (failures, lambda sizes: [n for n in sizes if n <= 10_000]),
    "attention": (lambda n, _: partial(attention_view, looks(n)), lambda sizes: [24, 100]),
}


def worst(call, times: int) -> float:
    "The longest of several calls, in seconds."
    taken = []
    for k in range(times):
        begun = time.perf_counter()
        call(k)
        taken.append(time.perf_counter() - begun)
    return max(taken)


def painted(page) -> None:
    "Wait until the browser has drawn what it knows."
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def over_points(page, k: int, seen: set) -> None:
    "Move the pointer over the map."
    box = page.locator(".stage").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] * (0.3 + 0.05 * k), box["y"] + box["height"] * (0.3 + 0.05 * k))
    painted(page)
    seen.add(page.locator(".map").first.get_attribute("data-hover"))


def over_words(page, k: int, seen: set) -> None:
    "Move the pointer over words."
    box = page.locator(".word").nth(7 * k).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    painted(page)
    told = page.locator("[role=status]").first.inner_text()
    seen.add(told if "strongest" in told else None)


def click(page, name: str, k: int) -> None:
    "Ask for another row, point or film, until the answer is there."
    if name == "attention":
        page.get_by_label("Film", exact=True).select_option(index=k + 1)
        return expect(page.locator("img.film")).to_have_attribute("alt", f"radiograph of film {k + 1}")
    if name == "points":
        page.keyboard.press("Enter")
        return expect(page.locator(".card").first).to_be_visible()
    row = page.locator("tbody tr[data-row]").nth(k + 1).get_attribute("data-row")
    page.locator(f'tbody tr[data-row="{row}"]').first.click()
    return expect(page.locator(f'tbody tr[data-row="{row}"].chosen').first).to_be_visible()


def measure(browser, path: Path, name: str) -> tuple[float, float, float]:
    """Seconds until a page is drawn, of the slowest move of the pointer (NaN where there is nothing to point at) and
    of the slowest click.
    """
    page = browser.new_context(offline=True, viewport={"width": 1280, "height": 1000}).new_page()
    seen, hover = set(), {"attention": over_words, "failures": None}.get(name, over_points)
    begun = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_selector("[data-drawn]" if hover is over_points else "[data-ready]", timeout=60_000)
    painted(page)
    first = time.perf_counter() - begun
    if hover is over_points:
        page.locator(".stage").first.scroll_into_view_if_needed()
    slow = worst(lambda k: hover(page, k, seen), 8) if hover else float("nan")
    assert not hover or seen - {None, "-1"}, "the pointer found nothing"
    if name == "points":
        page.locator(".stage").first.focus()
        page.keyboard.press("ArrowRight")
    answer = worst(lambda k: click(page, name, k), 5)
    page.context.close()
    return first, slow, answer


def asking(n: int) -> tuple[float, float]:
    "Seconds for the first question at two regions, and for the slowest of five others."
    rng, names = np.random.default_rng(0), [f"region {i}" for i in range(10)]
    sides = [
        Embeddings(
            [str(i) for i in range(n)],
            [str(i) for i in range(n)],
            rng.normal(size=(n, 64)),
            None,
            {"similarity": "cosine", "regions": "; ".join(names)},
            {"regions": rng.normal(size=(n, 10, 64)).astype(np.float32), "regions_mask": rng.random((n, 10)) > 0.1},
        )
        for _ in range(2)
    ]
    items = from_arrays(sides[0].mu, sides[1].mu)
    items.image, items.text = sides
    desk = Desk(items)

    def ask(k):
        desk.ask({"row": k, "side": "film", "find": "films", "regions": names[k : k + 2], "rho": 0.5})

    return worst(ask, 1), worst(ask, 5)


def main(sizes: list[int]):
    print(
        f"{'view':12s}{'N':>8s}{'compute s':>11s}{'write s':>9s}{'page MB':>9s}"
        f"{'paint s':>9s}{'hover ms':>10s}{'click ms':>10s}"
    )
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_FLAGS)
        for name, (prepare, sensible) in VIEWS.items():
            for n in sensible(sizes):
                make = prepare(n, Path(folder) / f"{name}-{n}")
                begun = time.perf_counter()
                view = make()
                computed = time.perf_counter() - begun
                begun = time.perf_counter()
                path = view_html(view, Path(folder) / f"{name}-{n}.html")
                written, size = time.perf_counter() - begun, path.stat().st_size / 1e6
                paint, hover, answer = measure(browser, path, name)
                pointed = f"{1000 * hover:10.0f}" if np.isfinite(hover) else f"{'':>10s}"
                print(
                    f"{name:12s}{n:8,d}{computed:11.1f}{written:9.2f}{size:9.2f}"
                    f"{paint:9.2f}{pointed}{1000 * answer:10.0f}",
                    flush=True,
                )
    for n in sizes:
        first, others = asking(n)
        print(
            f"a question at two regions, {n:,} films: first {1000 * first:.0f} ms, others {1000 * others:.0f} ms",
            flush=True,
        )


if __name__ == "__main__":
    main([int(a) for a in sys.argv[1:]] or [1000, 10_000, 100_000])
