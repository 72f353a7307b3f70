"""The reader of Chest ImaGenome on invented graphs and tables."""

import json
import re
import zipfile

import numpy as np
import pandas as pd
import pytest

from medret_nb.data.balanced import five_by_200
from medret_nb.data.boxes import RegionTable, finding_named
from medret_nb.data.files import DataError
from medret_nb.data.finding_names import FINDINGS
from medret_nb.data.imagenome import IMAGENOME_REGIONS, add_imagenome, graph_rows
from medret_nb.data.studies import StudySet
from medret_nb.methods.rra_vl import REGIONS

BOXES = {
    "left lung": (100, 20, 180, 160),
    "right lung": (20, 20, 95, 160),
    "cardiac silhouette": (70, 90, 140, 165),
}  # pixels of a film 200 wide, 180 high


def thing(image, name, box):
    x1, y1, x2, y2 = box
    return {
        "object_id": f"{image}_{name}",
        "bbox_name": name,
        "name": name.title(),
        "x1": 1,
        "y1": 1,
        "x2": 9,
        "y2": 9,
        "original_x1": x1,
        "original_y1": y1,
        "original_x2": x2,
        "original_y2": y2,
        "original_width": x2 - x1,
        "original_height": y2 - y1,
    }


def said(image, name, *phrases):
    return {
        "bbox_name": name,
        "object_id": f"{image}_{name}",
        name: True,
        "attributes": [labels for _, _, labels in phrases],
        "phrases": [text for _, text, _ in phrases],
        "phrase_IDs": [f"50000001|{number}" for number, _, _ in phrases],
        "sections": ["finalreport"] * len(phrases),
    }


def graph(image="f1"):
    opaque = (
        3,
        "Opacity at both\n bases.",
        ["anatomicalfinding|yes|lung opacity", "severity|yes|mild", "nlp|yes|abnormal"],
    )
    return {
        "image_id": image,
        "patient_id": 10000001,
        "study_id": 50000001,
        "objects": [thing(image, *item) for item in BOXES.items()],
        "relationships": [],
        "attributes": [
            said(image, "left lung", opaque, (4, "No effusion.", ["anatomicalfinding|no|pleural effusion"])),
            said(image, "right lung", opaque, (5, "No opacity.", ["anatomicalfinding|no|lung opacity"])),
            said(image, "left chest wall", (6, "Port.", ["device|yes|chest port"])),
        ],
    }


@pytest.fixture
def studies():
    return StudySet(
        pd.DataFrame({"study_id": ["s1", "s2"], "split": ["train", "test"]}),
        pd.DataFrame(
            {
                "image_id": ["f1", "f2", "f3"],
                "study_id": ["s1", "s1", "s2"],
                "path": ["a", "b", "c"],
                "height": [180, 180, None],
                "width": [200, 200, None],
            }
        ),
        info={"restricted": False},
    )


@pytest.fixture
def silver(tmp_path):
    folder = tmp_path / "imagenome" / "silver_dataset" / "scene_graph"
    folder.mkdir(parents=True)
    for image in ("f1", "other"):
        (folder / f"{image}_SceneGraph.json").write_text(json.dumps(graph(image)))
    return tmp_path / "imagenome"


