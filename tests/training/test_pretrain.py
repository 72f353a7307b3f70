"Pretraining: what is asked, that it is learned: each modality alone, and the shipped pair is what its record says."

import math
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import child_environment

from medret_nb.data.files import DataError, read_json, shipped_data
from medret_nb.methods.backbones import TINY_SIZE, load_backbone
from medret_nb.phantom.patients import sample_scenes
from medret_nb.phantom.scenes import Finding, Patient, Scene
from medret_nb.training import pretrain as module
from medret_nb.training.pretrain import (
    PretrainConfig,
    draw_films,
    guessing_cost,
    last_losses,
    pretrain,
    question_answers,
    questions_of,
    write_texts,
)

TINY = PretrainConfig(studies=30, image_steps=25, text_steps=25, batch_size=16, vocabulary=300, workers=1, seed=3)


def test_questions_of_a_scene():
    scene = Scene(
        Patient(seed=0), (Finding("nodule", "left", "upper", 1), Finding("device", "", "", 1, kind="pacemaker"))
    )
    assert {"nodule", "nodule|left", "nodule|upper", "nodule|left|upper", "nodule|1", "pacemaker"} <= questions_of(
        scene
    )
    assert questions_of(Scene(Patient(seed=0))) == set()


def test_rare_questions_are_not_asked():
    scenes = sample_scenes(300, 1)
    all_of_them, frequent = question_answers(scenes, 0.0), question_answers(scenes, 0.05)
    assert set(frequent[1]) < set(all_of_them[1]) and (frequent[0].mean(0) >= 0.05).all()
    assert frequent[0].shape == (300, len(frequent[1]))


def test_guessing_costs_the_entropy_of_the_shares():
    table = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 0], [1, 1, 1]], np.float32)
    total = 0.0
    for question in range(3):
        p = sum(float(row[question]) for row in table) / 4
        total -= p * math.log(p) + (1 - p) * math.log(1 - p)
    assert guessing_cost(table) == pytest.approx(total / 3, rel=1e-6)
    assert guessing_cost(np.zeros((4, 2), np.float32)) < 2e-5


def test_the_last_losses_are_the_last_hundredth():
    assert last_losses([5.0] * 298 + [1.0, 1.0, 2.0]) == pytest.approx(1.3333)
    assert last_losses([3.0, 2.0]) == 2.0


def test_films_and_answers_belong_together():
    films, table = draw_films(TINY, progress=False)
    scenes = sample_scenes(TINY.studies, TINY.seed)
    assert films.shape == (sum(len(s.acquisitions) for s in scenes), TINY_SIZE, TINY_SIZE) and len(table) == len(films)


def test_reports_are_of_other_patients_than_the_films():
    films = {scene.patient.seed for scene in sample_scenes(TINY.studies, TINY.seed)}
    texts = {scene.patient.seed for scene in sample_scenes(TINY.studies, TINY.seed + 1)}
    assert not films & texts and len(write_texts(TINY)) > TINY.studies


def test_a_small_pair_from_end_to_end(tmp_path):
    record = pretrain(tmp_path / "pair", TINY, progress=False)
    assert record == read_json(tmp_path / "pair" / "made_by.json")
    for kind in ("image", "text"):
        backbone = load_backbone(str(tmp_path / "pair" / kind), kind)
        assert all(torch.isfinite(v).all() for v in backbone.state_dict().values())
    assert record["image_loss"] < 1.1 * record["guessing"] and record["text_loss"] < np.log(300)
    with pytest.raises(DataError, match="holds a pair already"):
        pretrain(tmp_path / "pair", TINY)


def test_the_shipped_pair_is_what_its_record_says():
    folder = shipped_data("tiny")
    record = read_json(folder / "made_by.json")
    assert (
        record["command"] == "medret pretrain"
        and {k: record[k] for k in PretrainConfig.__dataclass_fields__} == PretrainConfig().__dict__
    )
    assert record["image_loss"] < 0.75 * record["guessing"]
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) < 5e6


def test_the_shipped_transformer_is_what_its_record_says():
    record = read_json(shipped_data("tiny/vit") / "made_by.json")
    settings = PretrainConfig(encoder="vit", batch_size=32)
    assert (
        record["command"] == "medret pretrain"
        and {k: record[k] for k in PretrainConfig.__dataclass_fields__} == settings.__dict__
    )
    assert record["image_loss"] < 0.9 * record["guessing"] and record["copying_loss"] < 0.6
    assert {p.name for p in shipped_data("tiny/vit").iterdir()} == {"config.json", "model.safetensors", "made_by.json"}


