"""A graphics card that is only pretended, so that the handling of devices is tested on any machine.

    with pretended_card() as card:
        method.to(card.device)
        embed(method, studies)

Tensors that are made on the device "meta" or sent there hold their numbers in ordinary memory and compute as usual,
but behave as on a card: they do not meet tensors of the processor, numpy cannot read them, and who looks at their
numbers makes the processor wait. `card.waits` lists those places.
"""

import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from support import ROOT
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

aten = torch.ops.aten
DEVICE = torch.device("meta")
CROSSES = {aten.copy_.default, aten._to_copy.default}  # may meet tensors of both sides
INDICES = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._unsafe_index.Tensor}
LOOKS = {aten._local_scalar_dense.default, aten.item.default, aten.equal.default}
SIZED = {aten.nonzero.default, aten.unique_dim.default, aten._unique2.default, aten.masked_select.default}


class Carded(torch.Tensor):
    "A tensor on the pretended card; `held` has its numbers, in ordinary memory."

    @staticmethod
    def __new__(cls, held):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=DEVICE,
            requires_grad=False,
        )

    def __init__(self, held):
        self.held = held

    def __repr__(self, *, tensor_contents=None):
        return f"Carded({self.held!r})"

    @property
    def is_meta(self):
        "It has numbers."
        return False

    def tolist(self):
        "As on a card: look at all numbers."
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        mode = PretendedCard.current
        if mode is None:
            raise RuntimeError("a tensor of the pretended card is used after its block has ended")
        return mode.obey(function, args, kwargs or {})


def here() -> str:
    "The innermost line of this project's code that is being run, as module:line."
    for frame in reversed(traceback.extract_stack(sys._getframe(1))):
        path = Path(frame.filename)
        if path.is_relative_to(ROOT) and path.name != "pretend_card.py":
            return f"{path.relative_to(ROOT)}:{frame.lineno}"
    return "elsewhere"


class PretendedCard(TorchDispatchMode):
    "The card: keeps the rules. `waits` counts the places at which the processor had to wait for it."

    current: "PretendedCard | None" = None

    def __init__(self):
        super().__init__()
        self.device = DEVICE
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return self.obey(function, args, kwargs or {})

    def obey(self, function, args, kwargs):
        "Do what an operation says, on ordinary memory, and mark what comes out."
        values, shape = tree_flatten((args, kwargs))
        carded = any(isinstance(value, Carded) for value in values)
        wanted = kwargs.get("device")
        to_card = wanted is not None and torch.device(wanted).type == DEVICE.type
        if carded:
            self.check(function, values)
        if not carded and not to_card:
            return function(*args, **kwargs)
        holders = {id(value.held): value for value in values if isinstance(value, Carded)}
        plain, options = tree_unflatten([value.held if isinstance(value, Carded) else value for value in values], shape)
        if to_card:
            options = {**options, "device": torch.device("cpu")}
        out = function(*plain, **options)
        if self.leaves(function, wanted, args):
            self.waits[here()] += 1
            return out if not isinstance(out, torch.Tensor) else own_memory(out, values)
        return tree_map(lambda value: self.marked(value, holders), out)

    def check(self, function, values):
        "RuntimeError where tensors of both sides meet; and note where the size of a result depends on numbers."
        if function in SIZED or (function in INDICES and any(is_mask(value) for value in values)):
            self.waits[here()] += 1
        if function in CROSSES or function in INDICES:
            return
        strangers = [v for v in values if isinstance(v, torch.Tensor) and not isinstance(v, Carded) and v.dim()]
        if strangers:
            shapes = [tuple(value.shape) for value in strangers]
            raise RuntimeError(f"{function}: expected all tensors to be on the same device, {shapes} on the processor")

    def leaves(self, function, wanted, args) -> bool:
        "Whether the result of an operation lies on the processor: numbers, copies there."
        if function in LOOKS:
            return True
        if function is aten.copy_.default:
            return not isinstance(args[0], Carded)
        return function is aten._to_copy.default and wanted is not None and torch.device(wanted).type == "cpu"

    @staticmethod
    def marked(value, holders):
        "A result as a tensor of the card; the same one where an operation has changed it in place."
        if not isinstance(value, torch.Tensor) or isinstance(value, Carded):
            return value
        return holders.get(id(value)) if id(value) in holders else Carded(value)


def is_mask(value) -> bool:
    "Whether an index is a mask of the card, whose sum the processor has to know."
    return isinstance(value, Carded) and value.dtype == torch.bool


def own_memory(out, values):
    "A copy on the processor; `copy_` gives its target back."
    return out if any(out is value for value in values) else out.clone()


@contextmanager
def pretended_card() -> Iterator[PretendedCard]:
    "While the block runs, the device `card.device` is a card. What `card.waits` counts stays to be read."
    card = PretendedCard()
    before = PretendedCard.current
    PretendedCard.current = card
    try:
        with card, patch("torch.inference_mode", torch.no_grad):  # there, views of weights cannot be wrapped
            yield card
    finally:
        PretendedCard.current = before
