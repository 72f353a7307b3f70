"""Gains by groups: terciles, rarity against counting, the difference of differences and whether its interval covers."""

import numpy as np
import pandas as pd
import pytest

from medret_nb.data.files import DataError
from medret_nb.evaluation.gains import (
    AMBIGUITY_GROUPS,
    RARITY_GROUPS,
    ambiguity_cases,
    gains,
    interaction,
    joined_cases,
    query_cases,
    rarest_shares,
    rarity_cases,
    thirds,
)
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.phantom.records import read_ambiguity
from medret_nb.phantom.truth_tables import load_truth


@pytest.fixture(scope="module")
def method():
    return CLIP.create(CLIPConfig(dim=8), image="tiny-random")


def arms(gain, seed, patients=200, each=2):
    """Two arms on the same queries, each patient with several; the second gains in the ambiguous half alone."""
    rng = np.random.default_rng(seed)
    count = patients * each
    names = [f"q{i}" for i in range(count)]
    patient = np.repeat([f"p{i}" for i in range(patients)], each)
    group = np.where(np.arange(count) % 2, "ambiguous", "clear")
    ease = np.repeat(rng.random(patients), each) * 0.5 + rng.random(count) * 0.5
    facts = {"case": names, "patient": patient, "group": group, "direction": "image-to-text"}
    first = (ease + rng.normal(0, 0.1, count) > 0.6).astype(float)
    lucky = (group == "ambiguous") & (first == 0) & (rng.random(count) < gain)
    return pd.DataFrame(facts | {"value": first}), pd.DataFrame(facts | {"value": np.where(lucky, 1.0, first)})


def test_equal_values_stay_in_one_third():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 6, 400).astype(float)
    place = thirds(values)
    assert all(len(set(place[values == value])) == 1 for value in range(6))
    assert (np.diff(place[np.argsort(values, kind="stable")]) >= 0).all() and set(place) == {0, 1, 2}
    assert np.bincount(thirds(rng.normal(size=300))).tolist() == [100, 100, 100]
    assert (thirds(np.zeros(5)) == 0).all()


def test_the_interaction_is_the_difference_of_the_gains():
    first, second = arms(0.3, 1)
    table = gains(first, second, draws=200).set_index("group")
    found = interaction(first, second, draws=200).iloc[0]
    assert found["value"] == pytest.approx(table.loc["ambiguous", "gain"] - table.loc["clear", "gain"])
    assert table.loc["clear", "gain"] == 0 and table.loc["ambiguous", "queries"] == 200
    assert found["low"] < found["value"] < found["high"] and found["low"] > 0
    back = interaction(first, second, "clear", "ambiguous", draws=200).iloc[0]
    assert (back["value"], back["low"]) == pytest.approx((-found["value"], -found["high"]))


def test_the_interval_of_the_interaction_covers():
    gain = 0.4
    truth = np.mean([interaction(*arms(gain, seed, 2000), draws=2).iloc[0]["value"] for seed in range(20)])
    inside = 0
    for seed in range(100, 200):
        found = interaction(*arms(gain, seed, 80), draws=100).iloc[0]
        inside += found["low"] <= truth <= found["high"]
    assert 88 <= inside <= 100, inside


def test_trainings_are_averaged_and_arms_joined_by_case():
    first, second = arms(0.3, 2)
    worse = second.assign(value=0.0)
    joined = joined_cases(first, [second.iloc[::-1], worse])
    by_case = second.set_index("case")["value"] / 2
    np.testing.assert_allclose(joined["second"], by_case.loc[joined["case"]])
    assert len(joined_cases(first.iloc[:50], second.iloc[20:])) == 30
    with pytest.raises(DataError, match="share none"):
        joined_cases(first.iloc[:10], second.iloc[10:])
    with pytest.raises(DataError, match="q0 is of another group"):
        joined_cases(first, second.assign(group="ambiguous").iloc[:1])
    with pytest.raises(DataError, match="'rare' has no case"):
        interaction(first, second, "rare")


def test_too_few_patients_have_no_interval():
    found = interaction(*arms(0.3, 3, patients=12), draws=50).iloc[0]
    assert np.isnan(found["low"]) and np.isfinite(found["value"]) and found["patients"] == 12


def test_ambiguity_is_that_of_the_query(small_phantom, method):
    cases = ambiguity_cases(method, small_phantom, "train")
    known = read_ambiguity(small_phantom.folder).set_index("study_id")
    for direction, column in (("image-to-text", "image"), ("text-to-image", "report_open")):
        part = cases.loc[cases["direction"] == direction]
        np.testing.assert_allclose(part["ambiguity"], known.loc[part["study_id"], column])
        edges = part.groupby("group")["ambiguity"].agg(["min", "max"])
        ordered = edges.reindex([name for name in AMBIGUITY_GROUPS if name in edges.index])
        assert (ordered["min"].to_numpy()[1:] > ordered["max"].to_numpy()[:-1]).all()
    assert cases["case"].is_unique and len(cases) == len(query_cases(method, small_phantom, "train"))


@pytest.mark.parametrize("detail", ["place", "finding"])
def test_rarest_shares_are_those_of_counting(small_phantom, detail):
    taught = load_truth(small_phantom.split("train"))
    asked = small_phantom.split("test")
    truth = load_truth(asked)

    def thing(f):
        return (f.kind or f.name, f.side, f.zone) if detail == "place" else f.kind or f.name

    held = [{thing(f) for f in scene.findings} for scene in taught.scenes]
    expected = []
    for scene in truth.scenes:
        shares = [np.mean([thing(f) in one for one in held]) for f in scene.findings]
        expected.append(min(shares, default=np.nan))
    found = rarest_shares(small_phantom, "test", detail=detail)
    np.testing.assert_allclose(found, expected)
    assert found.index.tolist() == asked.studies["study_id"].tolist()


def test_rarity_groups_follow_the_thresholds(small_phantom, method):
    queries = query_cases(method, small_phantom, "train").rename(columns={"value": "hit_10"})
    cases = rarity_cases(method, small_phantom, "train", queries, rare=0.05, common=0.1)
    np.testing.assert_array_equal(cases["value"], queries["hit_10"])
    share = cases["share"].to_numpy()
    expected = np.select([np.isnan(share), share < 0.05, share < 0.1], RARITY_GROUPS[:3], RARITY_GROUPS[3])
    np.testing.assert_array_equal(cases["group"], expected)
    assert "nothing" in set(expected)


def test_faults_are_one_line(small_phantom, method):
    with pytest.raises(DataError, match="rare: 0.2 must lie"):
        rarity_cases(method, small_phantom, "train", rare=0.2, common=0.1)
    with pytest.raises(DataError, match="detail: 'colour'"):
        rarest_shares(small_phantom, "train", detail="colour")
    with pytest.raises(DataError, match="no column hit_10"):
        query_cases(method, small_phantom, "train", pd.DataFrame({"study_id": ["a"], "direction": ["x"]}))
