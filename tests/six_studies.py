"""A small collection that several tests read."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from medret_nb.data.studies import StudySet


def collection(folder: Path, films: int = 6) -> StudySet:
    """Six studies of three patients, films of different brightness in `folder`."""
    studies = pd.DataFrame(
        {
            "study_id": [f"s{i}" for i in range(6)],
            "patient_id": [f"p{i // 2}" for i in range(6)],
            "split": ["train"] * 4 + ["test"] * 2,
            "findings": ["Clear lungs.", "clear LUNGS", "", "Effusion.", "Clear lungs", "XXXX nodule"],
            "note": ["", "", "A note.", "", "x", ""],
            "labels": ["No Finding", "No Finding", "", "Pleural Effusion;Edema=-1", "No Finding", {"Lung Lesion": 1}],
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(films):
        Image.fromarray(np.full((30, 20), 40 + i * 20, np.uint8)).save(folder / f"{i}.png")
    images = pd.DataFrame(
        {
            "image_id": [f"i{i}" for i in range(films)],
            "study_id": [f"s{i % 5}" for i in range(films)],
            "path": [f"{i}.png" for i in range(films)],
            "view": ["PA"] * 5 + ["LATERAL"] * (films - 5),
        }
    )
    regions = pd.DataFrame(
        {"image_id": ["i0"], "region": ["heart"], "x0": [0.2], "y0": [0.2], "x1": [0.8], "y1": [0.8], "value": [1]}
    )
    return StudySet(studies, images, regions, {"name": "six", "restricted": True}, folder)
