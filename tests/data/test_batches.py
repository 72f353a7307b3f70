"Batches: keyed by seed, epoch and study; films and texts as the method asks; regions moved into the square."

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.data.batches import BatchMaker, key_of, shuffle_sentences
from medret_nb.data.files import DataError
from medret_nb.data.reports import section_text
from medret_nb.data.studies import StudySet, choose_image
from medret_nb.data.tables import FINDINGS
from medret_nb.data.tokens import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer(small_phantom):
    return train_tokenizer(section_text(small_phantom, "both"), 300)


def maker(studies, tokenizer, **more):
    return BatchMaker(studies, tokenizer, **{"size": 32, **more})


def test_keys_depend_on_their_parts_alone():
    assert key_of(0, 1, "s") == key_of(0, 1, "s") and 0 <= key_of("x") < 2**63
    assert len({key_of(s, e, f"s{i}") for s in range(3) for e in range(3) for i in range(50)}) == 450


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(st.integers(0, 40), min_size=2, max_size=8, unique=True), epoch=st.integers(0, 5))
def test_a_study_looks_the_same_in_any_batch(small_phantom, tokenizer, rows, epoch):
    made = maker(small_phantom, tokenizer, views=2, sections=2)
    together = made.batch(rows, epoch)
    for i, row in enumerate(rows):
        alone = made.batch([row], epoch)
        width = alone.tokens.shape[-1]
        assert torch.allclose(alone.pixels[0], together.pixels[i], atol=1e-6)
        assert torch.equal(alone.tokens[0], together.tokens[i, :, :width]) and not together.mask[i, :, width:].any()


def test_a_key_per_film_of_seed_epoch_study_and_view(small_phantom, tokenizer):
    made = maker(small_phantom, tokenizer, views=2, augmentation=0, seed=6)
    keys = made.batch([3, 1], 2).key
    assert keys.tolist() == [[key_of(6, 2, made.study_ids[i], "film", v) for v in range(2)] for i in (3, 1)]
    assert keys.dtype == torch.int64 and len(torch.cat([keys, made.batch([3, 1], 4).key]).unique()) == 8


def test_shares_of_processes_make_the_whole(small_phantom, tokenizer):
    made = maker(small_phantom, tokenizer, seed=4)
    for step, whole in enumerate(made.epoch(3, 12)):
        parts = [list(made.epoch(3, 12, rank=r, world=3))[step] for r in range(3)]
        assert torch.equal(whole.study, torch.cat([part.study for part in parts]))
        assert torch.allclose(whole.pixels, torch.cat([part.pixels for part in parts]))


def test_an_epoch_visits_every_study_once_and_can_start_late(small_phantom, tokenizer):
    made = maker(small_phantom, tokenizer, augmentation=0)
    seen = torch.cat([b.study for b in made.epoch(0, 4)]).tolist()
    assert len(seen) == len(set(seen)) == len(made) // 4 * 4
    assert torch.equal(list(made.epoch(0, 4))[3].study, next(made.epoch(0, 4, start=3)).study)
    assert seen != torch.cat([b.study for b in made.epoch(1, 4)]).tolist()


def test_one_view_is_the_film_that_evaluation_uses(small_phantom, tokenizer):
    made = maker(small_phantom, tokenizer)
    rule = dict(zip(*choose_image(small_phantom.images)[["study_id", "image_id"]].to_numpy().T))
    assert all(
        made.draws.films(i, epoch) == [rule[study]] for epoch in (0, 1) for i, study in enumerate(made.study_ids)
    )


def test_two_views_differ_where_the_study_has_two(small_phantom, tokenizer):
    made = maker(small_phantom, tokenizer, views=2)
    batch = made.batch(range(len(made)))
    several = torch.tensor([len(made.draws.usable.images[s]) > 1 for s in made.study_ids])
    assert several.any() and not several.all()
    assert torch.equal(batch.view_mask[:, 1], several) and batch.view_mask[:, 0].all()
    assert not torch.equal(batch.pixels[~several][:, 0], batch.pixels[~several][:, 1])  # the same film, varied apart


def test_two_sections_and_the_missing_one(small_phantom, tokenizer):
    made = maker(small_phantom, tokenizer, sections=2)
    for i, parts in enumerate(made.draws.usable.parts):
        first, second = made.draws.words(i, 0)
        if len(parts) == 2:
            assert [first, second] == parts
        else:
            assert sorted(first.split()) == sorted(second.split())


def test_shuffled_sentences_are_the_same_sentences():
    text = "One is here. Two is there. Three is gone."
    assert {tuple(sorted(shuffle_sentences(text, k).split())) for k in range(20)} == {tuple(sorted(text.split()))}
    assert len({shuffle_sentences(text, k) for k in range(40)}) == 6


def test_labels_and_groups(small_phantom, tokenizer):
    batch = maker(small_phantom, tokenizer, augmentation=0).batch(range(20))
    made = maker(small_phantom, tokenizer)
    table = small_phantom.studies.set_index("study_id")["labels"]
    for row in range(20):
        expected = [table[made.study_ids[row]].get(name) for name in FINDINGS]
        assert [None if v != v else int(v) for v in batch.labels[row].tolist()] == expected
        for other in range(20):
            same = batch.text_group[row] == batch.text_group[other]
            assert same.item() == (made.text_group[row] == made.text_group[other])


