"""Recomputed layers and compiled encoders: the same numbers and names, and both gone afterwards."""

import copy

import pytest
import torch
from torch import nn

from medret_nb.data.batches import BatchMaker
from medret_nb.data.files import DataError
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.methods.encoder_modes import (
    compiler_in_a_line,
    compiling,
    encoders_of,
    recomputing,
    stages_of,
    statistics_kept,
    uncompiled,
)
from medret_nb.methods.table import METHODS


def gradients(method, batch):
    torch.manual_seed(4)  # the same dropout
    terms = method(batch)
    sum(terms.values()).backward()
    found = {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
    method.zero_grad()
    return found


def kept_bytes(method, batch):
    """Bytes of the storages that wait for the backward pass; all are held, so that no place is given twice."""
    storages = {}
    held = []

    def note(tensor):
        held.append(tensor)
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        terms = method(batch)
    del terms
    return sum(storages.values())


@pytest.mark.parametrize(
    "name,image", [("clip", "tiny-vit"), ("clip", "tiny"), ("mcr", "tiny-vit"), ("rra_vl", "tiny")]
)
def test_recomputing_keeps_gradients_and_dropout_and_saves_memory(small_phantom, name, image):
    method = METHODS[name].create(image=image, seed=0).train()
    batch = next(BatchMaker.for_method(small_phantom.split("train"), method).epoch(0, 8))
    names = list(method.state_dict())
    wanted, whole = gradients(method, batch), kept_bytes(method, batch)
    with recomputing(method.image_encoder.backbone), recomputing(method.text_encoder.backbone):
        assert list(method.state_dict()) == names
        found, less = gradients(method, batch), kept_bytes(method, batch)
    assert set(found) == set(wanted)
    for key, value in wanted.items():
        assert torch.allclose(value, found[key], atol=1e-6 * (1 + value.abs().max())), key
    assert less < 0.75 * whole
    assert kept_bytes(method, batch) == pytest.approx(whole, rel=0.01)  # and it ends
    copy.deepcopy(method)


def test_recomputing_notes_each_film_once_in_batch_norms_statistics(small_phantom):
    plain = METHODS["clip"].create(image="tiny", seed=0)
    plain.image_encoder.batch_statistics = True
    plain.train()
    method = copy.deepcopy(plain)
    before = {name: buffer.clone() for name, buffer in method.named_buffers() if "running" in name}
    batch = next(BatchMaker.for_method(small_phantom.split("train"), method).epoch(0, 8))
    gradients(plain, batch)
    with recomputing(method.image_encoder.backbone):
        gradients(method, batch)
        method.eval()
        method(batch)  # notes nothing, as always
    found, wanted = dict(method.named_buffers()), dict(plain.named_buffers())
    assert before and all(not torch.equal(found[name], buffer) for name, buffer in before.items())
    assert all(torch.equal(found[name], buffer) for name, buffer in wanted.items())


def test_kept_statistics_are_the_same_tensors():
    norm = nn.BatchNorm1d(2)
    mean, count = norm.running_mean, norm.num_batches_tracked
    with pytest.raises(ZeroDivisionError), statistics_kept(norm):
        norm(torch.rand(4, 2))
        assert norm.num_batches_tracked == 1
        raise ZeroDivisionError
    assert norm.running_mean is mean and norm.num_batches_tracked is count and count == 0 and not mean.any()


def test_what_has_no_layers_is_refused():
    assert stages_of(nn.Linear(2, 2)) is None
    with pytest.raises(DataError, match="checkpointing: Linear has no list of layers"), recomputing(nn.Linear(2, 2)):
        pass


def test_an_error_of_the_compiler_is_a_line_and_others_stay():
    line = r"^compile: clip cannot be compiled here \(no such thing\); --compile no goes"
    with pytest.raises(DataError, match=line), compiler_in_a_line("clip"):
        raise torch._dynamo.exc.Unsupported("no such thing\nand a page of it")
    with pytest.raises(ZeroDivisionError), compiler_in_a_line("clip"):
        raise ZeroDivisionError


def test_compiling_ends_and_can_be_left_for_a_while():
    method = CLIP.create(CLIPConfig(dim=16))
    with compiling(method, "graphs"):
        assert all(encoder._compiled_call_impl is not None and encoder.recorded for encoder in encoders_of(method))
        with uncompiled(method):
            assert all(encoder._compiled_call_impl is None for encoder in encoders_of(method))
        assert all(encoder._compiled_call_impl is not None for encoder in encoders_of(method))
    assert all(encoder._compiled_call_impl is None and not encoder.recorded for encoder in encoders_of(method))
    with compiling(method, "no"):
        assert all(encoder._compiled_call_impl is None for encoder in encoders_of(method))


@pytest.mark.slow
def test_a_compiled_method_gives_the_same(small_phantom):
    method = METHODS["rra_vl"].create(seed=0).eval()
    batches = BatchMaker.for_method(small_phantom.split("train"), method).epoch(0, 4)
    pair = [next(batches), next(batches)]  # of two widths
    names = list(method.state_dict())
    wanted = [gradients(method, batch) for batch in pair]
    with compiling(method, "default"):
        found = [gradients(method, batch) for batch in pair]
        assert list(method.state_dict()) == names
    for one, two in zip(wanted, found, strict=True):
        assert set(one) == set(two)
        assert all(torch.allclose(value, two[key], atol=1e-5) for key, value in one.items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", METHODS)
def test_recorded_graphs_give_the_same_on_cuda(small_phantom, name):
    method = METHODS[name].create(seed=0).eval().cuda()
    maker = BatchMaker.for_method(small_phantom.split("train"), method).to("cuda")
    maker.settings.fixed_width = True
    batches = list(maker.epoch(0, 8)) * 3
    wanted = [gradients(method, batch) for batch in batches]
    with compiling(method, "graphs"):
        for batch, one in zip(batches, wanted, strict=True):
            torch.compiler.cudagraph_mark_step_begin()
            two = gradients(method, batch)
            for key, value in one.items():
                assert torch.allclose(value, two[key], atol=1e-4 * (1 + value.abs().max())), key