def refusal(action, *arguments, **options):
    with pytest.raises(DataError) as caught:
        action(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_scene_graph_becomes_the_expected_rows(studies, silver, capsys):
    made = add_imagenome(studies, silver)
    found = [
        (r.image_id, r.region, r.label, None if r.value is pd.NA else r.value, r.phrase, r.annotation_id)
        for r in made.regions.itertuples()
    ]
    assert sorted(found, key=str) == sorted(
        [
            ("f1", "cardiac silhouette", "", None, "", ""),
            ("f1", "left lung", "lung opacity", 1, "Opacity at both bases.", "f1|3"),
            ("f1", "left lung", "pleural effusion", 0, "No effusion.", "f1|4"),
            ("f1", "right lung", "lung opacity", 0, "No opacity.", "f1|5"),
            ("f1", "right lung", "lung opacity", 1, "Opacity at both bases.", "f1|3"),
        ],
        key=str,
    )
    assert set(made.regions["kind"]) == {"anatomy"} and set(made.regions["source"]) == {"silver"}
    lung = made.regions[made.regions["region"] == "left lung"][["x0", "y0", "x1", "y1"]].drop_duplicates().to_numpy()
    assert np.allclose(lung, [[100 / 200, 20 / 180, 180 / 200, 160 / 180]])
    printed = capsys.readouterr().out
    assert (
        "5 rows of regions on 1 films" in printed
        and "1 of 3 films have annotations" in printed
        and "1 films have no height and width" in printed
    )
    assert all(
        f"not used: {what}" in printed
        for what in ("2 labels of the category severity", "1 labels of regions without a box")
    )
    assert (
        len(studies.regions) == 0
        and not studies.restricted
        and made.restricted
        and "Chest ImaGenome (silver)" in made.info["notes"][-1]
    )


def test_who_keeps_one_row_of_a_finding_keeps_that_it_was_seen(studies, silver):
    table = RegionTable(add_imagenome(studies, silver, quiet=True), list(REGIONS))
    boxes, mask, labels = table.take(["f1", "f2"], np.array([[0.0, 0.0, 1.0, 1.0]] * 2))
    place, opacity = REGIONS.index("right lung"), FINDINGS.index("Lung Opacity")
    assert (
        labels[0, place, opacity] == 1
        and labels[0, REGIONS.index("left lung"), FINDINGS.index("Pleural Effusion")] == 0
    )
    assert mask[0].sum() == 3 and not mask[1].any() and np.allclose(boxes[0, place], [0.1, 1 / 9, 0.475, 8 / 9])


def test_search_by_place_can_be_measured_on_them(studies, silver):
    from medret_nb.probes.location import located_findings

    found = located_findings(add_imagenome(studies, silver, quiet=True))
    assert sorted(found.itertuples(index=False, name=None)) == [
        ("s1", "lung opacity", "left lung"),
        ("s1", "lung opacity", "right lung"),
    ]


def test_names_agree_with_those_of_this_package(small_phantom):
    assert len(IMAGENOME_REGIONS) == len(set(IMAGENOME_REGIONS)) == 36
    assert set(REGIONS) <= set(IMAGENOME_REGIONS) and set(small_phantom.regions["region"]) - {""} <= set(
        IMAGENOME_REGIONS
    )
    assert [
        finding_named(name)
        for name in ("enlarged cardiac silhouette", "picc", "linear/patchy atelectasis", "scoliosis")
    ] == ["Cardiomegaly", "Support Devices", "Atelectasis", None]


def test_the_archive_reads_like_the_folder_and_twice_is_once(studies, silver, tmp_path):
    folder = silver / "silver_dataset" / "scene_graph"
    with zipfile.ZipFile(tmp_path / "scene_graph.zip", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"scene_graph/{path.name}")
    one, two, three = (
        add_imagenome(studies, place, quiet=True) for place in (silver, folder, tmp_path / "scene_graph.zip")
    )
    assert one.regions.equals(two.regions) and one.regions.equals(three.regions)
    again = add_imagenome(one, silver, quiet=True)
    assert again.regions.equals(one.regions) and again.info == one.info


def test_a_few_regions_are_enough(studies, silver, tmp_path):
    made = add_imagenome(studies, silver, regions=("left lung",), quiet=True)
    assert set(made.regions["region"]) == {"left lung"}
    made.save(tmp_path / "out")
    assert StudySet.load(tmp_path / "out").regions.equals(made.regions) and StudySet.load(tmp_path / "out").restricted
    assert len(made.split("train").regions) == 2 and not len(made.select(["s2"]).regions)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda g: g.pop("objects"), "KeyError"),
        (lambda g: g.update(attributes=None), "TypeError"),
        (lambda g: g["attributes"][0]["phrases"].pop(), "ValueError"),
        (lambda g: g["attributes"][0]["attributes"][0].append("lung opacity"), "ValueError"),
        (lambda g: g["attributes"][0]["attributes"][0].append("disease|perhaps|x"), "KeyError"),
        (lambda g: g["objects"][0].update(original_x1="left"), "ValueError"),
        (lambda g: g.update(image_id="f9"), "is about the film 'f9'"),
    ],
)
def test_what_is_no_scene_graph_is_named(studies, silver, change, words):
    path = silver / "silver_dataset/scene_graph/f1_SceneGraph.json"
    wrong = graph()
    change(wrong)
    path.write_text(json.dumps(wrong))
    said = refusal(add_imagenome, studies, silver)
    assert words in said and "f1_SceneGraph.json" in said
    for text in ("[1, 2]", "{", ""):
        path.write_text(text)
        assert "f1_SceneGraph.json" in refusal(add_imagenome, studies, silver)


