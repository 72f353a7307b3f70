"Grounding: questions from boxes, wording, mean boxes, maps of methods by loops."

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from medret_nb.data.files import DataError
from medret_nb.data.sources import from_csv
from medret_nb.data.studies import StudySet
from medret_nb.losses.region_word import region_word_scores, times_even
from medret_nb.methods.clip import CLIP
from medret_nb.methods.method import Embedding
from medret_nb.methods.rra_vl import REGIONS, RRAVL, RRAVLConfig
from medret_nb.probes.grounding import (
    MeanBoxes,
    ask_phrases,
    centre_map,
    named_places,
    painted,
    phrase_attention,
    phrase_maps,
    phrase_of,
    region_weights,
    spoken_pieces,
)
from medret_nb.probes.heat import box_mask


@pytest.mark.parametrize(
    "label,regions,words",
    [
        ("consolidation", ["right lower lung zone"], "Right lower lobe consolidation."),
        ("pleural effusion", ["left lung", "right lung"], "Bilateral pleural effusions."),
        ("Pleural Effusion", ["left lung"], "Left pleural effusion."),
        ("pneumothorax", ["right upper lung zone"], "Right apical pneumothorax."),
        ("rib fracture", ["left mid lung zone"], "Left mid rib fracture."),
        ("edema", ["right lung", "left lung"], "Pulmonary edema."),
        ("cardiomegaly", ["cardiac silhouette"], "Cardiomegaly."),
        ("central line", [], "Central line."),
        ("nodule", ["right upper lung zone", "right lower lung zone"], "Right upper lobe and right lower lobe nodule."),
        ("tumour", ["right apical zone"], "Right apical tumour."),
        ("opacity", ["mediastinum"], "Opacity in the mediastinum."),
    ],
)
def test_wording(label, regions, words):
    assert phrase_of(label, regions) == phrase_of(label, regions[::-1]) == words


def films_on_disk(folder, shapes):
    "Grey films of given (height, width), as a CSV source: studies, images, regions."
    rng = np.random.default_rng(0)
    ids = [f"f{i}" for i in range(len(shapes))]
    for name, shape in zip(ids, shapes):
        Image.fromarray(rng.integers(0, 255, shape, np.uint8)).save(folder / f"{name}.png")
    pd.DataFrame(
        {"study_id": ids, "patient_id": [f"p{i // 2}" for i in range(len(ids))], "findings": "x", "split": "test"}
    ).to_csv(folder / "studies.csv", index=False)
    pd.DataFrame({"image_id": ids, "study_id": ids, "view": "PA", "path": [f"{i}.png" for i in ids]}).to_csv(
        folder / "images.csv", index=False
    )
    return ids


@pytest.fixture(scope="module")
def odd_films(tmp_path_factory):
    "A made CSV set of films that are not square, with phrases and boxes of several kinds."
    folder = tmp_path_factory.mktemp("odd")
    films_on_disk(folder, [(40, 80), (100, 30), (64, 64), (50, 60)])
    columns = ["image_id", "region", "label", "value", "phrase", "annotation_id", "kind", "x0", "y0", "x1", "y1"]
    rows = [
        ("f0", "right lung", "effusion", 1, "", "a", "finding", 0.1, 0.5, 0.4, 0.9),
        ("f0", "left lung", "effusion", 1, "", "a", "finding", 0.6, 0.5, 0.9, 0.9),
        ("f0", "right upper lung zone", "nodule", 1, "", "b", "finding", 0.2, 0.1, 0.3, 0.2),
        ("f0", "right upper lung zone", "nodule", 1, "", "c", "finding", 0.3, 0.3, 0.4, 0.4),
        ("f0", "right lung", "", "", "", "", "anatomy", 0.0, 0.0, 0.5, 1.0),
        ("f0", "left lung", "mass", 0, "", "d", "finding", 0.6, 0.1, 0.8, 0.2),
        ("f1", "", "opacity", "", "A hazy opacity", "", "finding", 0.2, 0.2, 0.8, 0.4),
        ("f1", "", "opacity", "", "A hazy opacity", "", "finding", 0.2, 0.6, 0.8, 0.7),
        ("f1", "", "tube", -1, "", "", "finding", 0.2, 0.2, 0.8, 0.4),
        ("f2", "", "pacemaker", 1, "", "", "finding", 0.7, 0.1, 0.8, 0.3),
        ("f3", "", "pacemaker", 1, "", "", "finding", 0.6, 0.1, 0.9, 0.3),
    ]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "regions.csv", index=False)
    return from_csv(folder, folder.parent / "odd-set")


