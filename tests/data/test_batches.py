"Batches: keyed by seed, epoch and study; films and texts as the method asks; regions moved into the square."

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.data.batches import BatchMaker, plain_batches
from medret_nb.data.counters import derived_keys, key_of
from medret_nb.data.files import DataError
from medret_nb.data.finding_names import FINDINGS
from medret_nb.data.reports import section_text
from medret_nb.data.studies import StudySet
from medret_nb.data.tokens import tokenize, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer(small_phantom):
    return train_tokenizer(section_text(small_phantom, "both"), 300)


def maker(studies, tokenizer, **more):
    return BatchMaker(studies, tokenizer, **{"size": 32, **more})


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
    names = torch.tensor([key_of(made.study_ids[i]) for i in (3, 1)])
    assert torch.equal(keys, torch.stack([derived_keys(names, 6, 2, "film", v) for v in range(2)], 1))
    assert keys.dtype == torch.int64 and len(torch.cat([keys, made.batch([3, 1], 4).key]).unique()) == 8


def test_shares_of_processes_make_the_whole(small_phantom, tokenizer):
    made = maker(small_phantom, tokenizer, seed=4)
    for step, whole in enumerate(made.epoch(3, 12)):
        parts = [list(made.epoch(3, 12, rank=r, world=3))[step] for r in range(3)]
        assert torch.equal(whole.study, torch.cat([part.study for part in parts]))
        assert torch.allclose(whole.pixels, torch.cat([part.pixels for part in parts]))
        assert torch.equal(whole.tokens, torch.cat([part.tokens for part in parts]))  # and so of the same width


def test_an_epoch_visits_every_study_once_and_can_start_late(small_phantom, tokenizer):
    made = maker(small_phantom, tokenizer, augmentation=0)
    seen = torch.cat([b.study for b in made.epoch(0, 4)]).tolist()
    assert len(seen) == len(set(seen)) == len(made) // 4 * 4
    assert torch.equal(list(made.epoch(0, 4))[3].study, next(made.epoch(0, 4, start=3)).study)
    assert seen != torch.cat([b.study for b in made.epoch(1, 4)]).tolist()


def test_two_views_differ_where_the_study_has_two(small_phantom, tokenizer):
    made = maker(small_phantom, tokenizer, views=2)
    batch = made.batch(range(len(made)))
    several = torch.tensor([len(made.usable.images[s]) > 1 for s in made.study_ids])
    assert several.any() and not several.all()
    assert torch.equal(batch.view_mask[:, 1], several) and batch.view_mask[:, 0].all()
    assert not torch.equal(batch.pixels[~several][:, 0], batch.pixels[~several][:, 1])  # the same film, varied apart


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
    batch = maker(small_phantom, tokenizer).batch([0, 1]).to("meta", non_blocking=True)
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


CASES = {
    "plain": {},
    "several": dict(views=2, sections=2),
    "mixing": dict(mixing=0.5, views=2),
    "regions": dict(regions=["left lung", "cardiac silhouette"], sections=3),
}


