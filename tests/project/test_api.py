"""The usual functions at the top of the package: loaded when they are used, and they read as they are written."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import medret_nb


def test_importing_the_package_alone_loads_no_library():
    script = "import sys, medret_nb; assert not {'torch', 'pandas', 'numpy'} & set(sys.modules); print(dir(medret_nb))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "build_index" in done.stdout


def test_the_usual_functions_stand_at_the_top(root):
    from medret_nb import StudySet, build_index, embed, evaluate, fit, make_phantom
    from medret_nb.training.loop import fit as by_its_module

    assert fit is by_its_module and set(medret_nb.__all__) <= set(dir(medret_nb))
    readme = (root / "README.md").read_text()
    for thing in (StudySet, build_index, embed, evaluate, fit, make_phantom):
        assert thing.__doc__ and thing.__name__ in readme
    assert "from medret_nb import" in readme
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        medret_nb.fitt  # noqa: B018


def test_it_works_as_it_reads(small_phantom):
    from medret_nb import embed, evaluate
    from medret_nb.data.files import DataError
    from medret_nb.methods.clip import CLIP, CLIPConfig

    method = CLIP.create(CLIPConfig(dim=8), seed=0)
    points = embed(method, small_phantom, "test", progress=False)
    result = evaluate(points, small_phantom, draws=20, verbose=False)
    assert result.report["split"] == "test" and result.report["policy"] == "both"
    with pytest.raises(DataError, match="points: must be a pair of Embeddings by name"):
        evaluate(points["image"], small_phantom)


def test_types_are_shipped(root):
    assert (Path(medret_nb.__file__).parent / "py.typed").is_file()
    shipped = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert "py.typed" in shipped["medret_nb"]
