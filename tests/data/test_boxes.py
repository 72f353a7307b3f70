"Boxes of regions: arrays of one shape, moved into the square; findings known by any of their names."

from types import SimpleNamespace

import numpy as np
import pandas as pd

from medret_nb.data.boxes import RegionTable, finding_named
from medret_nb.data.finding_names import FINDINGS

ROW = {"image_id": "i", "region": "left lung", "label": None, "value": None, "kind": "anatomy"}
ROW |= {"x0": 0.5, "y0": 0.0, "x1": 1.0, "y1": 0.5}


def table_of(*rows, names=("right lung", "left lung")):
    """A table of regions of rows like `ROW`, with some values changed."""
    regions = pd.DataFrame([ROW | row for row in rows])
    regions["value"] = regions["value"].astype("Int64")
    return RegionTable(SimpleNamespace(regions=regions), list(names))


def test_boxes_move_with_the_letterbox():
    wide = np.array([[0.0, 0.25, 1.0, 0.75]] * 2)  # a film twice as wide as high
    boxes, mask, _ = table_of({}).take(["i", "other"], wide)
    assert mask.tolist() == [[False, True], [False, False]]
    assert boxes[0, 1].tolist() == [0.5, 0.25, 1.0, 0.5]


def test_a_finding_marks_its_region_with_its_state():
    found = {"kind": "finding", "label": "mass"}
    table = table_of({}, found, found | {"label": "Edema", "value": 0}, found | {"label": "picc", "value": -1})
    _, mask, labels = table.take(["i"], np.array([[0.0, 0.0, 1.0, 1.0]]))
    assert mask.tolist() == [[False, True]]
    told = {FINDINGS[f]: labels[0, 1, f] for f in np.flatnonzero(~np.isnan(labels[0, 1]))}
    assert told == {"Lung Lesion": 1, "Edema": 0, "Support Devices": -1}  # a finding without a value is there
    assert np.isnan(labels[0, 0]).all()


def test_what_was_found_at_a_region_under_any_of_its_names(small_phantom):
    written = ("Edema", "pleural effusion", "mass", "pacemaker", "goitre", "", None, float("nan"))
    expected = ["Edema", "Pleural Effusion", "Lung Lesion", "Support Devices", None, None, None, None]
    assert [finding_named(label) for label in written] == expected
    names = ["right lung", "left lower lung zone"]
    table = RegionTable(small_phantom, names)
    told = small_phantom.regions[small_phantom.regions["kind"] == "finding"]
    ids = small_phantom.images["image_id"].tolist()
    labels = table.take(ids, np.array([[0.0, 0.0, 1.0, 1.0]] * len(ids)))[2]
    wanted = {(row.image_id, row.region, finding_named(row.label)) for row in told.itertuples() if row.region in names}
    found = {(ids[i], names[r], FINDINGS[f]) for i, r, f in np.argwhere(labels == 1)}
    assert found == wanted
    assert wanted
