"The training loop: the rate, the optimiser's groups, resuming bit for bit, refusals, several processes."

import contextlib
import dataclasses
import math
import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tqdm import tqdm

from medret_nb.data.batches import BatchMaker
from medret_nb.data.files import DataError, read_json
from medret_nb.data.locks import alone_in
from medret_nb.data.runs import Run
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.methods.rra_vl import RRAVL, RRAVLConfig
from medret_nb.methods.table import METHODS, load_method
from medret_nb.training.loop import TrainConfig, Trainer, fit, learning_rate, make_optimiser, with_batch_size

UMASK = os.umask(0o022)
os.umask(UMASK)


def new(seed=0):
    return CLIP.create(CLIPConfig(dim=16), seed=seed)


def weights(run):
    return load_file(run / "model.safetensors")


@pytest.fixture(scope="module")
def run(small_phantom, tmp_path_factory):
    return fit(
        new(),
        small_phantom,
        TrainConfig(epochs=2, batch_size=8, seed=5),
        tmp_path_factory.mktemp("run") / "a",
        progress=False,
    )


def test_the_rate_follows_the_cosine_at_every_step():
    rates = [learning_rate(s, 200, 0.1) for s in range(201)]
    assert (
        rates[0] == 0
        and rates[20] == 1
        and rates[200] == pytest.approx(0, abs=1e-12)
        and rates[110] == pytest.approx(0.5)
    )
    assert all(a < b for a, b in zip(rates[:20], rates[1:21])) and all(a > b for a, b in zip(rates[20:], rates[21:]))


def test_every_parameter_is_in_exactly_one_group():
    method, config = new(), TrainConfig(lr=0.01, encoder_lr=0.1, weight_decay=0.3)
    groups = make_optimiser(method, config).param_groups
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(
        id(p) for p in method.parameters() if p.requires_grad
    )
    place = {id(p): g for g in groups for p in g["params"]}
    assert place[id(method.log_scale)]["weight_decay"] == 0 and place[id(method.image_head.weight)]["peak"] == 0.01
    assert place[id(next(method.image_encoder.parameters()))]["peak"] == pytest.approx(0.001)


def test_a_run_folder_holds_what_the_design_says(run, small_phantom):
    names = {p.name for p in run.folder.iterdir()}
    assert names == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "log.jsonl",
        "fingerprint.json",
        "checkpoints",
    }
    config, print_of = read_json(run.folder / "config.json"), read_json(run.folder / "fingerprint.json")
    assert config["method"] == "clip" and config["data_hash"] == small_phantom.hash() == print_of["data"]
    assert {"config", "code", "seed", "versions"} <= set(print_of)
    assert len(list((run.folder / "checkpoints").iterdir())) == 1


def test_the_log_has_every_step_and_every_epoch(run):
    steps = run.log["loss"].dropna()
    per_epoch = len(steps) // 2
    assert run.log.loc[steps.index, "step"].tolist() == list(range(1, 2 * per_epoch + 1))
    assert run.log["val_recall"].dropna().between(0, 1).all() and len(run.log["val_recall"].dropna()) == 2
    assert steps.tail(3).mean() < steps.head(3).mean()


def test_the_same_seed_gives_the_same_weights(run, small_phantom, tmp_path):
    again = fit(new(), small_phantom, TrainConfig(epochs=2, batch_size=8, seed=5), tmp_path / "b", progress=False)
    other = fit(new(), small_phantom, TrainConfig(epochs=2, batch_size=8, seed=6), tmp_path / "c", progress=False)
    assert all(torch.equal(v, weights(again.folder)[k]) for k, v in weights(run.folder).items())
    assert not all(torch.equal(v, weights(other.folder)[k]) for k, v in weights(run.folder).items())


def test_the_kept_weights_are_those_of_the_best_epoch(run, small_phantom):
    from medret_nb.training.loop import validate

    best = run.log["val_recall"].max()
    assert validate(load_method(run.folder), small_phantom)["recall"] == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("stop_at,every", [(1, 0), (3, 0), (6, 2), (5, 2)])