def test_questions_of_boxes(odd_films):
    pixels = odd_films.pixels(64)
    asked = ask_phrases(odd_films, pixels)
    found = {(r.image_id, r.phrase): (r.finding, r.made, len(b)) for r, b in zip(asked.table.itertuples(), asked.boxes)}
    assert found == {
        ("f0", "Bilateral effusion."): ("effusion", True, 2),
        ("f0", "Right upper lobe nodule."): ("nodule", True, 2),  # same words: one question
        ("f1", "A hazy opacity"): ("opacity", False, 2),
        ("f2", "Pacemaker."): ("pacemaker", True, 1),
        ("f3", "Pacemaker."): ("pacemaker", True, 1),
    }
    np.testing.assert_allclose(asked.content, pixels.boxes[[pixels.rows[i] for i in asked.table["image_id"]]])
    np.testing.assert_allclose(asked.content[0], [0, 0.25, 1, 0.75])
    assert asked.table["group"].nunique() == 2 and asked.elsewhere == asked.unreadable == 0


def test_films_by_rule_every_film_and_unreadable(small_phantom):
    pixels = small_phantom.pixels(64)
    one, every = ask_phrases(small_phantom, pixels), ask_phrases(small_phantom, pixels, every_image=True)
    rows = small_phantom.regions[small_phantom.regions["kind"] == "finding"]
    assert sum(map(len, every.boxes)) <= len(rows) and every.elsewhere == 0 and one.elsewhere > 0
    assert one.table.groupby("study_id")["image_id"].nunique().max() == 1
    assert set(every.table["image_id"]) == set(rows["image_id"])
    for i, row in every.table.iterrows():  # each question's boxes are those of its annotations
        mine = rows[(rows["image_id"] == row["image_id"]) & (rows["label"] == row["finding"])]
        told = [
            ids
            for ids, part in mine.groupby("annotation_id")
            if phrase_of(row["finding"], part["region"][part["region"] != ""].tolist()) == row["phrase"]
        ]
        wanted = mine[mine["annotation_id"].isin(told)][["x0", "y0", "x1", "y1"]].to_numpy()
        np.testing.assert_allclose(np.unique(wanted, axis=0), every.boxes[i])
    lost = rows["image_id"].iloc[0]
    fewer = type(pixels)(
        pixels.array, {k: v for k, v in pixels.rows.items() if k != lost}, pixels.boxes, {lost: "gone"}
    )
    assert ask_phrases(small_phantom, fewer).unreadable == (rows["image_id"] == lost).sum()
    bare = StudySet(
        small_phantom.studies, small_phantom.images, rows.iloc[:0], small_phantom.info, small_phantom.folder
    )
    with pytest.raises(DataError, match="no finding has a box"):
        ask_phrases(bare, pixels)


def test_mean_boxes_fall_back(odd_films):
    asked = ask_phrases(odd_films, odd_films.pixels(64))
    means = MeanBoxes(asked, 20)
    pace = np.mean([box_mask(b, 20, 20) for f, b in zip(asked.table["finding"], asked.boxes) if f == "pacemaker"], 0)
    table = pd.DataFrame(
        {"finding": ["pacemaker", "nodule", "unheard of"], "plain": ["Pacemaker.", "Left nodule.", "Unheard of."]}
    )
    maps = means.maps(table)
    np.testing.assert_array_equal(maps["mean box of the finding"][0], pace)
    np.testing.assert_array_equal(maps["mean box of finding and place"][0], pace)
    np.testing.assert_array_equal(maps["mean box of finding and place"][1], maps["mean box of the finding"][1])
    np.testing.assert_allclose(
        maps["mean box of the finding"][2], np.mean([box_mask(b, 20, 20) for b in asked.boxes], 0)
    )
    blob = centre_map(9)
    assert blob[4, 4] == blob.max() == 1 and np.allclose(blob, blob[::-1]) and np.allclose(blob, blob.T)


def test_patch_maps_by_a_loop(small_phantom):
    films = np.array(small_phantom.pixels(64).array[:3])
    phrases, film = ["Right pleural effusion.", "Pacemaker.", "Cardiomegaly.", "Left nodule."], np.array([2, 0, 0, 1])
    for method in (CLIP.create().train(), RRAVL.create()):
        was = method.training
        maps = phrase_maps(method, films, phrases, film)["patches"]
        assert method.training == was  # a method in training is left in training
        method.eval()
        for j, phrase in enumerate(phrases):
            with torch.no_grad():
                patches = method.encode_image(method.prepare_pixels(films[film[j] : film[j] + 1])).local["patches"][0]
                word = method.encode_text(*method.prepare_text([phrase])).mu[0]
            wanted = [[float(p @ word / p.norm() / word.norm()) for p in line] for line in patches]
            np.testing.assert_allclose(maps[j], wanted, atol=1e-5)