def differences(one, other):
    "The fields of two batches that differ: real numbers by more than 1e-3, others at all; nan equals nan."
    found = []
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if a is None and b is None:
            continue
        a, b = a.cpu(), b.cpu()
        equal = torch.allclose(a, b, atol=1e-3, equal_nan=True) if a.is_floating_point() else torch.equal(a, b)
        if not equal:
            found.append(field.name)
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_batch_is_made_on_the_makers_device(small_phantom, tokenizer, device, case):
    here = maker(small_phantom, tokenizer, seed=3, **CASES[case])
    there = maker(small_phantom, tokenizer, seed=3, **CASES[case]).to(device)
    for one, other in zip(here.epoch(1, 12, start=1), there.epoch(1, 12, start=1), strict=True):
        devices = {value.device for value in vars(other).values() if value is not None}
        assert devices == {device} and differences(one, other) == []
    for films in (there.films.to(device, 0), there.films.to(device)):  # on the host, and on the card if there is one
        ahead = next(there.epoch(1, 12, start=1))
        assert films is there.films and differences(next(here.epoch(1, 12, start=1)), ahead) == []
    plain = plain_batches(there)
    assert differences(plain_batches(here).batch([4, 2]), plain.batch([4, 2])) == [] and plain.films is there.films


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("share", [0, 0.5])
@pytest.mark.parametrize("case", CASES)
def test_no_batch_waits_for_the_card_cuda(small_phantom, tokenizer, case, share):
    made = maker(small_phantom, tokenizer, **CASES[case]).to("cuda")
    made.films.to("cuda", share)
    list(made.epoch(0, 12))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        seen = [batch.pixels for epoch in (1, 2) for batch in made.epoch(epoch, 12)]
        seen.append(made.batch([3, 1, 2], 5).pixels)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(pixels.isfinite().all() for pixels in seen)


def test_the_texts_of_a_batch_are_cut_as_ever(small_phantom, tokenizer):
    made = maker(small_phantom, tokenizer, sections=3, max_words=20)
    batch = made.batch(range(len(made)), 3)
    for i, parts in enumerate(made.usable.parts):
        for s, text in enumerate(parts):
            tokens, mask, words = tokenize(tokenizer, [text], 20)
            assert torch.equal(batch.tokens[i, s][batch.mask[i, s]], tokens[0])
            assert torch.equal(batch.word_ids[i, s][batch.mask[i, s]], words[0])
        if len(parts) == 1 and made.texts.lengths[i, 0] < 20:
            assert torch.equal(*(batch.tokens[i, s].sort().values for s in (0, 1)))
    assert not torch.equal(batch.tokens, made.batch(range(len(made)), 4).tokens)


def test_all_processes_have_the_width_of_the_whole_company(small_phantom, tokenizer):
    made = maker(small_phantom, tokenizer)
    order = np.argsort(made.texts.lengths[:, 0])
    company = np.concatenate([order[:3], order[-3:]])
    parts = [made.batch(company[:3], 0, company), made.batch(company[3:], 0, company)]
    assert parts[0].tokens.shape == parts[1].tokens.shape and not parts[0].mask[..., -1].any()
    assert made.batch(company[:3]).tokens.shape[-1] == made.texts.lengths[company[:3]].max()
    fixed = maker(small_phantom, tokenizer, fixed_width=True)
    for row in (order[0], order[-1]):
        batch = fixed.batch([row])
        assert batch.tokens.shape == (1, 1, 96) and batch.mask.sum() == made.texts.lengths[row, 0]


def test_a_part_of_a_batch(small_phantom, tokenizer):
    batch = maker(small_phantom, tokenizer, views=2, mixing=0.5).batch(range(8), 1)
    part = batch.part(2, 5)
    assert len(part) == 3 and part.boxes is None and part.pixels.data_ptr() == batch.pixels[2].data_ptr()
    for field in fields(batch):
        if getattr(batch, field.name) is not None:
            whole = getattr(batch, field.name)
            assert torch.equal(torch.nan_to_num(getattr(part, field.name)), torch.nan_to_num(whole[2:5])), field.name


def test_what_no_epoch_changes_is_made_once(small_phantom, tokenizer, monkeypatch):
    made = maker(small_phantom, tokenizer, views=2, sections=2, regions=["left lung"])

    def refuse(*_, **__):
        raise AssertionError("asked again")

    for name in ("tokens.tokenize", "text_tables.tokenize", "text_tables.split_sentences", "study_draws.key_of"):
        monkeypatch.setattr(f"medret_nb.data.{name}", refuse)
    monkeypatch.setattr("medret_nb.data.boxes.RegionTable.take", refuse)
    assert len(list(made.epoch(0, 8))) == len(list(made.epoch(1, 8))) == len(made) // 8
