"""One fact changed and asked again: ranks against a loop, the smallest change that helps."""

import numpy as np
import pytest
from PIL import Image

from medret_nb.data.files import DataError
from medret_nb.data.reports import section_text, text_groups
from medret_nb.failures.counterfactuals import Asker, smallest
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.phantom.changes import film_changes
from medret_nb.phantom.rendering import render
from medret_nb.retrieval.embeddings import embed


@pytest.fixture(scope="module")
def asker(small_phantom):
    method = CLIP.create(CLIPConfig(dim=8, data=str(small_phantom.folder)))
    points = embed(method, small_phantom, None, progress=False)
    return Asker(method, small_phantom, points["image"], points["text"])


def test_unchanged_films_are_the_stored_ones(asker, small_phantom):
    pixels = small_phantom.pixels(64)
    films = asker.gallery["text-to-image"]
    for row in range(4):
        scene = film_changes(asker.truth.scenes[row], asker.views[films.study_ids[row]])[0].scene
        again = render(scene, scene.acquisitions[0], asker.truth.config["size"])
        np.testing.assert_array_equal(again, pixels.take([films.ids[row]])[0])


@pytest.mark.parametrize("direction", ["image-to-text", "text-to-image"])
def test_ranks_are_those_of_a_loop(asker, direction):
    points = {d: asker.gallery[d] for d in asker.gallery}
    study = points["image-to-text"].study_ids[3]
    asked = asker.ask(study, direction)
    other = "text-to-image" if direction == "image-to-text" else "image-to-text"
    mine = points[other].mu[list(points[other].study_ids).index(study)]
    scores = points[direction].mu @ mine
    groups = text_groups(section_text(asker.table, asker.policy))
    places = [asker.place[one] for one in points[direction].study_ids]
    right = groups[places] == groups[asker.place[study]]
    above = (scores > scores[right].max() + 1e-6).sum()
    assert asked[0]["name"] == "as it is"
    assert asked[0]["rank"] == pytest.approx(1 + above, abs=0.51)
    assert len({a["name"] for a in asked}) > 3
    assert all(1 <= a["rank"] <= len(scores) and a["first"] in asker.place for a in asked)
    with pytest.raises(DataError, match="study nobody"):
        asker.ask("nobody", direction)


def test_the_smallest_that_helps():
    def case(*pairs):
        return [{"name": f"{c}{r}", "cost": c, "rank": r} for c, r in pairs]

    assert smallest(case((0, 14), (3, 1), (1, 1), (2, 1)))["cost"] == 1
    assert smallest(case((0, 1), (1, 3))) is None
    assert smallest([]) is None


def test_a_film_of_an_older_renderer_is_told(asker, tmp_path):
    study = asker.gallery["text-to-image"].study_ids[0]
    image = asker.shown[study]
    kept = dict(asker.paths)
    old = np.asarray(Image.open(kept[image])).copy()
    old[0, 0] ^= 1
    Image.fromarray(old).save(tmp_path / "old.png")
    try:
        asker.paths[image] = tmp_path / "old.png"
        assert asker.ask(study)[0]["name"] == "as it is, drawn anew"
    finally:
        asker.paths.update(kept)
    assert asker.ask(study)[0]["name"] == "as it is"
