"Another site: hits in smaller galleries against drawing them, planted shares, a site of other wording."

import numpy as np
import pandas as pd
import pytest

from medret_nb.data.files import DataError, shipped_data
from medret_nb.data.studies import StudySet
from medret_nb.methods.clip import CLIP
from medret_nb.probes.sites import drawn_ceiling, hit_in_smaller, other_site, retained_at_site, site_cases


@pytest.mark.parametrize(("ahead", "tied", "k"), [(0, 1, 1), (5, 3, 2), (12, 1, 3), (2, 20, 5)])
def test_hit_in_smaller_is_what_drawing_gives(ahead, tied, k):
    rng = np.random.default_rng(1)
    scores = np.r_[0.0, np.ones(ahead), np.zeros(tied - 1), -np.ones(40 - ahead - tied)]
    hits = 0
    for _ in range(3000):
        kept = np.r_[0, 1 + rng.permutation(39)[:14]]
        order = np.lexsort((rng.random(15), -scores[kept]))
        hits += 0 in kept[order[:k]]
    exact = hit_in_smaller(np.array([ahead]), np.array([tied]), 40, 15, k)[0]
    assert abs(hits / 3000 - exact) < 0.035


def test_the_whole_gallery_is_the_plain_hit():
    assert hit_in_smaller(np.array([9, 10]), np.array([1, 1]), 50, 50, 10).tolist() == [1, 0]
    with pytest.raises(ValueError, match="size"):
        hit_in_smaller(np.array([0]), np.array([1]), 10, 11)


def planted(kept, count=200):
    "Cases with recall .4 at home, chance .05, and so much of the skill away."
    parts = []
    for place, recall in (("home", 0.4), ("away", 0.05 + kept * 0.35)):
        value = (np.arange(count) < round(recall * count)).astype(float)
        names = [f"{place} {i}" for i in range(count)]
        parts.append(pd.DataFrame({"case": names, "patient": names, "value": value, "group": place, "control": 0.05}))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("kept", [1.0, 0.6, 0.0])
def test_the_planted_share_comes_out(kept):
    found = retained_at_site([planted(kept), planted(kept)], 300)
    assert abs(found["share"]["value"] - kept) < 0.02
    assert found["share"]["low"] < kept < found["share"]["high"]
    assert np.allclose(found["by_seed"], found["share"]["value"])


def test_a_site_is_drawn_and_asked(tmp_path):
    clinic = StudySet.load(shipped_data("phantom-small"))
    away = other_site(clinic, tmp_path / "b", 8)
    assert set(away.studies["source"]) == {"phantom balanced B"}
    cases = site_cases(CLIP.create().eval(), clinic, "test", away, k=2)
    assert cases["case"].is_unique and set(cases["group"]) == {"home", "away"}
    assert cases["control"].nunique() == 1
    assert 0 < drawn_ceiling(away, 2) <= 1


def test_studies_of_no_folder_have_no_other_site():
    clinic = StudySet.load(shipped_data("phantom-small"))
    loose = StudySet(clinic.studies, clinic.images)
    with pytest.raises(DataError, match="other site"):
        other_site(loose, "nowhere")
