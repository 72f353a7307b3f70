"Draws: functions of seed, epoch and study; the same in any order of the set, any company and on any device."

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.data.counters import derived_keys, key_of
from medret_nb.data.study_draws import StudyDraws, StudyFilms, drawn_films
from medret_nb.data.usable import usable_studies


@pytest.fixture(scope="module")
def usable(small_phantom):
    return usable_studies(small_phantom, small_phantom.pixels(32), "both")


def turned(usable, order):
    "The same studies in another order."
    made = copy.copy(usable)
    made.study_ids, made.first = ([values[i] for i in order] for values in (usable.study_ids, usable.first))
    return made


def names(draws, numbers):
    return np.array(draws.films.image_ids)[numbers].tolist()


def test_keys_are_of_seed_epoch_study_and_what_is_drawn(usable, device):
    drawn = StudyDraws(usable, 2, 2, seed=6, mixing=0).to(device).of_epoch(3)
    hashed = torch.tensor([key_of(study) for study in usable.study_ids])
    for name, what, n in (("film_keys", "film", 2), ("text_keys", "text", 2)):
        expected = torch.stack([derived_keys(hashed, 6, 3, what, i) for i in range(n)], 1)
        assert getattr(drawn, name).device == device and torch.equal(getattr(drawn, name).cpu(), expected)
    assert torch.equal(drawn.mix_keys.cpu(), derived_keys(hashed, 6, 3, "mix"))
    other = StudyDraws(usable, 2, 2, seed=6, mixing=0).of_epoch(4).film_keys
    assert len(torch.cat([drawn.film_keys.cpu(), other]).unique()) == 4 * len(usable.study_ids)


@settings(max_examples=20, deadline=None)
@given(shift=st.integers(1, 40), epoch=st.integers(0, 50), seed=st.integers(-3, 2**70))
def test_the_order_of_the_set_does_not_count(usable, shift, epoch, seed):
    n = len(usable.study_ids)
    places = np.roll(np.arange(n), shift)
    one, two = (StudyDraws(found, 2, 1, seed, 0.5) for found in (usable, turned(usable, places)))
    here, there = one.of_epoch(epoch), two.of_epoch(epoch)
    assert torch.equal(here.film_keys[places], there.film_keys)
    assert names(one, here.films[places]) == names(two, there.films)
    assert np.array_equal(one.order(epoch), places[two.order(epoch)])
    assert sorted(one.order(epoch).tolist()) == list(range(n))


@settings(max_examples=60, deadline=None)
@given(views=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), min_size=1, max_size=5), v=st.integers(2, 4))
def test_another_view_comes_before_another_film(views, v):
    counts = np.array([len(row) for row in views])
    there = np.arange(counts.max()) < counts[:, None]
    numbers, kinds = np.full((2, *there.shape), -1, np.int32)
    numbers[there], kinds[there] = np.arange(counts.sum()), np.concatenate(views)
    films = StudyFilms([], numbers, kinds, counts)
    firsts = set()
    for epoch in range(12):
        shown = drawn_films(films, derived_keys(torch.arange(len(views)), epoch), v)
        assert shown.shape == (len(views), v)
        firsts.add(int(shown[0, 0]))
        for row, mine, kind in zip(shown, numbers, kinds):
            own = mine[mine >= 0]
            view_of = dict(zip(own.tolist(), kind.tolist()))
            assert set(row) <= set(own) and len(set(row)) == min(v, len(own))
            seen = [view_of[film] for film in dict.fromkeys(row.tolist())]
            others = sum(view != seen[0] for view in view_of.values())
            assert sum(view != seen[0] for view in seen[1:]) == min(others, len(seen) - 1)
            assert row.tolist() == [row[i % len(own)] for i in range(v)]
    assert len(firsts) > 1 or counts[0] == 1


def test_one_view_is_the_film_that_evaluation_uses(usable):
    draws = StudyDraws(usable, 1, 1, 0, 0)
    assert all(names(draws, draws.of_epoch(epoch).films[:, 0]) == usable.first for epoch in (0, 1))


def test_partners_are_of_the_company_and_as_many_as_wanted(usable):
    draws = StudyDraws(usable, 1, 1, 2, 0.5)
    everyone, found = np.arange(len(usable.study_ids)), []
    for epoch in range(40):
        company = np.random.default_rng(epoch).permutation(everyone)[:9]
        partner = draws.partners(company, company, epoch)
        assert set(partner) <= set(company)
        again = np.concatenate([draws.partners(part, np.sort(company), epoch) for part in (company[:4], company[4:])])
        assert np.array_equal(partner, again)
        found.append((partner != company).mean())
        assert np.array_equal(draws.unmixed().partners(company, company, epoch), company)
        assert draws.partners(company[:1], company[:1], epoch) == company[:1]
    assert 0.4 < np.mean(found) < 0.6
    always = StudyDraws(usable, 1, 1, 2, 1.0)
    drawn = [always.partners(np.array([3]), np.array([1, 3, 5, 7]), epoch).item() for epoch in range(60)]
    assert set(drawn) == {1, 5, 7}
