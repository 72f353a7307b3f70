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
        ("[a]\nmethod = 3", "a.method must be a text, not 3"),
        ("a = 1", "a must be names and values, not 1"),
        ("[a]\nmethod = 'clop'", "arm a: method: 'clop' is none of"),
        ("[a]\nmethod = 'clip'\nsize = 'big'", "arm a: size: 'big' is not a whole number"),
        ("[a]\nmethod = 'clip'\nsise = 3", "has no setting 'sise'"),
        ("['../a']\nmethod = 'clip'", "its name must be letters"),
        *((f"['{first}a']\nmethod = 'clip'", "a letter or digit first") for first in "=+-@. "),
        ("[a", "not a TOML file"),
        ("", "there is none"),
        ("[a]\nmethod = 'clip'\nimage = 3", "a.image must be a text, not 3"),
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
    with pytest.raises(DataError, match="none.toml: there is no such file"):
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


def test_a_budget_counts_passes_or_steps():
    two = Arm("clip", settings={"views": 2})
    assert [epochs_for(two, 10), epochs_for(two, 10, "steps"), epochs_for(Arm("medprobclip"), 10, "steps")] == [
        5,
        10,
        10,
    ]
    assert epochs_for(Arm("cxr_clip", settings={"views": 1}), 10) == 10
    assert epochs_for(Arm(embeddings="there"), 10) == 0


@pytest.mark.parametrize(
    "text, said",
    [
        ("[a]\ndim = 8", "arm a: must name a method, or embeddings"),
        ('[a]\nmethod = "clip"\nembeddings = "b"', "arm a: must name a method, or embeddings"),
        ('[a]\nembeddings = "b"\ndim = 8', "arm a: embeddings take similarity, logit_scale, shift, policy"),
        ('[a]\nembeddings = "b"\nsimilarity = "dot"', "arm a: similarity: 'dot' is none of"),
        ('[a]\nmethod = "clip"\nwords = "all"', "arm a: words: 'all' is none of encoder, corpus"),
    ],
)
def test_embeddings_as_an_arm(tmp_path, text, said):
    (tmp_path / "arms.toml").write_text(text)
    with pytest.raises(DataError, match=said):
        read_arms(tmp_path / "arms.toml")


def test_an_arm_may_learn_its_words(small_phantom):
    arm = Arm("clip", words="corpus", settings={"dim": 8})
    learnt = arm.create(0, small_phantom.split("train"))
    assert len(learnt.tokenizer) != len(Arm("clip").create(0).tokenizer)
    with pytest.raises(DataError, match="needs the studies to train on"):
        arm.create(0)