def test_an_interrupted_run_ends_in_the_same_weights(run, small_phantom, tmp_path, stop_at, every):
    config = TrainConfig(epochs=2, batch_size=8, seed=5, checkpoint_steps=every)

    def plug(entry):
        if entry["step"] == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(new(), small_phantom, config, tmp_path / "r", on_log=plug, progress=False)
    resumed = (
        fit(new(seed=99), small_phantom, config, tmp_path / "r", resume=True, progress=False)
        if (tmp_path / "r" / "checkpoints").is_dir()
        else fit(new(), small_phantom, config, tmp_path / "r", resume=True, progress=False)
    )
    assert all(torch.equal(v, weights(resumed.folder)[k]) for k, v in weights(run.folder).items())
    assert resumed.log["step"].tolist() == run.log["step"].tolist()


def test_a_log_line_that_was_cut_off_is_left_out(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert Run(tmp_path).log["step"].tolist() == [1] and Run(tmp_path / "nothing").log.empty


def test_early_stopping(small_phantom, tmp_path):
    config = TrainConfig(epochs=30, batch_size=8, lr=0.0, patience=2)
    found = fit(new(), small_phantom, config, tmp_path / "r", progress=False)
    assert found.log["epoch"].max() == 2  # nothing changes at rate 0: the first epoch stays the best


def test_a_folder_that_holds_a_run_is_not_overwritten(run, small_phantom):
    with pytest.raises(DataError, match="holds a run already"):
        fit(new(), small_phantom, TrainConfig(epochs=2, batch_size=8, seed=5), run.folder, progress=False)
    with pytest.raises(DataError, match="another config"):
        fit(new(), small_phantom, TrainConfig(epochs=3, batch_size=8, seed=5), run.folder, resume=True, progress=False)


@pytest.mark.parametrize(
    "wrong,name",
    [
        (dict(epochs=0), "epochs"),
        (dict(batch_size=-4), "batch_size"),
        (dict(lr=-1), "lr"),
        (dict(precision="half"), "precision"),
        (dict(seed=-1), "seed"),
        (dict(compile="fast"), "compile"),
        (dict(micro_batch=-1), "micro_batch"),
        (dict(log_steps=0), "log_steps"),
        (dict(device="gpu"), "device"),
    ],
)
def test_settings_that_make_no_sense_are_named(wrong, name):
    with pytest.raises(DataError, match=name):
        TrainConfig(**wrong)


def test_a_batch_larger_than_the_data_is_named(small_phantom, tmp_path):
    with pytest.raises(DataError, match="batch_size: 4096"):
        fit(new(), small_phantom, TrainConfig(batch_size=4096), tmp_path / "r", progress=False)


def test_a_loss_that_is_not_finite_stops_with_one_line(small_phantom, tmp_path):
    method = new()
    with torch.no_grad():
        method.image_head.weight.fill_(float("nan"))
    with pytest.raises(DataError, match="nan at step 1"):
        fit(method, small_phantom, TrainConfig(epochs=1, batch_size=8), tmp_path / "r", progress=False)


class Spoilt(CLIP):
    """Its loss is no number from the fifth step on."""

    calls = 0

    def objective(self, encoded, batch):
        self.calls += 1
        factor = math.nan if self.calls >= 5 else 1
        return {name: factor * value for name, value in super().objective(encoded, batch).items()}


def test_a_loss_that_is_not_finite_is_named_by_its_own_step(small_phantom, tmp_path):
    method = Spoilt.create(CLIPConfig(dim=16))
    config = TrainConfig(epochs=3, batch_size=4, log_steps=7)
    with pytest.raises(DataError, match="nan at step 5"):
        fit(method, small_phantom, config, tmp_path / "r", progress=False)
    assert Run(tmp_path / "r").log["step"].tolist() == [1, 2, 3, 4]


def test_blocks_of_any_length_and_other_devices_are_the_same_training(run, small_phantom, tmp_path):
    config = TrainConfig(epochs=2, batch_size=8, seed=5, log_steps=1, device="cpu")
    other = fit(new(), small_phantom, config, tmp_path / "r", progress=False)
    assert other.fingerprint() == run.fingerprint()
    columns = ["step", "epoch", "loss", "lr", "loss_contrast"]
    assert other.log[columns].equals(run.log[columns])
    assert all(torch.equal(v, weights(run.folder)[k]) for k, v in weights(other.folder).items())


def test_steps_before_an_interruption_are_logged(small_phantom, tmp_path):
    method = new()
    calls = []

    def interrupted(batch):
        calls.append(batch)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return CLIP.forward(method, batch)

    method.forward = interrupted
    with pytest.raises(KeyboardInterrupt):
        fit(method, small_phantom, TrainConfig(epochs=1, batch_size=4), tmp_path / "r", progress=False)
    assert Run(tmp_path / "r").log["step"].tolist() == [1, 2]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_stays_finite_in_half_precision(small_phantom, name, device):
    method = METHODS[name].create(seed=0).to(device).train()
    batch = next(BatchMaker.for_method(small_phantom.split("train"), method).to(device).epoch(0, 8))
    with torch.autocast(device.type, torch.bfloat16):
        terms = method(batch)
    sum(terms.values()).backward()
    assert all(value.dtype == torch.float32 and value.isfinite() for value in terms.values())
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)


