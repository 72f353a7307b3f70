"Spoiled films: which kinds apply to which films, clean and taken again, the same film in any company."

import numpy as np
import pytest

from medret_nb.data.studies import StudySet
from medret_nb.probes.corruptions import corrupt
from medret_nb.probes.spoiler import Spoiler


@pytest.fixture(scope="module")
def spoiler(small_phantom):
    return Spoiler(small_phantom, small_phantom.images["image_id"].tolist()[:12], 64)


def test_clean_films_are_the_stored_ones_and_can_be_taken_again(spoiler):
    every = np.arange(12)
    np.testing.assert_array_equal(spoiler.clean(every), spoiler.pixels.take(spoiler.ids))
    np.testing.assert_array_equal(spoiler.clean(every), spoiler.taken_again(every))


def test_a_film_is_spoiled_the_same_way_in_any_company(spoiler):
    every, few = np.arange(12), np.array([5, 2, 9])
    for kind in ("quantum noise", "occlusion", "dose"):
        np.testing.assert_array_equal(spoiler.films(kind, 3, every)[few], spoiler.films(kind, 3, few))
    names = [spoiler.ids[i] for i in few]
    np.testing.assert_array_equal(spoiler.films("jpeg", 4, few), corrupt(spoiler.clean(few), names, "jpeg", 4))


def test_which_kinds_apply(spoiler, small_phantom):
    assert spoiler.usable("blur")[0].tolist() == list(range(12))
    views = small_phantom.images["view"].tolist()[:12]
    at, why = spoiler.usable("supine AP")
    assert not any(views[i] == "LATERAL" for i in at) and "lying" in why
    with pytest.raises(ValueError, match="kinds: 'snow'"):
        spoiler.usable("snow")
    images = small_phantom.images.assign(path=small_phantom.image_paths()).astype({"path": str})
    bare = Spoiler(StudySet(small_phantom.studies, images, None, {}, None), spoiler.ids, 64)
    assert not len(bare.usable("dose")[0]) and "only a phantom" in bare.usable("dose")[1]
    assert not len(bare.usable("lung crop")[0])


def test_the_dose_costs_dprime_by_its_root(spoiler):
    some = np.arange(6)
    assert np.isclose(spoiler.dprime(some, "dose", 1), spoiler.dprime(some) * np.sqrt(0.1), rtol=1e-3)