def test_a_small_transformer_is_taught_by_the_shipped_resnet(tmp_path, monkeypatch):
    chance = np.random.default_rng(0)
    films, table = (
        chance.integers(0, 256, (40, TINY_SIZE, TINY_SIZE)).astype(np.uint8),
        (chance.random((40, 6)) < 0.3).astype(np.float32),
    )
    monkeypatch.setattr(module, "draw_films", lambda config, progress: (films, table))
    record = pretrain(tmp_path / "vit", replace(TINY, encoder="vit", image_steps=6), progress=False)
    assert "text_loss" not in record and record["copying_loss"] < 1.5 and not (tmp_path / "vit" / "text").exists()
    backbone = load_backbone(str(tmp_path / "vit"), "image")
    assert backbone.config.model_type == "vit" and all(torch.isfinite(v).all() for v in backbone.state_dict().values())
    with pytest.raises(DataError, match="encoder"):
        PretrainConfig(encoder="swin")


KILLED = """
import os, sys
from medret_nb.training import pretrain as module
def stop(*given, **more):
    os.kill(os.getpid(), 9)
def moves(real, left):
    def counted(*names):
        left[0] -= 1
        real(*names) if left[0] >= 0 else stop()
    return counted
out, where = sys.argv[1:]
films, table, _ = module.np.zeros((20, 64, 64), "uint8"), module.np.eye(20, 4, dtype="float32"), 0
module.draw_films = lambda *given: (films, table)
if where == "texts":
    module.write_texts = stop
else:
    real = os.replace
    plain = module._move_out
    def begun(*given):
        os.replace = moves(real, [int(where)])
        plain(*given)
    module._move_out = begun
short = dict(studies=8, image_steps=2, text_steps=2, batch_size=4, vocabulary=300, workers=1)
module.pretrain(out, module.PretrainConfig(**short), False)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("where", ["texts", "1"])
def test_a_killed_pretraining_goes_on_or_begins_again_in_its_folder(tmp_path, where, capsys, monkeypatch):
    "Killed between the two encoders, its remains are thrown away; killed while they are moved, the moves are finished."
    out = tmp_path / "pair"
    done = subprocess.run([sys.executable, "-c", KILLED, str(out), where], env=child_environment(), capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (out / "made_by.json").exists()
    films, table = np.zeros((20, TINY_SIZE, TINY_SIZE), np.uint8), np.eye(20, 4, dtype=np.float32)
    monkeypatch.setattr(module, "draw_films", lambda config, progress: (films, table))
    short = replace(TINY, studies=8, image_steps=2, text_steps=2, batch_size=4)
    if where == "texts":
        pretrain(out, short, progress=False)
        assert "pair: a pretraining was broken off here; it begins again" in capsys.readouterr().out
    else:
        with pytest.raises(DataError, match="holds a pair already"):
            pretrain(out, short, progress=False)
    assert sorted(path.name for path in out.iterdir()) == ["image", "made_by.json", "text"]
    for kind in ("image", "text"):
        load_backbone(str(out / kind), kind)


def test_a_pretraining_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fails(config, progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "draw_films", fails)
    with pytest.raises(KeyboardInterrupt):
        pretrain(tmp_path / "pair", TINY, progress=False)
    assert not (tmp_path / "pair").exists()
    (tmp_path / "mine.txt").touch()
    with pytest.raises(DataError, match="mine.txt"):
        pretrain(tmp_path, TINY, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("encoder", ["resnet", "vit"])
def test_larger_encoders_are_taught_by_the_same_tasks(tmp_path, encoder):
    size = 32 if encoder == "resnet" else 128
    config = replace(TINY, encoder=encoder, size=size, width=2, depth=2, studies=12, image_steps=3, text_steps=3)
    pretrain(tmp_path / "pair", config, progress=False)
    image = load_backbone(str(tmp_path / "pair" / ("image" if encoder == "resnet" else "")), "image")
    tiny = load_backbone("tiny" if encoder == "resnet" else "tiny-vit", "image")
    count = {name: sum(p.numel() for p in one.parameters()) for name, one in (("large", image), ("tiny", tiny))}
    assert count["large"] > 4 * count["tiny"]
    if encoder == "vit":
        assert (image.config.patch_size, image.config.image_size) == (16, 128)
    else:
        text = load_backbone(str(tmp_path / "pair/text"), "text")
        assert text.config.hidden_size == 256 and text.config.num_hidden_layers == 4


def test_a_transformer_cuts_films_evenly():
    with pytest.raises(DataError, match="size: 60 is no multiple of 8"):
        PretrainConfig(encoder="vit", size=60)