def test_the_layers_are_recomputed_in_training_alone(small_phantom, tmp_path):
    plain = fit(new(), small_phantom, TrainConfig(epochs=1, batch_size=8), tmp_path / "a", progress=False)
    method = new()
    config = TrainConfig(epochs=1, batch_size=8, checkpointing=True)
    less = fit(method, small_phantom, config, tmp_path / "b", progress=False)
    losses = [run.log["loss"].dropna().to_numpy() for run in (plain, less)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert not any(getattr(module, "gradient_checkpointing", False) for module in method.modules())
    assert all("forward" not in vars(module) for module in method.image_encoder.modules())


@pytest.mark.slow
def test_a_compiled_training_is_the_same(small_phantom, tmp_path):
    config = TrainConfig(epochs=2, batch_size=8, compile="default")
    pair = new(), new()
    for module in [*pair[0].modules(), *pair[1].modules()]:
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # a compiler draws its own
    plain = fit(pair[0], small_phantom, dataclasses.replace(config, compile="no"), tmp_path / "a", progress=False)
    method = pair[1]
    fast = fit(method, small_phantom, config, tmp_path / "b", progress=False)
    losses = [run.log["loss"].dropna().to_numpy() for run in (plain, fast)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
    assert set(weights(fast.folder)) == set(weights(plain.folder)) and load_method(fast.folder)
    assert method.image_encoder._compiled_call_impl is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("how", [dict(), dict(precision="tf32"), dict(precision="fp16"), dict(compile="graphs")])
def test_no_step_waits_for_the_card_on_cuda(small_phantom, tmp_path, how):
    method = new()
    config = TrainConfig(epochs=6, batch_size=8, device="cuda", **how)
    maker = BatchMaker.for_method(small_phantom.split("train"), method)
    trainer = Trainer(method, small_phantom, config, Run(tmp_path), maker, None, False)
    bar = tqdm(disable=True)
    for epoch in range(2):  # compiles, records
        trainer.train_epoch(epoch, bar)
    batches = list(maker.epoch(3, 8))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[:3]:
            trainer.note(3, *trainer.step(batch))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    trainer.log_block(bar)
    trainer.close()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("how", [dict(), dict(precision="fp16"), dict(micro_batch=4)])
def test_an_interrupted_training_resumes_on_cuda(small_phantom, tmp_path, how):
    config = TrainConfig(epochs=2, batch_size=8, device="cuda", checkpoint_steps=2, **how)

    def plug(entry):
        if entry["step"] == 3:
            raise KeyboardInterrupt

    whole = fit(new(), small_phantom, config, tmp_path / "a", progress=False)
    with pytest.raises(KeyboardInterrupt):
        fit(new(), small_phantom, config, tmp_path / "b", on_log=plug, progress=False)
    again = fit(new(seed=9), small_phantom, config, tmp_path / "b", resume=True, progress=False)
    for key, value in weights(whole.folder).items():
        assert torch.allclose(value, weights(again.folder)[key], atol=1e-5), key


def test_accumulating_gradients_runs(small_phantom, tmp_path):
    found = fit(new(), small_phantom, TrainConfig(epochs=1, batch_size=4, accumulate=2), tmp_path / "r", progress=False)
    assert np.isfinite(found.log["loss"].dropna()).all()


@pytest.mark.parametrize("stop_at,every", [(3, 0), (6, 0), (7, 1), (3, 2)])
def test_a_run_interrupted_while_it_adds_up_ends_in_the_same_weights(small_phantom, tmp_path, stop_at, every):
    "Epochs of four batches, steps of the optimiser after three and four: 3 1 | 3 1."
    config = TrainConfig(epochs=2, batch_size=8, seed=5, accumulate=3, checkpoint_steps=every, log_steps=1)

    def plug(entry):
        if entry["step"] == stop_at:
            raise KeyboardInterrupt

    whole = fit(new(), small_phantom, config, tmp_path / "whole", progress=False)
    assert whole.log["loss"].notna().sum() == 8
    with pytest.raises(KeyboardInterrupt):
        fit(new(), small_phantom, config, tmp_path / "r", on_log=plug, progress=False)
    kept = [int(path.name[5:]) for path in (tmp_path / "r" / "checkpoints").glob("step-*")]
    assert all(step % 4 in (0, 3) for step in kept)  # never between two steps of the optimiser
    fit(new(seed=99 if kept else 0), small_phantom, config, tmp_path / "r", resume=True, progress=False)
    for key, value in weights(whole.folder).items():
        assert torch.equal(value, weights(tmp_path / "r")[key]), key


def test_the_last_step_of_an_epoch_has_the_mean_of_its_batches(small_phantom, tmp_path, monkeypatch):
    "At rate 0 nothing changes, so its only batch has the gradient that it has by itself."
    norms = []
    clip = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *a, **k: norms.append(clip(*a, **k)) or norms[-1])
    for accumulate in (1, 3):
        config = TrainConfig(epochs=1, batch_size=8, seed=5, lr=0.0, accumulate=accumulate)
        fit(new(), small_phantom, config, tmp_path / str(accumulate), progress=False)
    *apart, last, together, short = norms
    assert len(apart) == 3 and together < sum(apart) / 3 + 1e-4
    assert short == pytest.approx(last.item(), rel=1e-4)


def test_bf16_runs_and_stays_close(small_phantom, tmp_path):
    config = TrainConfig(epochs=1, batch_size=8, seed=5)
    full = fit(new(), small_phantom, config, tmp_path / "full", progress=False)
    half = fit(new(), small_phantom, dataclasses.replace(config, precision="bf16"), tmp_path / "half", progress=False)
    a, b = full.log["loss"].dropna().to_numpy(), half.log["loss"].dropna().to_numpy()
    assert 0 < np.abs(a - b).max() < 0.1


class Counting(CLIP):
    "Keeps in a buffer what `finish` was given."

    name = "clip"

    def __init__(self, config, tokenizer):
        super().__init__(config, tokenizer)
        self.register_buffer("seen", torch.zeros(3))
        self.calls = []

    def finish(self, batches):
        batches = list(batches)
        self.calls.append(self.training)
        self.seen.copy_(
            torch.stack(
                [
                    torch.tensor(float(sum(len(b) for b in batches))),
                    batches[0].pixels.mean(),
                    self.image_head.weight.sum(),
                ]
            )
        )


def test_finish_gets_plain_training_batches_once_at_the_end_and_is_saved(small_phantom, tmp_path):
    def start():
        return Counting.create(CLIPConfig(dim=16))

    config = TrainConfig(epochs=2, batch_size=8, seed=5)
    first = start()
    run = fit(first, small_phantom, config, tmp_path / "a", progress=False)
    plain = list(BatchMaker.for_method(small_phantom.split("train"), first, seed=5, augmentation=0).epoch(0, 8))
    saved = weights(run.folder)
    assert first.calls == [False] and saved["seen"][0] == 8 * len(plain) and saved["seen"][1] == plain[0].pixels.mean()
    assert torch.equal(saved["seen"][2], saved["image_head.weight"].sum())  # of the best weights, not of the last
    second = start()

    def unplug(batches):
        raise KeyboardInterrupt

    second.finish = unplug
    with pytest.raises(KeyboardInterrupt):
        fit(second, small_phantom, config, tmp_path / "b", progress=False)
    again = fit(start(), small_phantom, config, tmp_path / "b", resume=True, progress=False)
    assert all(torch.equal(v, weights(again.folder)[k]) for k, v in saved.items())


def test_a_batch_size_that_was_not_given_fits_the_set():
    sizes = {
        usable: with_batch_size(TrainConfig(), usable).batch_size
        for usable in (2, 3, 4, 20, 56, 63, 64, 100, 128, 5000)
    }
    assert sizes == {2: 2, 3: 2, 4: 2, 20: 8, 56: 16, 63: 16, 64: 64, 100: 64, 128: 64, 5000: 64}
    assert with_batch_size(TrainConfig(batch_size=48), 56).batch_size == 48


@pytest.mark.parametrize(
    "config, words",
    [
        (dict(batch_size=4096), "batch_size: 4096 is more than the .* give a smaller --batch-size"),
        (dict(batch_size=1), "two studies to tell apart"),
        (dict(batch_size=8, accumulate=1000), "accumulate: 1000 is more than the"),
        (dict(batch_size=8, micro_batch=3), "micro_batch: 3 does not divide the batch of 8"),
        (dict(batch_size=8, device="cpu", precision="fp16"), "precision: fp16 needs a CUDA card"),
        (dict(batch_size=8, device="cpu", compile="graphs"), "compile: graphs are recorded on a CUDA card"),
    ],
)
def test_what_does_not_fit_leaves_no_folder(small_phantom, tmp_path, config, words):
    with pytest.raises(DataError, match=words):
        fit(new(), small_phantom, TrainConfig(**config), tmp_path / "a" / "r", progress=False)
    assert list(tmp_path.iterdir()) == []


def part(studies, *splits):
    "The studies of some splits, as a set that has no others."
    return studies.select(studies.studies.loc[studies.studies["split"].isin(splits), "study_id"])


def test_without_val_the_last_epoch_is_kept_and_said(small_phantom, tmp_path, capsys):
    config = TrainConfig(epochs=2, batch_size=8, patience=1)
    found = fit(new(), part(small_phantom, "train"), config, tmp_path / "r", progress=False)
    said = capsys.readouterr().out
    assert "no study is in val: the weights of the last epoch are kept, and there is nothing that patience" in said
    assert "batch size" not in said
    assert found.has_model and found.log["epoch"].max() == 1 and "val_recall" not in found.log
    last = load_file(max(found.checkpoints_folder.iterdir()) / "model.safetensors")
    assert all(torch.equal(value, weights(found.folder)[name]) for name, value in last.items())
    again = fit(new(), part(small_phantom, "train"), config, tmp_path / "r", resume=True, progress=False)
    assert len(again.log) == len(found.log)


def test_without_test_a_set_trains_and_without_train_it_is_refused(small_phantom, tmp_path):
    config = TrainConfig(epochs=1, batch_size=8)
    assert fit(new(), part(small_phantom, "train", "val"), config, tmp_path / "r", progress=False).has_model
    with pytest.raises(DataError, match="the split 'train' has no studies"):
        fit(new(), part(small_phantom, "val", "test"), config, tmp_path / "s", progress=False)
    assert not (tmp_path / "s").exists()


def test_only_one_trains_in_a_folder(small_phantom, tmp_path):
    config = TrainConfig(epochs=1, batch_size=8)
    for resume in (False, True):
        with alone_in(tmp_path / "r"), pytest.raises(DataError, match="another process is working"):
            fit(new(), small_phantom, config, tmp_path / "r", resume=resume, progress=False)
    second = []

    def meanwhile(entry):
        if not second:
            second.append(pytest.raises(DataError, fit, new(), small_phantom, config, tmp_path / "r", resume=True))

    fit(new(), small_phantom, config, tmp_path / "r", on_log=meanwhile, progress=False)
    assert "another process is working" in str(second[0].value)
    assert not list((tmp_path / "r").glob(".*"))


def test_a_failed_first_step_does_not_block_the_folder(small_phantom, tmp_path):
    spoilt = new()
    with torch.no_grad():
        spoilt.image_head.weight.fill_(float("nan"))
    for error, method, config in (
        ("nan at step 1; a smaller lr may help$", spoilt, TrainConfig(epochs=1, batch_size=8)),
        (None, new(), TrainConfig(epochs=1, batch_size=16)),  # restarted, with other settings even
    ):
        if error:
            with pytest.raises(DataError, match=error):
                fit(method, small_phantom, config, tmp_path / "r", progress=False)
        else:
            found = fit(method, small_phantom, config, tmp_path / "r", progress=False)
            assert found.log["step"].min() == 1 and found.fingerprint()["training"]["batch_size"] == 16


def test_a_later_loss_that_is_not_finite_says_what_is_kept(small_phantom, tmp_path):
    method = new()

    def spoil(entry):
        if "val_recall" in entry:
            with torch.no_grad():
                method.image_head.weight.fill_(float("nan"))

    with pytest.raises(DataError, match="the best model until then is kept, so take another folder"):
        fit(method, small_phantom, TrainConfig(epochs=2, batch_size=8), tmp_path / "r", on_log=spoil, progress=False)


def test_the_folder_that_training_starts_from_is_not_destroyed(small_phantom, tmp_path):
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    for resume in (False, True):
        with pytest.raises(DataError, match="bert: holds other files"):
            fit(new(), small_phantom, TrainConfig(batch_size=8), folder, resume=resume, progress=False)
    assert (folder / "config.json").read_text() == "{}" and (folder / "model.safetensors").read_bytes() == b"weights"


@pytest.mark.skipif(os.name != "posix", reason="rights as POSIX has them")
def test_all_files_of_a_run_have_the_rights_that_the_umask_gives(run):
    wanted = 0o666 & ~UMASK
    files = [path for path in run.folder.rglob("*") if path.is_file()]
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in files} == {path.name: oct(wanted) for path in files}