def test_boxes_beside_the_film_are_counted(studies, silver, capsys):
    wrong = graph()
    wrong["objects"][0].update(original_x1=900, original_x2=950)
    wrong["objects"][1].update(original_x1=None)
    (silver / "silver_dataset/scene_graph/f1_SceneGraph.json").write_text(json.dumps(wrong))
    assert set(add_imagenome(studies, silver).regions["region"]) == {"cardiac silhouette"}
    assert "not used: 2 regions whose box is not on the film" in capsys.readouterr().out
    assert graph_rows(graph(), (180, 200), skipped=None)


def test_sources_that_hold_nothing(studies, silver, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "neither scene graphs" in refusal(add_imagenome, studies, tmp_path / "empty") and "no such file" in refusal(
        add_imagenome, studies, tmp_path / "nowhere"
    )
    (silver / "silver_dataset/scene_graph/f1_SceneGraph.json").unlink()
    assert "holds nothing about these 2 films" in refusal(add_imagenome, studies, silver)
    with pytest.raises(ValueError, match="kind: 'bronze'"):
        add_imagenome(studies, silver, "bronze")
    with pytest.raises(ValueError, match="regions: 'spleen'"):
        add_imagenome(studies, silver, regions=("spleen",))
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("../f1_SceneGraph.json", json.dumps(graph()))
    assert "leads out" in refusal(add_imagenome, studies, tmp_path / "bad.zip")


@pytest.fixture
def gold(tmp_path):
    folder = tmp_path / "imagenome" / "gold_dataset"
    folder.mkdir(parents=True)
    pd.DataFrame(
        [
            {
                "image_id": f"{image}.dcm",
                "bbox_name": name,
                "x1": 0,
                "y1": 0,
                "x2": 9,
                "y2": 9,
                **{f"original_{c}": v for c, v in zip(("x1", "y1", "x2", "y2"), box)},
            }
            for image in ("f2", "other")
            for name, box in BOXES.items()
        ]
    ).to_csv(folder / "gold_bbox_coordinate_annotations_1000images.csv", index=False)
    pd.DataFrame(
        [
            (
                "f2.dcm",
                "left lung",
                "pleural effusion",
                "anatomicalfinding",
                1,
                "Fluid on the left, none on the right.",
                "50000001|2",
            ),
            (
                "f2.dcm",
                "right lung",
                "pleural effusion",
                "anatomicalfinding",
                0,
                "Fluid on the left, none on the right.",
                "50000001|2",
            ),
            ("f2.dcm", "left lung", "abnormal", "nlp", 1, "x", "50000001|2"),
            ("f2.dcm", "left breast", "artifact", "disease", 1, "x", "50000001|3"),
        ],
        columns=["image_id", "bbox", "label_name", "categoryID", "relation", "sentence", "row_id"],
    ).to_csv(folder / "gold_object_attribute_with_coordinates.txt", sep="\t", index=False)
    return tmp_path / "imagenome"


def test_gold_tables_become_the_expected_rows(studies, gold, capsys):
    made = add_imagenome(studies, gold, "gold").regions
    found = [
        (r.image_id, r.region, r.label, None if r.value is pd.NA else r.value, r.annotation_id, r.source)
        for r in made.itertuples()
    ]
    assert found == [
        ("f2", "cardiac silhouette", "", None, "", "gold"),
        ("f2", "right lung", "pleural effusion", 0, "f2|2", "gold"),
        ("f2", "left lung", "pleural effusion", 1, "f2|2", "gold"),
    ]
    assert np.allclose(made[made["region"] == "left lung"][["x0", "y0", "x1", "y1"]], [[0.5, 1 / 9, 0.9, 8 / 9]])
    printed = capsys.readouterr().out
    assert (
        "1 of 3 films have annotations" in printed
        and "1 labels of the category nlp" in printed
        and "1 labels of regions without a box" in printed
    )


def test_silver_and_gold_stand_side_by_side(studies, silver, gold):
    made = add_imagenome(add_imagenome(studies, silver, quiet=True), gold, "gold", quiet=True)
    assert made.regions.groupby("source")["image_id"].unique().map(list).to_dict() == {"gold": ["f2"], "silver": ["f1"]}
    assert len(made.info["notes"]) == 2


def test_wrong_gold_tables_are_named(studies, gold):
    path = gold / "gold_dataset" / "gold_object_attribute_with_coordinates.txt"
    table = pd.read_csv(path, sep="\t")
    table.assign(relation="perhaps").to_csv(path, sep="\t", index=False)
    assert "row 2: relation is 'perhaps'" in refusal(add_imagenome, studies, gold, "gold")
    table.drop(columns="bbox").to_csv(path, sep="\t", index=False)
    assert "the column bbox is missing" in refusal(add_imagenome, studies, gold, "gold")
    path.unlink()
    assert "gold_object_attribute_with_coordinates.txt: not a readable table" in refusal(
        add_imagenome, studies, gold, "gold"
    )


def test_exports_of_an_annotated_set_hold_ids_only(studies, silver, tmp_path):
    """The phrases of the annotations are texts too: what is restricted says so, and five by n takes ids alone."""
    made = add_imagenome(studies, silver, quiet=True)
    made.studies["labels"] = pd.Series([{"Edema": 1}, {"Pleural Effusion": 1}], dtype=object)
    five_by_200(made, 1, split=None, out=tmp_path / "ids.csv", quiet=True)
    assert (tmp_path / "ids.csv").read_text() == "finding,study_id\nEdema,s1\nPleural Effusion,s2\n"
    assert made.overview()["restricted"] is True


@pytest.mark.parametrize(
    "change",
    [{"image_id": []}, {"image_id": 7}, {"image_id": {}}, {"objects": None}, {"objects": 3}, {"attributes": [5]}],
)
def test_a_graph_of_other_types_is_one_line(studies, silver, change):
    path = next(silver.rglob("f1_SceneGraph.json"))
    path.write_text(json.dumps(graph("f1") | change))
    with pytest.raises(DataError, match="f1_SceneGraph.json") as caught:
        add_imagenome(studies, silver)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("corner", ["9" * 400, "1e400", '"x"', "[]", "null", "NaN"])
def test_a_corner_beyond_numbers_is_one_line_or_no_box(studies, silver, corner):
    path = next(silver.rglob("f1_SceneGraph.json"))
    text = json.dumps(graph("f1"))
    path.write_text(re.sub(r'"original_x1": -?[\d.]+', f'"original_x1": {corner}', text))
    try:
        add_imagenome(studies, silver)
    except DataError as error:
        assert "f1_SceneGraph.json" in str(error) and "\n" not in str(error)
