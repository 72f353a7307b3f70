"""Time the views in headless Chromium, without a network: python benchmarks/views.py [N ...]

For each view and N studies (default 1000, 10000 and 100000): seconds to compute the view and to write its page, the page's size, seconds from
opening the file to the first drawn map, the slowest of eight moves of the pointer until the point under it is named, and of five clicks on a
row until the answer stands there. Points of 64 dimensions are random; up to 10,000 studies have thumbnails and texts. `points` is the bare map.
"""
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from medret_nb.views.ellipses import ellipses_view
from medret_nb.views.explorer import explorer_view
from medret_nb.views.items import from_arrays
from medret_nb.views.prototypes import prototypes_view
from medret_nb.views.widget import points_view, view_html
from playwright.sync_api import expect, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from conftest import CHROMIUM_FLAGS, find_chromium  # noqa: E402


def made(n: int, clouds: bool = False):
    "n studies of ten kinds."
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 10, n)
    image = rng.normal(size=(10, 64))[kinds] + rng.normal(size=(n, 64))
    spread = [rng.normal(-1, 0.3, (n, 64)) for _ in range(2)] if clouds else [None, None]
    lungs = np.clip(90 + 60 * np.sin(np.linspace(0, 6, 96))[None] * np.cos(np.linspace(0, 4, 96))[:, None], 0, 255)
    films = [np.clip(lungs + rng.normal(0, 6, (96, 96)), 0, 255).astype(np.uint8) for _ in range(n)] if n <= 10_000 else None
    return from_arrays(image, image + rng.normal(size=(n, 64)), *spread, films=films, findings=[[f"finding {k}"] for k in kinds],
                       texts=[f"Study {i}. Moderate right pleural effusion with adjacent atelectasis. Heart size is normal. No pneumothorax." for i in range(n)])


VIEWS = {
    "points": lambda n: points_view(*np.random.default_rng(0).normal(size=(2, n)), [f"k{i % 7}" for i in range(n)]),
    "explorer": lambda n: explorer_view(made(n), maps=("pca",)),
    "ellipses": lambda n: ellipses_view(made(n, True)),
    "prototypes": lambda n: prototypes_view(made(n), prototypes=np.random.default_rng(1).normal(size=(16, 64)))}


def worst(call, times: int) -> float:
    "The longest of several calls, in seconds."
    taken = []
    for k in range(times):
        begun = time.perf_counter()
        call(k)
        taken.append(time.perf_counter() - begun)
    return max(taken)


def measure(browser, path: Path) -> tuple[float, float, float]:
    "Seconds to the first paint, of the slowest hover and of the slowest click."
    page = browser.new_context(offline=True, viewport={"width": 1280, "height": 1000}).new_page()
    begun = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_selector("[data-drawn]", timeout=60_000)
    first = time.perf_counter() - begun
    stage = page.locator(".stage").first
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    seen = set()

    def hover(k):
        page.mouse.move(box["x"] + box["width"] * (0.3 + 0.05 * k), box["y"] + box["height"] * (0.3 + 0.05 * k))
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        seen.add(page.locator(".map").first.get_attribute("data-hover"))

    def click(k):
        if page.locator("tbody tr[data-row]").count():
            row = page.locator("tbody tr[data-row]").nth(k + 1)
            row.click()
            expect(page.locator("tbody tr.chosen").first).to_be_visible()
        else:
            page.keyboard.press("Enter")
            expect(page.locator(".card").first).to_be_visible()

    slow = worst(hover, 8)
    assert seen - {None, "-1"}, "the pointer found no point"
    if not page.locator("tbody tr[data-row]").count():
        stage.focus()
        page.keyboard.press("ArrowRight")
    answer = worst(click, 5)
    page.context.close()
    return first, slow, answer


def main(sizes: list[int]):
    print(f"{'view':12s}{'N':>8s}{'compute s':>11s}{'write s':>9s}{'page MB':>9s}{'paint s':>9s}{'hover ms':>10s}{'click ms':>10s}")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_FLAGS)
        for name, make in VIEWS.items():
            for n in sizes:
                begun = time.perf_counter()
                view = make(n)
                computed = time.perf_counter() - begun
                begun = time.perf_counter()
                path = view_html(view, Path(folder) / f"{name}-{n}.html")
                written, size = time.perf_counter() - begun, path.stat().st_size / 1e6
                paint, hover, click = measure(browser, path)
                print(f"{name:12s}{n:8,d}{computed:11.1f}{written:9.2f}{size:9.2f}{paint:9.2f}{1000 * hover:10.0f}{1000 * click:10.0f}", flush=True)


if __name__ == "__main__":
    main([int(a) for a in sys.argv[1:]] or [1000, 10_000, 100_000])
