"""Cached gradients: those of the whole batch, for every method, one process or two; the loop with them end to end."""

import dataclasses
from contextlib import nullcontext

import pytest
import torch
from safetensors.torch import load_file

from medret_nb.data.batches import BatchMaker
from medret_nb.data.files import DataError
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.methods.table import METHODS
from medret_nb.training.cached import CachedGradients, statistics_unnoted
from medret_nb.training.loop import TrainConfig, fit


def gradients(method):
    found = {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
    method.zero_grad()
    return found


def doubled(batch):
    """The batch with float64 in place of float32."""
    return batch._each(lambda value: value.double() if value.dtype == torch.float32 else value)


@pytest.mark.parametrize("name", METHODS)
def test_gradients_in_parts_are_those_of_the_whole(small_phantom, name):
    method = METHODS[name].create(seed=1, image="tiny-vit" if name == "mcr" else None).double().eval()
    batch = doubled(next(BatchMaker.for_method(small_phantom.split("train"), method, seed=3).epoch(0, 12)))
    whole = method(batch)
    sum(whole.values()).backward()
    wanted = gradients(method)
    parts = CachedGradients(method, 4, nullcontext)(batch, lambda loss: loss.backward())
    found = gradients(method)
    assert set(found) == set(wanted) and set(parts) == set(whole)
    for key, value in wanted.items():
        assert torch.allclose(value, found[key], rtol=1e-9, atol=1e-9 * (1 + value.abs().max())), key
    assert all(torch.allclose(value, parts[key], atol=1e-9) for key, value in whole.items())


def test_the_second_run_draws_the_dropout_of_the_first_and_leaves_the_generator(small_phantom):
    method = CLIP.create(CLIPConfig(dim=16), seed=0).train()
    batch = next(BatchMaker.for_method(small_phantom.split("train"), method).epoch(0, 8))
    cached = CachedGradients(method, 4, nullcontext)
    torch.manual_seed(7)
    cached(batch, lambda loss: loss.backward())
    after = torch.rand(1)
    found = gradients(method)
    torch.manual_seed(7)
    halves = [method.encode_batch(batch.part(start, start + 4)) for start in (0, 4)]
    assert torch.equal(torch.rand(1), after)
    together = {name: torch.cat([half[name] for half in halves]) for name in halves[0]}
    sum(method.terms(together, batch).values()).backward()
    assert all(torch.allclose(value, found[key], atol=1e-6) for key, value in gradients(method).items())


def test_batch_norm_notes_each_film_once(small_phantom):
    method = CLIP.create(CLIPConfig(dim=16), seed=0)
    method.image_encoder.batch_statistics = True
    method.train()
    batch = next(BatchMaker.for_method(small_phantom.split("train"), method).epoch(0, 8))
    norm = next(m for m in method.modules() if isinstance(m, torch.nn.BatchNorm2d))
    before = int(norm.num_batches_tracked)
    CachedGradients(method, 4, nullcontext)(batch, lambda loss: loss.backward())
    assert int(norm.num_batches_tracked) == before + 2 and norm.track_running_stats
    with statistics_unnoted(method):
        method.image_encoder(batch.pixels[:, 0])
    assert int(norm.num_batches_tracked) == before + 2


def test_a_training_in_parts_ends_near_the_whole_one_and_resumes_bit_for_bit(small_phantom, tmp_path):
    config = TrainConfig(epochs=2, batch_size=8, seed=5, micro_batch=2, checkpoint_steps=2)

    def new():
        method = CLIP.create(CLIPConfig(dim=16), seed=0)
        for module in method.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        return method

    parts = fit(new(), small_phantom, config, tmp_path / "a", progress=False)
    whole = fit(new(), small_phantom, dataclasses.replace(config, micro_batch=0), tmp_path / "b", progress=False)
    a = parts.log["loss"].dropna().to_numpy()
    b = whole.log["loss"].dropna().to_numpy()
    assert a == pytest.approx(b, abs=1e-3)

    def plug(entry):
        if entry["step"] == 3:
            raise KeyboardInterrupt

    drops = CLIP.create(CLIPConfig(dim=16), seed=0)
    wanted = fit(drops, small_phantom, config, tmp_path / "c", progress=False)
    with pytest.raises(KeyboardInterrupt):
        fit(CLIP.create(CLIPConfig(dim=16), seed=0), small_phantom, config, tmp_path / "d", on_log=plug, progress=False)
    found = fit(CLIP.create(CLIPConfig(dim=16)), small_phantom, config, tmp_path / "d", resume=True, progress=False)
    one, two = load_file(wanted.weights_file), load_file(found.weights_file)
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_a_method_with_a_forward_of_its_own_is_refused():
    class Own(CLIP):
        def forward(self, batch):
            return {}

    with pytest.raises(DataError, match="micro_batch: clip has a forward of its own"):
        CachedGradients(Own.create(CLIPConfig(dim=16)), 4, nullcontext)


def kept_bytes(method, batch, take):
    """Bytes of different storages that wait for the backward pass, at most at one time within `take`."""
    held = {}
    most = [0]

    def pack(tensor):
        storage = tensor.untyped_storage()
        place = storage.data_ptr(), storage.nbytes()
        held[place] = held.get(place, 0) + 1
        most[0] = max(most[0], sum(size for _, size in held))
        return Kept(tensor, held, place)

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        take(batch)
    return most[0]


class Kept:
    """A tensor that waits; its bytes are free again when nobody waits any more."""

    def __init__(self, tensor, held, place):
        self.tensor, self.held, self.place = tensor, held, place

    def __del__(self):
        self.held[self.place] -= 1
        if not self.held[self.place]:
            del self.held[self.place]


def test_less_waits_for_the_backward_pass(small_phantom):
    method = CLIP.create(CLIPConfig(dim=16), image="tiny-vit", seed=0).train()
    batch = next(BatchMaker.for_method(small_phantom.split("train"), method).epoch(0, 16))
    whole = kept_bytes(method, batch, lambda b: sum(method(b).values()).backward())
    cached = CachedGradients(method, 2, nullcontext)
    parts = kept_bytes(method, batch, lambda b: cached(b, lambda loss: loss.backward()))
    assert parts < 0.5 * whole, (parts, whole)
