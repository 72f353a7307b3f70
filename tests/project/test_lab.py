"""Notebooks run in JupyterLab, in a browser without a network, as a reader runs them."""
import pytest

NOTEBOOKS = ["index.ipynb", "losses/20_contrastive.ipynb"]


@pytest.mark.browser
@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_runs_in_jupyterlab(run_notebook, page, notebook):
    screenshots, errors = run_notebook(notebook)
    assert screenshots and all(file.stat().st_size > 10_000 for file in screenshots)
    assert not errors, errors
    assert not page.outside, f"the page asked for {page.outside}"
