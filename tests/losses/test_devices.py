"""Every loss and every method's terms, with their gradients, on the CPU and on a GPU: `pytest -k cuda tests/losses`.

Single precision. A value may differ by 1e-5 of the largest one, a gradient by 1e-4 of its tensor's largest; a whole
method, whose encoders add up in another order on another device, by 1e-3 in a term and 2e-2 in the gradient's length.
"""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from medret_nb.data.batches import BatchMaker
from medret_nb.kernels.forms import forced_form
from medret_nb.losses import contrastive, gaussian, masked, prototypes, region_word
from medret_nb.methods.table import METHODS

MODULES = (contrastive, gaussian, masked, prototypes, region_word)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def yes(*shape, seed=0):
    "A mask that is mostly True, its first place always."
    mask = torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.7
    mask[..., 0] = True
    return mask


def unit(*shape, seed=0):
    return F.normalize(normal(*shape, seed=seed), dim=-1)


def whole(high, *shape, seed=0):
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(seed))


CLOUDS = (normal(9, 7), normal(9, 7, seed=1), normal(9, 7, seed=2), normal(9, 7, seed=3))
OTHER = (normal(5, 7, seed=4), normal(5, 7, seed=5))
GROUPS = whole(4, 9)
SOFT = torch.rand(9, 9, generator=torch.Generator().manual_seed(6))
BOXES = torch.tensor([[[0.1, 0.1, 0.6, 0.7], [0.4, 0.3, 0.9, 0.8]]]).expand(2, 2, 4).contiguous()
NOISE = torch.rand(2, 16, generator=torch.Generator().manual_seed(7))
KEEP = masked.keep_patches(NOISE, 0.5)
RW = (normal(3, 5, 8), normal(3, 6, 8, seed=1), yes(3, 6), yes(3, 5, seed=1))

