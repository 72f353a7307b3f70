"""What lies beside a StudySet: whose folder holds a truth, and tables that come back as they were."""

import pandas as pd
import pytest

from medret_nb.data.files import DataError
from medret_nb.phantom.assertions import Assertion
from medret_nb.phantom.records import (
    has_phantom_settings,
    has_scenes,
    has_truth,
    phantom_settings,
    read_ambiguity,
    read_truth,
    reports_of,
    write_phantom_settings,
    write_scenes,
    write_truth,
)


def test_scenes_alone_are_no_truth(tmp_path, small_phantom):
    assert not has_scenes(tmp_path) and not has_truth(tmp_path)
    write_scenes(pd.DataFrame({"study_id": ["a"], "scene": ["{}"]}), tmp_path)
    assert has_scenes(tmp_path) and not has_truth(tmp_path)
    write_truth(pd.DataFrame({"study_id": ["a"]}), "truth", tmp_path)
    assert has_truth(tmp_path) and has_truth(str(tmp_path))
    assert has_truth(small_phantom.folder) and not has_truth(None) and not has_scenes(None)


def test_tables_come_back_and_what_is_missing_is_said(tmp_path):
    table = pd.DataFrame({"study_id": ["a", "b"], "report_open": [-1.5, 0.0]})
    write_truth(table, "ambiguity", tmp_path)
    with pytest.raises(DataError, match="ambiguity.parquet: lacks the column report_closed"):
        read_ambiguity(tmp_path)
    (tmp_path / "ambiguity.parquet").unlink()
    table = table.assign(report_closed=0.5, image=[0.0, 2.0], wording=1.5)
    assert read_ambiguity(tmp_path) is None and read_ambiguity(None) is None
    write_truth(table, "ambiguity", tmp_path)
    pd.testing.assert_frame_equal(read_ambiguity(tmp_path), table)
    with pytest.raises(DataError, match="visibility"):
        read_truth("visibility", tmp_path)


def test_settings_come_back(tmp_path):
    assert not has_phantom_settings(tmp_path)
    settings = {"counts": {"train": 3}, "seed": 3, "size": 64}
    write_phantom_settings(settings, tmp_path)
    assert has_phantom_settings(tmp_path) and phantom_settings(tmp_path) == settings
    for wrong, said in (([], "must be names and values"), ({**settings, "seed": 1e30}, "seed must be a whole number")):
        write_phantom_settings(wrong, tmp_path)
        with pytest.raises(DataError, match=f"phantom.json: {said}"):
            phantom_settings(tmp_path)


def test_reports_are_in_the_order_asked_for():
    claims = {"a": [Assertion("edema"), Assertion("nodule", "left", low=2)], "b": [Assertion("mass", present=False)]}
    rows = [{"study_id": study, **vars(claim)} for study in ("b", "a") for claim in claims[study]]
    assert reports_of(pd.DataFrame(rows), ["a", "c", "b"]) == [claims["a"], [], claims["b"]]