def test_regions_come_only_when_asked_for(small_phantom, tokenizer):
    names = ["left lung", "right lung", "cardiac silhouette"]
    batch = maker(small_phantom, tokenizer, regions=names, augmentation=0).batch([0, 1])
    assert batch.boxes.shape == (2, 1, 3, 4)
    assert batch.box_mask.all()
    assert batch.region_labels.shape == (2, 1, 3, len(FINDINGS))
    left = batch.boxes[:, 0, 0]
    right = batch.boxes[:, 0, 1]
    assert (left[:, 0] > right[:, 0]).all()  # the patient's left is on the film's right
    assert maker(small_phantom, tokenizer).batch([0]).boxes is None


def test_studies_that_cannot_be_used_are_counted(small_phantom, tokenizer):
    silent = small_phantom.studies.copy()
    silent.loc[0, ["findings", "impression", "note"]] = ""
    part = StudySet(silent, small_phantom.images, small_phantom.regions, small_phantom.info, small_phantom.folder)
    made, whole = maker(part, tokenizer), maker(small_phantom, tokenizer)
    had_text = bool(section_text(small_phantom, "both")[0])
    assert made.without == whole.without + had_text
    assert len(made) + made.without == len(silent)
    silent[["findings", "impression", "note"]] = ""
    with pytest.raises(DataError, match="no study has both"):
        maker(StudySet(silent, small_phantom.images, None, None, small_phantom.folder), tokenizer)


def test_moving_to_another_device(small_phantom, tokenizer):
    batch = maker(small_phantom, tokenizer).batch([0, 1]).to("meta")
    assert batch.pixels.device.type == batch.labels.device.type == "meta" and batch.boxes is None and len(batch) == 2


def test_a_section_is_numbered_by_its_sentences(small_phantom, tokenizer):
    studies = small_phantom.studies.copy()
    studies.loc[0, ["findings", "impression"]] = ["No effusion. Clear lungs.", "No acute disease."]
    studies.loc[1, ["findings", "impression"]] = ["Clear lungs. No effusion.", "Small left effusion."]
    studies.loc[2, ["findings", "impression"]] = [None, "No acute disease."]
    changed = StudySet(studies, small_phantom.images, small_phantom.regions, small_phantom.info, small_phantom.folder)
    first, second, third = maker(changed, tokenizer, sections=2).batch([0, 1, 2]).section_group.tolist()
    assert first[0] == second[0] and first[1] != second[1]  # the same findings in another order, other impressions
    assert third == [first[1], first[1]]  # a missing section repeats the other one
    alone = maker(changed, tokenizer).batch([0, 1, 2])
    assert alone.section_group.shape == (3, 1)
    for a in range(3):  # what is identical as a text has the same sentences
        for b in range(3):
            assert alone.section_group[a, 0] == alone.section_group[b, 0] or alone.text_group[a] != alone.text_group[b]


def test_mixed_films_are_the_same_on_any_number_of_processes(small_phantom, tokenizer):
    made = maker(small_phantom, tokenizer, mixing=0.5, views=2, seed=2)
    whole = next(made.epoch(1, 24))
    parts = [next(made.epoch(1, 24, rank=r, world=3)) for r in range(3)]
    for name in ("pixels", "partner", "share"):
        assert torch.allclose(getattr(whole, name), torch.cat([getattr(p, name) for p in parts]), atol=1e-6)
    assert set(whole.partner.tolist()) <= set(whole.study.tolist())
    apart = whole.partner != whole.study
    assert 4 < apart.sum() < 20 and (whole.share[~apart] == 1).all()
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    again = made.batch(whole.study[order].numpy(), 1)
    assert torch.equal(again.partner, whole.partner[order])
    assert torch.allclose(again.pixels, whole.pixels[order], atol=1e-6)


def test_a_mixed_film_is_made_of_the_two_as_each_would_be_seen(small_phantom, tokenizer):
    made, plain = maker(small_phantom, tokenizer, mixing=1.0), maker(small_phantom, tokenizer)
    mixed = made.batch(range(12), 2)
    clear = plain.batch(range(12), 2)
    low, high = torch.stack([clear.pixels, clear.pixels[mixed.partner]]).sort(0).values
    assert ((mixed.pixels >= low - 1e-5) & (mixed.pixels <= high + 1e-5)).all() and (mixed.partner != mixed.study).all()
    own = ((mixed.pixels - clear.pixels).abs() < 1e-5).flatten(1).all(1)
    assert torch.equal(own, mixed.share == 1)


def test_nothing_is_mixed_without_augmentation_alone_or_when_not_asked_for(small_phantom, tokenizer):
    assert maker(small_phantom, tokenizer).batch([0, 1]).partner is None
    assert maker(small_phantom, tokenizer, mixing=1.0, augmentation=0).batch([0, 1]).share is None
    lone = maker(small_phantom, tokenizer, mixing=1.0).batch([3])
    assert lone.partner.tolist() == [3] and lone.share.tolist() == [1]
    for wrong in (dict(mixing=1.5), dict(mixing=0.2, regions=["cardiac silhouette"])):
        with pytest.raises(ValueError, match="mixing"):
            maker(small_phantom, tokenizer, **wrong)
