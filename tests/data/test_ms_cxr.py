"""The reader of MS-CXR on invented tables."""

import json

import numpy as np
import pandas as pd
import pytest

from medret_nb.data.balanced import five_by_200
from medret_nb.data.files import DataError
from medret_nb.data.ms_cxr import add_ms_cxr, read_ms_cxr
from medret_nb.data.studies import StudySet


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
    )


def refusal(action, *arguments, **options):
    with pytest.raises(DataError) as caught:
        action(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


PHRASES = [
    ("f1", "Pleural Effusion", "small effusions", 10, 120, 40, 50),
    ("f1", "Pleural Effusion", "small effusions", 120, 120, 60, 50),
    ("f1", "Edema", "mild edema", 20, 20, 150, 140),
    ("f9", "Edema", "mild edema", 1, 1, 5, 5),
    ("f2", "Pneumothorax", "air", 300, 10, 20, 20),
    ("f2", "Edema", "edema", 0, 0, 300, 90),
]


@pytest.fixture(params=["csv", "json"])
def ms_cxr(request, tmp_path):
    path = tmp_path / f"MS_CXR_Local_Alignment_v1.1.0.{request.param}"
    if request.param == "csv":
        pd.DataFrame(
            [(*row, 200, 180, "train", f"files/p10/p1/s1/{row[0]}.jpg") for row in PHRASES],
            columns=[
                "dicom_id",
                "category_name",
                "label_text",
                "x",
                "y",
                "w",
                "h",
                "image_width",
                "image_height",
                "split",
                "path",
            ],
        ).to_csv(path, index=False)
    else:
        films, kinds = sorted({row[0] for row in PHRASES}), sorted({row[1] for row in PHRASES})
        path.write_text(
            json.dumps(
                {
                    "categories": [{"id": k, "name": name} for k, name in enumerate(kinds)],
                    "images": [
                        {
                            "id": k,
                            "path": f"files/p10/p1/s1/{film}.jpg",
                            "file_name": f"{film}.jpg",
                            "width": 200,
                            "height": 180,
                        }
                        for k, film in enumerate(films)
                    ],
                    "annotations": [
                        {
                            "id": k,
                            "image_id": films.index(film),
                            "category_id": kinds.index(kind),
                            "label_text": text,
                            "bbox": [x, y, w, h],
                        }
                        for k, (film, kind, text, x, y, w, h) in enumerate(PHRASES)
                    ],
                }
            )
        )
    return path


def test_boxes_of_phrases(studies, ms_cxr, tmp_path, capsys):
    made = add_ms_cxr(studies, ms_cxr)
    r = made.regions
    assert r[["image_id", "label", "phrase", "annotation_id"]].values.tolist() == [
        ["f1", "Pleural Effusion", "small effusions", "ms-cxr|f1|0"],
        ["f1", "Pleural Effusion", "small effusions", "ms-cxr|f1|0"],
        ["f1", "Edema", "mild edema", "ms-cxr|f1|1"],
        ["f2", "Edema", "edema", "ms-cxr|f2|1"],
    ]
    assert (
        set(r["kind"]) == {"finding"}
        and set(r["source"]) == {"manual"}
        and set(r["value"]) == {1}
        and set(r["region"]) == {""}
        and made.restricted
    )
    assert np.allclose(
        r[["x0", "y0", "x1", "y1"]].to_numpy()[[0, 3]], [[0.05, 120 / 180, 0.25, 170 / 180], [0, 0, 1, 0.5]]
    )
    printed = capsys.readouterr().out
    assert "3 phrases; 1 of its films are not in this set" in printed and "1 boxes that are not on the film" in printed
    assert add_ms_cxr(made, tmp_path, quiet=True).regions.equals(r)  # the folder will do, and twice is once


def test_another_size_is_said(studies, ms_cxr, capsys):
    studies.images["height"] = pd.array([90, 180, None], "Int64")
    assert (
        np.allclose(add_ms_cxr(studies, ms_cxr).regions["y1"].iloc[0], 170 / 180)
        and "1 films are stated in another size" in capsys.readouterr().out
    )


def test_wrong_phrase_files_are_named(studies, tmp_path):
    assert "there is no MS_CXR" in refusal(add_ms_cxr, studies, tmp_path) and "no such file" in refusal(
        add_ms_cxr, studies, tmp_path / "x.csv"
    )
    path = tmp_path / "MS_CXR_Local_Alignment_v1.1.0.csv"
    head = "dicom_id,category_name,label_text,x,y,w,h,image_width,image_height\n"
    for text, words in (
        (head + "f1,Edema,a,left,0,1,1,10,10\n", "row 2: x is 'left'"),
        (head.replace("label_text", "text"), "column label_text is missing"),
        (head + "f9,Edema,a,1,0,1,1,10,10\n", "holds nothing about these 3 films"),
    ):
        path.write_text(text)
        assert words in refusal(add_ms_cxr, studies, path)
    (tmp_path / "a.json").write_text('{"images": []}')
    assert "not the COCO file" in refusal(read_ms_cxr, tmp_path / "a.json")


def test_five_by_n_of_an_annotated_set_holds_ids_only(studies, ms_cxr, tmp_path):
    """The phrases of the annotations are texts too: what is restricted says so, and five by n takes ids alone."""
    made = add_ms_cxr(studies, ms_cxr, quiet=True)
    made.studies["labels"] = pd.Series([{"Edema": 1}, {"Pleural Effusion": 1}], dtype=object)
    five_by_200(made, 1, split=None, out=tmp_path / "ids.csv", quiet=True)
    assert (tmp_path / "ids.csv").read_text() == "finding,study_id\nEdema,s1\nPleural Effusion,s2\n"
    assert made.overview()["restricted"] is True


@pytest.mark.parametrize("text", [7, None, [], {}, True])
def test_a_phrase_that_is_no_text_is_one_line(tmp_path, studies, text):
    film = {"id": 1, "file_name": "f1.jpg", "width": 200, "height": 180}
    box = {"image_id": 1, "category_id": 1, "label_text": text, "bbox": [1, 2, 3, 4]}
    path = tmp_path / "MS_CXR_Local_Alignment_v1.1.0.json"
    coco = {"images": [film], "categories": [{"id": 1, "name": "Edema"}], "annotations": [box]}
    path.write_text(json.dumps(coco))
    assert "must be texts" in refusal(add_ms_cxr, studies, path)
