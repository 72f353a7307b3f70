"""Arms: what does not fit is named, films are counted, runs are found by their folders."""

import pytest

from medret_nb.data.files import DataError
from medret_nb.methods.clip import CLIP
from medret_nb.methods.table import METHODS
from medret_nb.training.arms import Arm, check_arms, epochs_for, read_arms, runs_by_seed, seed_run


def test_every_method_sees_as_many_films():
    for name, kind in METHODS.items():
        assert epochs_for(Arm(name), 12) * kind.views == 12 and epochs_for(Arm(name), 1) == 1


@pytest.mark.parametrize(
    "text, said",
    [
        ("[a]\nmethod = 3", "must be a section that names its method"),
        ("a = 1", "must be a section"),
        ("[a]\nmethod = 'clop'", "arm a: method: 'clop' is none of"),
        ("[a]\nmethod = 'clip'\nsize = 'big'", "arm a: size: 'big' is not a whole number"),
        ("[a]\nmethod = 'clip'\nsise = 3", "has no setting 'sise'"),
        ("['../a']\nmethod = 'clip'", "its name must be made of letters"),
        ("[a", "not a TOML file"),
        ("", "there is none"),
        ("[a]\nmethod = 'clip'\nimage = 3", "image must be a text"),
    ],
)
def test_arms_that_do_not_fit_are_named(tmp_path, text, said):
    (tmp_path / "arms.toml").write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        read_arms(tmp_path / "arms.toml")
    assert "\n" not in str(caught.value) and str(tmp_path / "arms.toml") in str(caught.value)


def test_arms_from_a_file(tmp_path):
    (tmp_path / "arms.toml").write_text(
        '[one]\nmethod = "clip"\n[two]\nmethod = "clip"\nimage = "tiny-random"\ndim = 32\n'
    )
    assert read_arms(tmp_path / "arms.toml") == {
        "one": Arm("clip"),
        "two": Arm("clip", "tiny-random", settings={"dim": 32}),
    }
    with pytest.raises(DataError, match="No such file"):
        read_arms(tmp_path / "none.toml")
    with pytest.raises(DataError, match="there is none"):
        check_arms({})


def test_an_arm_makes_its_method():
    made = Arm("clip", "tiny-random", settings={"dim": 16}).create(seed=1)
    assert isinstance(made, CLIP) and made.config.dim == 16
    with pytest.raises(DataError, match="clip has no setting 'sise'"):
        Arm("clip", settings={"sise": 3}).config()


def test_runs_are_found_by_their_seeds(tmp_path):
    for name in ("seed-10", "seed-2", "seed-x", "other"):
        (tmp_path / "a" / name).mkdir(parents=True)
        (tmp_path / "a" / name / "config.json").write_text("{}")
    (tmp_path / "a" / "seed-3").mkdir()  # without a method
    found = runs_by_seed(tmp_path, "a")
    assert list(found) == [2, 10]
    assert found[2].folder == seed_run(tmp_path, "a", 2).folder == tmp_path / "a" / "seed-2"
    with pytest.raises(DataError, match="b: holds no run seed-0"):
        runs_by_seed(tmp_path, "b")
