"Probes of all arms: asked once, asked again where weights changed, why there are none, cases as they were written."

import pandas as pd
import pytest

from medret_nb.data.files import DataError, shipped_data
from medret_nb.data.studies import StudySet
from medret_nb.methods.clip import CLIP
from medret_nb.training.probed import PROBES, Probe, probe_arms, probed_cases, probed_summary


@pytest.fixture(scope="module")
def clinic():
    "The package's own studies."
    return StudySet.load(shipped_data("phantom-small"))


def counting(calls):
    "A probe that notes which methods it was asked of."

    def cases(method, studies, split, fails=False):
        calls.append(method.name)
        if fails:
            raise DataError("no boxes here")
        ids = studies.split(split).studies["study_id"].astype(str)
        return pd.DataFrame({"case": ids, "patient": ids, "value": 0.5, "control": 0.25})

    return cases


def test_what_is_there_is_not_asked_again(tmp_path, clinic):
    for arm, seed in (("a", 0), ("a", 1), ("b", 0)):
        CLIP.create(seed=seed).save_pretrained(tmp_path / arm / f"seed-{seed}")
    calls = []
    probes = {"plain": Probe(counting(calls)), "broken": Probe(counting(calls), {"fails": True})}
    table = probe_arms(tmp_path, clinic, "test", probes, progress=False)
    assert len(table) == 6 and len(calls) == 6
    assert set(table.loc[table["probe"] == "broken", "why"]) == {"no boxes here"}
    assert probe_arms(tmp_path, clinic, "test", probes, progress=False).equals(table) and len(calls) == 6
    CLIP.create(seed=9).save_pretrained(tmp_path / "b" / "seed-0")
    probe_arms(tmp_path, clinic, "test", probes, progress=False)
    assert len(calls) == 8  # the two probes of the changed run
    cases = probed_cases(tmp_path, "a", "plain")
    assert list(cases) == [0, 1] and (cases[0]["value"] == 0.5).all()
    with pytest.raises(DataError, match="no boxes here"):
        probed_cases(tmp_path, "a", "broken")
    with pytest.raises(DataError, match="is not there"):
        probed_cases(tmp_path, "a", "other")


def test_wrong_names_and_folders_are_told(tmp_path, clinic):
    with pytest.raises(DataError, match="probes: 'magic'"):
        probe_arms(tmp_path, clinic, probes=("magic",))
    with pytest.raises(DataError, match="holds no arm"):
        probe_arms(tmp_path, clinic)
    assert {"zero-shot", "corruptions", "grounding"} <= set(PROBES)


def test_the_summary_is_macro_averaged():
    cases = pd.DataFrame({"case": range(4), "patient": range(4), "value": [1.0, 1, 1, 0], "group": list("aaab")})
    assert probed_summary(cases)["value"] == 0.5