CASES = [  # module, function, arguments, options
    (contrastive, "matrix_matching", (normal(9, 9), SOFT), {}),
    (contrastive, "softmax_matching", (normal(9, 9), SOFT), {}),
    (contrastive, "group_means", (normal(9, 7), GROUPS), {}),
    (contrastive, "info_nce", (unit(9, 7), unit(9, 7, seed=1), torch.tensor(5.0)), {}),
    (contrastive, "info_nce", (unit(9, 7), unit(9, 7, seed=1), torch.tensor(5.0), GROUPS), {"tile": 4}),
    (contrastive, "section_targets", (whole(5, 6, 2), whole(4, 6)), {}),
    (gaussian, "csd", (*CLOUDS[:2], *OTHER), {}),
    (gaussian, "mls", (*CLOUDS[:2], *OTHER), {}),
    (gaussian, "wasserstein2", (*CLOUDS[:2], *OTHER), {}),
    (gaussian, "match_probability", (normal(4, 5).square(), torch.tensor(1.5), torch.tensor(2.0)), {}),
    (gaussian, "pseudo_targets", (normal(9, 9), SOFT), {}),
    (gaussian, "matching_terms", (*CLOUDS, torch.tensor(0.1), torch.tensor(3.0)), {}),
    (gaussian, "matching_terms", (*CLOUDS, torch.tensor(0.1), torch.tensor(3.0), None, GROUPS), {"tile": 4}),
    (gaussian, "matching_terms", (*CLOUDS, torch.tensor(0.1), torch.tensor(3.0), SOFT), {}),
    (gaussian, "matching_loss", (*CLOUDS, 0.1, 3.0), {"pseudo_weight": 0.2}),
    (gaussian, "kl_to_standard_normal", CLOUDS[:2], {}),
    (masked, "keep_patches", (NOISE, 0.5), {}),
    (masked, "keep_tokens", (normal(2, 16, 3), KEEP[0]), {}),
    (masked, "restore_tokens", (normal(2, 8, 3), KEEP[0], normal(3), 16), {}),
    (masked, "pieces_to_hide", (whole(6, 2, 16), NOISE, 0.5), {}),
    (masked, "mask_words", (whole(9, 2, 16), whole(6, 2, 16), NOISE, 0.5, 4), {}),
    (masked, "patchify", (normal(2, 1, 8, 8), 2), {}),
    (masked, "unpatchify", (normal(2, 16, 4), 8, 8), {}),
    (masked, "patch_textures", (normal(2, 16, 4),), {}),
    (masked, "masked_pixel_loss", (normal(2, 16, 4), normal(2, 1, 8, 8), KEEP[1], 2), {}),
    (masked, "masked_word_loss", (normal(2, 16, 9), whole(9, 2, 16), KEEP[1]), {}),
    (masked, "masked_mean", (normal(2, 16, 3), KEEP[1]), {}),
    (masked, "attention_mean", (normal(2, 16, 3), normal(3), KEEP[1]), {}),
    (prototypes, "pool_prototypes", (normal(2, 5, 4), normal(3, 4), yes(2, 5)), {}),
    (prototypes, "prototype_vector", ([unit(2, 3, 4), unit(2, 2, 4)], normal(2).square()), {}),
    (prototypes, "prototype_scores", ([unit(2, 3, 4)], [unit(5, 3, 4, seed=1)], torch.ones(1)), {}),
    (prototypes, "diversity", (unit(2, 3, 4),), {}),
    (prototypes, "sinkhorn_codes", (unit(9, 4),), {}),
    (prototypes, "swapped_prediction", (unit(9, 4), unit(9, 4, seed=1)), {}),
    (prototypes, "distribution_confidence", (normal(5, 9), 0.5), {"top": 3}),
    (prototypes, "confidence_weighted", (normal(3, 5), normal(3, 5, seed=1), yes(3).float(), yes(5).float()), {}),
    (prototypes, "confidence_loss", (torch.full((4,), 0.3), torch.tensor([1.0, 0.0, 0.5, 1.0])), {}),
    (region_word, "box_weights", (BOXES, 4, 4), {}),
    (region_word, "pool_boxes", (normal(2, 4, 4, 3), BOXES), {}),
    (region_word, "attend", (normal(2, 3, 4), normal(2, 6, 4), yes(2, 6)), {}),
    (region_word, "region_word_scores", RW, {}),
    (region_word, "region_word_scores", RW, {"look": "regions"}),
    (region_word, "word_attention", RW, {}),
    (region_word, "times_even", (normal(4, 5).softmax(1), yes(4, 5), yes(4, 5) | yes(4, 5, seed=1)), {}),
    (region_word, "sentence_walk", (*RW[:2], whole(3, 3, 6), RW[3]), {}),
    (region_word, "walk_loss", (normal(2, 5, 5).softmax(-1), normal(2, 5, 5).square()), {}),
    (region_word, "graded_targets", (whole(3, 3, 5, 4).float() - 1, yes(3, 5)), {}),
    (
        region_word,
        "location_contrast",
        (unit(3, 5, 8), unit(3, 5, 8, seed=1), SOFT.flatten()[:45].reshape(3, 3, 5)),
        {},
    ),
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c[1])


def test_every_loss_is_here():
    public = {(module, name) for module in MODULES for name in module.__all__}
    assert public == {case[:2] for case in CASES}


def moved(value, device):
    "The same arguments on a device, float tensors as leaves that want gradients."
    if isinstance(value, list | tuple):
        return type(value)(moved(x, device) for x in value)
    if not isinstance(value, torch.Tensor):
        return value
    copy = value.detach().to(device).clone()
    return copy.requires_grad_() if copy.is_floating_point() else copy


def tensors(value):
    "All tensors in what a function takes or gives."
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [x for part in parts for x in tensors(part)]


def weighted(values):
    "One number of all float results that carry a gradient, with fixed weights that are not all alike."
    total = 0
    for k, value in enumerate(x for x in values if x.requires_grad):
        weight = torch.linspace(0.5, 1.5, max(value.numel(), 1)) / (k + 1)
        total = total + (value * weight.to(value)[: value.numel()].reshape(value.shape)).sum()
    return total


