"Saving: equal tensors give equal bytes, an interrupted save leaves the old weights, and what is wrong is one line."

import dataclasses
import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from medret_nb.data import files
from medret_nb.data.files import DataError, read_json, write_json
from medret_nb.data.runs import Run
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.methods.saving import check_run_name, load_weights, method_folder, read_settings, save_tensors


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "clip"
    CLIP.create(CLIPConfig(dim=24, policy="impression"), seed=3).save_pretrained(folder)
    return folder


def test_equal_tensors_give_equal_bytes(tmp_path):
    torch.manual_seed(0)
    tensors = {"b": torch.randn(3), "a": torch.randn(2, 2)}
    save_tensors(tensors, tmp_path / "one.safetensors")
    save_tensors(dict(reversed(tensors.items())), tmp_path / "two.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


def test_weights_that_do_not_fit_are_refused(tmp_path):
    file = tmp_path / "head.safetensors"
    save_tensors(nn.Linear(3, 2).state_dict(), file)
    load_weights(nn.Linear(3, 2), file)
    for module, path in ((nn.Linear(4, 2), file), (nn.Linear(3, 2), tmp_path / "none.safetensors")):
        with pytest.raises(DataError, match="the weights cannot be loaded") as caught:
            load_weights(module, path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_settings_come_back_as_their_dataclass(run):
    config = read_settings(run, "clip", CLIPConfig)
    assert isinstance(config, CLIPConfig) and config.dim == 24 and config.policy == "impression"
    with pytest.raises(DataError, match="holds a clip method, not pecm"):
        read_settings(run, "pecm", CLIPConfig)


def test_config_json_holds_the_fields_in_their_order(run):
    assert list(Run(run).config()) == [entry.name for entry in dataclasses.fields(CLIPConfig)]


@pytest.mark.parametrize(
    "found, message",
    [
        ([1], "must be names and values, not a list"),
        ({}, "holds a model of no named method, not clip"),
        ({"method": "clip", "colour": 1, "a": 2}, "unknown settings a, colour"),
        ({"method": "clip", "dim": 0}, "dim 0 is below 1"),
    ],
)
def test_settings_that_are_none_are_told_with_their_folder(tmp_path, found, message):
    write_json(found, Run(tmp_path).config_file)
    with pytest.raises(DataError, match=message) as caught:
        read_settings(tmp_path, "clip", CLIPConfig)
    assert str(tmp_path) in str(caught.value)


def test_names_that_are_no_runs(tmp_path, run):
    check_run_name(run)
    check_run_name("somebody/model")
    with pytest.raises(DataError, match="no run, it has no config.json"):
        check_run_name(tmp_path)
    for name in ("/nowhere/at/all", "./nowhere", "~nobody", "a/b/c"):
        with pytest.raises(DataError, match="there is no such folder"):
            check_run_name(name)


def test_a_name_of_the_hub_fetches_the_files_of_a_method_and_passes_what_the_hub_knows(monkeypatch, tmp_path, run):
    import huggingface_hub

    asked = {}

    def snapshot(name, **more):
        asked.update(more, name=name)
        return str(run)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert method_folder(run) == run and not asked
    assert method_folder("somebody/model", revision="main", strict=True, token=None) == run
    assert asked == {
        "name": "somebody/model",
        "allow_patterns": ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"],
        "revision": "main",
        "token": None,
    }


def test_an_interrupted_save_leaves_the_old_weights(run, monkeypatch):
    before = load_file(run / "model.safetensors")

    def full(*args, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_put", full)
    with pytest.raises(DataError, match="No space left"):
        CLIP.create(CLIPConfig(dim=16), seed=9).save_pretrained(run)
    assert all(torch.equal(v, before[k]) for k, v in load_file(run / "model.safetensors").items())
    assert not list(run.glob(".*"))
    assert CLIP.from_pretrained(run).config.dim == 24


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_run_whose_files_do_not_belong_together_is_refused(run, name, tmp_path):
    "One changed byte of the weights is another finite number: only a checksum sees it."
    run = shutil.copytree(run, tmp_path / "run")
    content = bytearray((run / name).read_bytes())
    content[-9] ^= 1
    (run / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: damaged, or not written with the files beside it"):
        CLIP.from_pretrained(run)


def test_a_run_of_before_there_were_checksums_loads(run, tmp_path):
    "What says nothing of its files is taken as it is."
    run = shutil.copytree(run, tmp_path / "run")
    settings = read_json(run / "config.json")
    assert set(settings.pop("files")) == {"model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    write_json(settings, run / "config.json")
    assert CLIP.from_pretrained(run).config.dim == settings["dim"]