class Mixing(Counting):
    mixing = 1.0


def test_finish_gets_no_mixed_films(small_phantom, tmp_path):
    method = Mixing.create(CLIPConfig(dim=16))
    given = []
    method.finish = lambda batches: given.extend(batches)
    fit(method, small_phantom, TrainConfig(epochs=1, batch_size=8), tmp_path / "r", progress=False)
    assert given and all(batch.partner is None for batch in given)
    plain = BatchMaker.for_method(small_phantom.split("train"), new(), seed=0, augmentation=0).epoch(0, 8)
    assert all(torch.equal(one.pixels, other.pixels) for one, other in zip(given, plain))


@pytest.fixture(scope="module")
def staged(small_phantom, tmp_path_factory):
    "Two epochs of RRA-VL, of which the first is its first stage, and the weights as each epoch left them."
    folder = tmp_path_factory.mktemp("staged") / "a"
    left = []

    def note(entry):
        if "val_recall" in entry:
            left.append({name: value.clone() for name, value in method.state_dict().items()})

    method = RRAVL.create(RRAVLConfig(dim=16, stages="frozen"), seed=1)
    return fit(method, small_phantom, TrainConfig(epochs=2, batch_size=8, seed=5), folder, on_log=note), left


def test_a_training_in_two_stages_keeps_no_weights_of_the_first(staged):
    run, left = staged
    first, second = (run.log[run.log["epoch"] == epoch] for epoch in (0, 1))
    assert first["loss_whole"].isna().all() and second["loss_whole"].dropna().size == second["loss"].dropna().size
    changed = {name for name in left[0] if not torch.equal(left[0][name], left[1][name])}
    assert not any("_encoder." in name for name in changed) and "image_head.weight" in changed
    kept = weights(run.folder)
    assert all(torch.equal(kept[name], left[1][name]) for name in kept), "those of the second, whatever the recall"


def test_a_training_in_two_stages_goes_on_in_its_second(staged, small_phantom, tmp_path):
    run, _ = staged
    half = (run.log["epoch"] == 0).sum()

    def stop(entry):
        if entry["step"] == half + 1:
            raise KeyboardInterrupt

    config = TrainConfig(epochs=2, batch_size=8, seed=5, log_steps=1)
    for on_log in (stop, None):
        method = RRAVL.create(RRAVLConfig(dim=16, stages="frozen"), seed=1)
        with pytest.raises(KeyboardInterrupt) if on_log else contextlib.nullcontext():
            fit(method, small_phantom, config, tmp_path / "b", resume=True, on_log=on_log, progress=False)
    again = weights(tmp_path / "b")
    assert all(torch.equal(value, again[name]) for name, value in weights(run.folder).items())