def computed(case, device):
    "What a loss gives on a device, and its gradients."
    module, name, arguments, options = case
    given = moved(arguments, device)
    values = tensors(getattr(module, name)(*given, **options))
    leaves = [x for x in tensors(given) if x.requires_grad]
    total = weighted(values)
    slopes = torch.autograd.grad(total, leaves, allow_unused=True) if isinstance(total, torch.Tensor) else []
    return values, slopes


def close(found, expected, share, what):
    "Equal whole numbers; float ones within `share` of the largest."
    assert found.dtype == expected.dtype and found.shape == expected.shape, what
    found = found.detach().cpu()
    if not expected.is_floating_point():
        assert torch.equal(found, expected), what
    elif expected.numel():
        scale = expected.detach().abs().max().clamp_min(1e-6).item()
        torch.testing.assert_close(found, expected.detach(), rtol=0, atol=share * scale, equal_nan=True, msg=what)


@pytest.fixture(autouse=True)
def exact_products():
    "No tf32 here."
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@each_case
def test_a_loss_is_the_same_on_every_device(case, device):
    values, slopes = computed(case, device)
    expected, wanted = computed(case, torch.device("cpu"))
    assert all(x.device == device for x in values)
    for found, value in zip(values, expected):
        close(found, value, 1e-5, case[1])
    for found, value in zip(slopes, wanted):
        assert (found is None) == (value is None)
        if value is not None:
            close(found, value, 1e-4, f"gradient of {case[1]}")


@each_case
def test_a_loss_runs_on_the_meta_device(case):
    computed(case, torch.device("meta"))


@each_case
def test_no_loss_waits_for_the_gpu(case, device):
    module, name, arguments, options = case
    given = moved(arguments, device)
    leaves = [x for x in tensors(given) if x.requires_grad]
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        values = [x for x in tensors(getattr(module, name)(*given, **options)) if x.requires_grad]
        if values:
            torch.autograd.grad([x.sum() for x in values], leaves, allow_unused=True)
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


class Made:
    "A batch and the methods, made once for all tests of this file."

    def __init__(self, studies):
        self.studies = studies
        self.kept = {}

    def get(self, name, augmentation):
        if (name, augmentation) not in self.kept:
            method = METHODS[name].create(METHODS[name].Config(dim=16), seed=2).eval()
            batch = BatchMaker.for_method(self.studies, method, augmentation=augmentation).batch(range(8))
            self.kept[name, augmentation] = SimpleNamespace(method=method, batch=batch)
        return self.kept[name, augmentation]


@pytest.fixture(scope="module")
def made(small_phantom):
    return Made(small_phantom)


def terms_of(one, device):
    "A method's terms on a device and the gradient of their sum as one long vector, on the CPU."
    method = one.method.to(device)
    method.zero_grad(set_to_none=True)
    terms = method(one.batch.to(device))
    sum(terms.values()).backward()
    slopes = [p.grad.flatten().cpu() for p in method.parameters() if p.grad is not None]
    method.to("cpu")
    return {name: term.detach().cpu() for name, term in terms.items()}, torch.cat(slopes)


@pytest.mark.parametrize("augmentation", [0.0, 1.0])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_the_same_on_every_device(name, augmentation, device, made):
    one = made.get(name, augmentation)
    terms, slope = terms_of(one, device)
    expected, wanted = terms_of(one, torch.device("cpu"))
    assert terms.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(terms[key], value, rtol=1e-3, atol=1e-4, msg=f"{name}: {key}")
    assert slope.shape == wanted.shape and (slope - wanted).norm() <= 2e-2 * wanted.norm()


@pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")  # numpy's, of the interpreter: exp(100), log(0)
@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_the_same_in_triton_and_in_blocks(name, triton_device, made):
    one = made.get(name, 1.0)
    with forced_form("blocks"):
        expected, wanted = terms_of(one, triton_device)
    with forced_form("triton"):
        terms, slope = terms_of(one, triton_device)
    for key, value in expected.items():
        torch.testing.assert_close(terms[key], value, rtol=1e-4, atol=1e-5, msg=f"{name}: {key}")
    assert (slope - wanted).norm() <= 1e-3 * wanted.norm()
