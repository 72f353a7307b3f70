"The table: a name becomes a class, a run folder its method, and what is neither is refused in one line."

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.data.files import DataError, write_json
from medret_nb.data.runs import Run
from medret_nb.methods.clip import CLIP
from medret_nb.methods.table import METHODS, load_method, method_class


def test_names_become_classes():
    for name, kind in METHODS.items():
        assert method_class(name) is kind and kind.name == name
    with pytest.raises(DataError, match="method: 'clipp' is none of clip, cxr_clip"):
        method_class("clipp")


def test_a_run_comes_back_without_being_named(tmp_path):
    CLIP.create(seed=1).save_pretrained(tmp_path)
    method = load_method(tmp_path)
    assert type(method) is CLIP and not method.training


@pytest.mark.parametrize(
    "found, message",
    [
        (None, "no run, it has no config.json"),
        ([1], "must be names and values, not a list"),
        ({}, "method None is none of clip"),
        ({"method": ["clip"]}, "method must be a text, not a list"),
        ({"method": "clap"}, "method 'clap' is none of clip"),
    ],
)
def test_a_folder_that_holds_no_method_is_told(tmp_path, found, message):
    if found is not None:
        write_json(found, Run(tmp_path).config_file)
    with pytest.raises(DataError, match=message) as caught:
        load_method(tmp_path)
    assert str(tmp_path) in str(caught.value)


COMPANY = [
    "No effusion.",
    "The heart is enlarged. There is a small left pleural effusion, unchanged from the prior examination.",
    "Clear lungs, no pneumothorax, no acute osseous abnormality.",
    "Nodule",
]
made = {}


def small_method(name):
    "A new method of this name, made once, in eval mode."
    if name not in made:
        made[name] = METHODS[name].create(METHODS[name].Config(dim=16), seed=2).eval()
    return made[name]


def same(one, many, row):
    "Whether an Embedding of one item is the row of another's: points, clouds and whatever is kept of places."
    pairs = [(one.mu, many.mu), (one.logvar, many.logvar)]
    pairs += [(one.local[key], many.local[key]) for key in one.local]
    for alone, together in pairs:
        if alone is None:
            continue
        held = together[row]
        for axis, length in enumerate(alone[0].shape):
            held = held.narrow(axis, 0, length)  # words: padding behind
        if not torch.allclose(alone[0].float(), held.float(), atol=2e-5, equal_nan=True):
            return False
    return True


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=6, deadline=None)
@given(order=st.lists(st.integers(0, 3), min_size=2, max_size=5), seed=st.integers(0, 99))
def test_an_item_does_not_depend_on_its_company(name, order, seed):
    "Other films and texts in the batch, the length of the padding, the order: nothing of it reaches a vector."
    method = small_method(name)
    shape = (4, method.config.size, method.config.size)
    films = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        image = method.encode_image(method.prepare_pixels(films[order]))
        text = method.encode_text(*method.prepare_text([COMPANY[i] for i in order]))
        for row, i in enumerate(order):
            assert same(method.encode_image(method.prepare_pixels(films[i : i + 1])), image, row)
            assert same(method.encode_text(*method.prepare_text([COMPANY[i]])), text, row)