def test_region_maps_by_a_loop():
    torch.manual_seed(1)
    regions, words = (torch.nn.functional.normalize(torch.randn(2, n, 5), dim=-1) for n in (3, 4))
    present, mask = torch.tensor([[1, 1, 1], [1, 0, 1]]).bool(), torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).bool()
    weights = region_weights(regions, present, words, mask, 6.0)
    for b in range(2):
        here, there = present[b].nonzero()[:, 0].tolist(), mask[b].nonzero()[:, 0].tolist()
        inner = regions[b].numpy() @ words[b].numpy().T
        heed = np.exp(6 * inner[here][:, there])
        heed /= heed.sum(0)
        wanted = np.zeros(3)
        wanted[here] = heed.mean(1)
        np.testing.assert_allclose(weights[b].numpy(), wanted, rtol=1e-5)
        # the same weights make the score that training uses: log of the sum of exp(5 cos(word, attended regions))
        attended = heed.T @ regions[b].numpy()[here]
        cos = (attended * words[b].numpy()[there]).sum(1) / np.linalg.norm(attended, axis=1)
        one = slice(b, b + 1)
        scores = region_word_scores(
            regions[one], words[one], mask[one], present[one], attention_scale=6.0, shares=False
        )
        score = scores[0, 0]
        assert float(score) == pytest.approx(np.log(np.exp(5 * cos).sum()), rel=1e-4)
    assert region_weights(regions, present & False, words, mask, 6.0).abs().sum() == 0
    boxes, weight = (
        torch.tensor([[[0.1, 0.2, 0.6, 0.8], [0.5, 0.5, 1.3, 1.0], [-0.4, 0, 0.2, 0.3]]]),
        torch.tensor([[0.5, 0.3, 0.2]]),
    )
    wanted = sum(w * box_mask([b], 10, 10) for w, b in zip(weight[0].tolist(), boxes[0].clamp(0, 1).tolist()))
    np.testing.assert_allclose(painted(boxes, weight, 10)[0].numpy(), wanted, atol=1e-6)


def test_the_blob_is_a_bell():
    for cells, spread in ((5, 0.25), (8, 0.4)):
        middles = [(i + 0.5) / cells - 0.5 for i in range(cells)]
        wanted = [[np.exp(-(x * x + y * y) / (2 * spread**2)) for x in middles] for y in middles]
        np.testing.assert_allclose(centre_map(cells, spread), wanted)


def test_special_tokens_are_no_words():
    tokens, mask = torch.tensor([[2, 7, 8, 3, 0], [2, 3, 0, 0, 0]]), torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]])
    spoken = spoken_pieces(tokens, mask.bool(), [0, 2, 3])
    assert spoken.tolist() == [[False, True, True, False, False], [True, True, False, False, False]]


def test_phrases_that_name_one_zone_have_a_right_answer():
    named = [("left mid lung zone",), ("left lung",), (), ("left mid lung zone", "right mid lung zone"), ("mid zone",)]
    alone, around = (named_places(named, REGIONS, lung) for lung in (False, True))
    assert {REGIONS[m] for m in alone[0].nonzero()[0]} == {"left mid lung zone"}
    assert {REGIONS[m] for m in around[0].nonzero()[0]} == {"left mid lung zone", "left lung"}
    assert not alone[1:].any() and not around[1:].any()


class Planted(RRAVL):
    "Looks as it should: a film's regions are unit axes, and every word of a phrase is the axis of the place it names."

    def encode_image(self, pixels, boxes=None):
        seen = super().encode_image(pixels, boxes)
        axes = torch.eye(len(REGIONS), self.config.dim).expand(len(pixels), -1, -1)
        there = torch.ones(len(pixels), len(REGIONS), dtype=torch.bool)
        return Embedding(seen.mu, local=seen.local | {"regions": axes, "regions_mask": there})

    def encode_text(self, tokens, mask):
        told = super().encode_text(tokens, mask)
        axes = torch.eye(len(REGIONS), self.config.dim)
        places = []
        for row in tokens:
            said = self.tokenizer.decode(row.tolist(), skip_special_tokens=True)
            places.append(next((m for m, name in enumerate(REGIONS) if self.spoken(name) in said), 0))
        return Embedding(told.mu, local=told.local | {"words": axes[places][:, None].expand(-1, tokens.shape[1], -1)})

    def spoken(self, region):
        "How `phrase_of` names a zone for a nodule, as the tokenizer gives it back."
        pieces = self.tokenizer(phrase_of("nodule", [region]))["input_ids"]
        return self.tokenizer.decode(pieces, skip_special_tokens=True)


def test_a_planted_model_looks_at_the_zone_that_is_named(small_phantom):
    method = Planted.create(RRAVLConfig(attention_scale=40.0)).eval()
    pixels = small_phantom.pixels(64)
    zones = [name for name in REGIONS if name.endswith("zone")]
    phrases = [phrase_of("nodule", [zone]) for zone in zones]
    weights, there = phrase_attention(method, np.array(pixels.array[:2]), phrases, np.array([0, 1] * 3))
    right = named_places([(zone,) for zone in zones], REGIONS)
    np.testing.assert_allclose((weights * right).sum(1), 1, atol=1e-6)
    assert there.all() and times_even(*map(torch.from_numpy, (weights, right, there))).tolist() == pytest.approx(
        [10] * 6
    )
