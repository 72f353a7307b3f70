"""The views in JupyterLab, in a browser without a network: they open, answer to controls, ask the kernel, follow the theme."""
import re

import pytest
from playwright.sync_api import expect


def view_of(page, kind):
    "The last view of a kind in the open notebook, in sight."
    view = page.locator(f".medret[data-ready={kind}]").last
    view.scroll_into_view_if_needed()
    return view


def check_theme(page, view):
    "The view is dark where JupyterLab is."
    light = view.evaluate("e => getComputedStyle(e).backgroundColor")
    page.evaluate("() => document.body.setAttribute('data-jp-theme-light', 'false')")
    dark = view.evaluate("e => getComputedStyle(e).backgroundColor")
    page.evaluate("() => document.body.setAttribute('data-jp-theme-light', 'true')")
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(20, 25, 30)")


@pytest.mark.slow
@pytest.mark.browser
def test_the_explorer_asks_the_kernel(run_notebook, page):
    run_notebook("views/74_explorer.ipynb")
    view = view_of(page, "explorer")
    view.locator("tbody tr button").nth(2).click()
    study = view.locator("tbody tr button").nth(2).inner_text()
    expect(view.locator(".second .card strong").first).to_have_text(f"film of {study}")
    view.get_by_label("Ask with a sentence").fill("Large left pleural effusion.")
    view.get_by_role("button", name="Search films").click()
    expect(view.locator(".second .card .report").first).to_have_text("Large left pleural effusion.")
    expect(view.locator(".ranked .card img")).to_have_count(10)
    view.get_by_label("Ask with a sentence").fill("...")
    view.get_by_label("Ask with a sentence").press("Enter")
    expect(view.locator(".second .note")).to_contain_text("no word")
    check_theme(page, view)
    assert not page.errors and not page.outside, (page.errors, page.outside)


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("notebook, kind", [("69_widget", "points"), ("70_prototypes", "prototypes"), ("71_ellipses", "ellipses")])
def test_a_view_opens_and_answers(run_notebook, page, notebook, kind):
    run_notebook(f"views/{notebook}.ipynb")
    view = view_of(page, kind)
    if kind == "points":
        view.locator(".stage").focus()
        page.keyboard.press("ArrowRight"); page.keyboard.press("Enter")
        expect(view.locator(".card strong")).to_have_text(re.compile("^study A"))
    else:
        before = view.locator(".second h3, .parts tr.chosen").first.inner_text()
        view.locator("tbody tr button").nth(2).click()
        expect(view.locator(".second h3, .parts tr.chosen").first).not_to_have_text(before)
    assert view.evaluate("e => e.scrollWidth <= e.clientWidth")
    check_theme(page, view)
    assert not page.errors and not page.outside, (page.errors, page.outside)
