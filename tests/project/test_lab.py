"""Notebooks run in JupyterLab, in a browser without a network, as a reader runs them."""

from pathlib import Path

import pytest

NBS = Path(__file__).resolve().parents[2] / "nbs"
QUICK = ["index.ipynb", "losses/320_contrastive.ipynb"]
OTHERS = sorted(
    {file.relative_to(NBS).as_posix() for file in NBS.rglob("*.ipynb") if ".ipynb_checkpoints" not in file.parts}
    - set(QUICK)
)


@pytest.mark.browser
@pytest.mark.parametrize("notebook", [*QUICK, *[pytest.param(name, marks=pytest.mark.slow) for name in OTHERS]])
def test_runs_in_jupyterlab(run_notebook, page, notebook):
    screenshots, errors = run_notebook(notebook)
    assert screenshots and all(file.stat().st_size > 10_000 for file in screenshots)
    assert not errors, errors
    assert not page.outside, f"the page asked for {page.outside}"
