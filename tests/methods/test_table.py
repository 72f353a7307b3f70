"The table: a name becomes a class, a run folder its method, and what is neither is refused in one line."

import pytest

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
        ([1], "does not describe a method"),
        ({}, "method None is none of clip"),
        ({"method": ["clip"]}, r"method \['clip'\] is none of clip"),
        ({"method": "clap"}, "method 'clap' is none of clip"),
    ],
)
def test_a_folder_that_holds_no_method_is_told(tmp_path, found, message):
    if found is not None:
        write_json(found, Run(tmp_path).config_file)
    with pytest.raises(DataError, match=message) as caught:
        load_method(tmp_path)
    assert str(tmp_path) in str(caught.value)
