"""Numbers of studies, and patients who stay whole."""

import pytest

from medret_nb.phantom import planning
from medret_nb.phantom.planning import PhantomConfig, plan, split_counts


@pytest.mark.parametrize("wrong", [0, -3, 2.5, {"train": -1}, {"all": 3}, {}])
def test_numbers_of_studies_are_checked(wrong):
    with pytest.raises(ValueError, match="studies must"):
        split_counts(wrong)


def test_splits_sum_and_patients_stay_whole():
    for n in (1, 2, 7, 48, 1000):
        assert sum(split_counts(n).values()) == n
    config = PhantomConfig(split_counts({"train": 500, "test": 400}), 1, 64, one_study_per_patient=("test",))
    entries = [e for chunk in plan(config) for e in chunk]
    count = {split: sum(len(keep) for s, _, keep in entries if s == split) for split in ("train", "test")}
    assert count == {"train": 500, "test": 400}
    assert len({i for s, i, _ in entries if s == "test"}) == 400 and len({i for _, i, _ in entries}) == len(entries)


def test_pieces_hold_few_patients_and_leave_none_out(monkeypatch):
    config = PhantomConfig(split_counts(100), 2, 64)
    whole = [entry for chunk in plan(config) for entry in chunk]
    monkeypatch.setattr(planning, "CHUNK", 7)
    small = plan(config)
    assert max(len(chunk) for chunk in small) == 7
    assert [entry for chunk in small for entry in chunk] == whole


def test_settings_survive_json():
    config = PhantomConfig({"test": 3}, 1, 32, one_study_per_patient=("test",), views=("PA",))
    assert config.record()["views"] == ["PA"] and config.record()["observer"]["d50"] == 10.0
    assert config.place() == PhantomConfig({"test": 9}, 2, 64).place()
