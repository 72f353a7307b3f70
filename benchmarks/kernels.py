"""Our kernels against the form in which they are usually written, in one run: python benchmarks/kernels.py [NAME ...]

Each pair is warmed up, then timed in turns (A, B, A, B ...), and the best of `--rounds` is taken, so that a machine
that slows down or is shared hurts both alike. What counts is the ratio. Before timing, both forms must agree. Pairs
whose names contain a NAME are run, all of them without one. `--threads` sets torch's threads.
"""

import argparse
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from medret_nb.data.files import shipped_data
from medret_nb.data.images import letterbox, read_image
from medret_nb.data.tokens import load_tokenizer
from medret_nb.evaluation.ranking import ranks
from medret_nb.losses.contrastive import info_nce
from medret_nb.losses.gaussian import matching_loss, mls
from medret_nb.losses.masked import keep_patches, keyed_noise
from medret_nb.losses.region_word import region_word_scores
from medret_nb.methods.backbones import TINY_TEXT, TINY_VIT, backbone_from_config
from medret_nb.methods.encoders import ImageEncoder
from medret_nb.methods.mcr import MCR, MCRConfig


def clouds(n, d):
    "Means and log-variances of n Gaussians that want gradients."
    return [torch.randn(n, d).requires_grad_(), (torch.rand(n, d) * 12 - 6).requires_grad_()]


def with_gradient(function, leaves):
    "A step: the value of `function()`, its backward pass, and the gradients taken away again."

    def step():
        value = function()
        value.sum().backward()
        for leaf in leaves:
            leaf.grad = None
        return value.detach()

    return step


def without_gradient(function):
    def step():
        with torch.no_grad():
            return function()

    return step


def csd_loss(n=512, d=512):
    x, y = clouds(n, d), clouds(n, d)

    def broadcast():
        square = ((x[0][:, None] - y[0][None]) ** 2).sum(-1)
        spread = (x[1].exp()[:, None] + y[1].exp()[None]).sum(-1)
        return F.binary_cross_entropy_with_logits(5 - 0.05 * (square + spread), torch.eye(n))

    def tiles():
        return matching_loss(*x, *y, 0.05, 5.0)

    yield (
        f"csd loss, forward + backward, N={n} D={d}",
        100,
        with_gradient(broadcast, x + y),
        with_gradient(tiles, x + y),
    )


def mls_scores(n=128, d=512):
    x, y = clouds(n, d), clouds(n, d)

    def broadcast():
        variance = x[1].exp()[:, None] + y[1].exp()[None]
        return -0.5 * ((x[0][:, None] - y[0][None]) ** 2 / variance + variance.log()).sum(-1)

    def blocks():
        return mls(*x, *y)

    yield f"mls, forward, N={n} D={d}", 5, without_gradient(broadcast), without_gradient(blocks)
    yield f"mls, forward + backward, N={n} D={d}", 5, with_gradient(broadcast, x + y), with_gradient(blocks, x + y)


def contrastive_loss(n=2048, d=128):
    leaves = [F.normalize(torch.randn(n, d), dim=1).requires_grad_() for _ in range(2)]

    def dense():
        scores = 10 * leaves[0] @ leaves[1].T
        own = torch.arange(n)
        return 0.5 * (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own))

    def tiles():
        return info_nce(*leaves, 10.0)

    yield (
        f"info_nce, forward + backward, N={n} D={d} (tiles save memory)",
        None,
        with_gradient(dense, leaves),
        with_gradient(tiles, leaves),
    )


def gloria_loop(films, reports, lengths, attention=4.0, pool=5.0):
    """GLoRIA's formulation.

    Channels first, one report at a time, copied for every film. films (B, D, R), reports (B, D, W).
    """
    columns, count = [], len(films)
    for report, length in zip(reports, lengths):
        word = report[None, :, :length].contiguous().repeat(count, 1, 1)  # (B, D, W)
        share = torch.bmm(films.transpose(1, 2).contiguous(), word).softmax(-1)  # (B, R, W)
        alpha = (attention * share.transpose(1, 2).contiguous()).softmax(-1)  # (B, W, R)
        context = torch.bmm(films, alpha.transpose(1, 2).contiguous())  # (B, D, W)
        x, y = (t.transpose(1, 2).contiguous() for t in (word, context))
        cosine = (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1)).clamp_min(1e-8)
        columns.append((pool * cosine).exp().sum(1).log())
    return torch.stack(columns, 1)


def region_words(b=16, regions=361, words=725, d=768):
    lengths = [words // b + (k < words % b) for k in range(b)]
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    leaves = [
        (0.1 * torch.randn(b, regions, d)).requires_grad_(),
        (0.1 * torch.randn(b, max(lengths), d)).requires_grad_(),
    ]
    channels_first = [x.detach().transpose(1, 2).contiguous().requires_grad_() for x in leaves]

    def loop():
        return gloria_loop(*channels_first, lengths)

    def pairs():
        return region_word_scores(*leaves, mask)

    title = f"B={b}, {regions} regions, {words} words, D={d}"
    yield f"region-word scores, forward, {title}", 4, without_gradient(loop), without_gradient(pairs)
    yield (
        f"region-word scores, forward + backward, {title}",
        3,
        with_gradient(loop, channels_first),
        with_gradient(pairs, leaves),
    )


def all_ranks(n=5000):
    scores = np.random.default_rng(0).standard_normal((n, n)).astype(np.float32)
    own = np.arange(n)

    def place(s):
        return (np.argsort(-s, axis=1) == own[:, None]).argmax(1) + 1.0

    yield (
        f"ranks, both directions, N={n}",
        50,
        lambda: np.stack([place(scores), place(scores.T)]),
        lambda: np.stack([ranks(scores, (own, own)), ranks(scores.T, (own, own))]),
    )


def masked_step(b=8, width=192, ratio=0.5):
    encoder = ImageEncoder(
        backbone_from_config(
            dict(
                model_type="vit",
                image_size=128,
                patch_size=8,
                num_channels=1,
                hidden_size=width,
                num_hidden_layers=4,
                num_attention_heads=3,
                intermediate_size=4 * width,
            )
        )
    )
    films, keep = torch.randn(b, 1, 128, 128), keep_patches(keyed_noise(torch.arange(b), 256), ratio)[0]
    leaves = list(encoder.parameters())
    yield (
        f"masked step, 256 patches of width {width}, {ratio:.0%} dropped",
        1.9,
        with_gradient(lambda: encoder(films)[0], leaves),
        with_gradient(lambda: encoder(films, keep)[0], leaves),
    )


def held_bytes(function, parameters):
    "Bytes that the value of `function()` keeps for its backward pass, parameters left out."
    own, found = {p.untyped_storage().data_ptr() for p in parameters}, {}

    def note(tensor):
        found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        value = function()
    return sum(size for place, size in found.items() if place not in own), value


def masked_inputs(b=8, width=192, words=64):
    "MCR's step, whose only inputs are masked, against the usual one with whole inputs for the contrast beside them."
    tokenizer = load_tokenizer(shipped_data("tiny/text"))
    backbones = dict(
        image_backbone=TINY_VIT
        | dict(image_size=128, hidden_size=width, num_attention_heads=3, intermediate_size=4 * width),
        text_backbone=TINY_TEXT | dict(vocab_size=len(tokenizer), hidden_size=width, intermediate_size=4 * width),
    )
    places = torch.arange(words).expand(b, 1, -1)
    batch = SimpleNamespace(
        pixels=torch.randn(b, 1, 1, 128, 128),
        tokens=torch.randint(5, len(tokenizer), (b, 1, words)),
        key=torch.arange(b)[:, None],
        mask=places >= 0,
        word_ids=places,
        text_group=torch.arange(b),
    )
    for ratio in (0.5, 0.75):
        steps, held = [], []
        for inputs in ("two", "one"):
            method = MCR(
                MCRConfig(size=128, inputs=inputs, hidden_patches=ratio, hidden_words=0.5, **backbones), tokenizer
            )

            def step(method=method):
                return sum(method(batch).values())

            held.append(held_bytes(step, method.parameters())[0] / 2**20)
            steps.append(with_gradient(step, list(method.parameters())))
        yield (
            f"one masked input for all tasks against two, 256 patches of width {width}, {ratio:.0%} hidden; "
            f"held for backward {held[0]:.0f} and {held[1]:.0f} MB: {held[0] / held[1]:.1f} times less",
            1.8 if ratio == 0.5 else None,
            *steps,
        )


def feeding(count=32, size=512):
    with tempfile.TemporaryDirectory() as folder:
        folder, films = Path(folder), np.random.default_rng(0).integers(0, 255, (count, size, size)).astype(np.uint8)
        for k, film in enumerate(films):
            Image.fromarray(film).save(folder / f"{k}.png")
        np.save(folder / "pixels.npy", films)
        cache = np.load(folder / "pixels.npy", mmap_mode="r", allow_pickle=False)
        order = np.random.default_rng(1).permutation(count)

        def decode():
            return np.stack([letterbox(read_image(folder / f"{k}.png"), size)[0] for k in order])

        yield f"feeding {count} films of {size} px", None, decode, lambda: np.asarray(cache[order])


PAIRS = {
    "csd": csd_loss,
    "mls": mls_scores,
    "info_nce": contrastive_loss,
    "region_word": region_words,
    "ranks": all_ranks,
    "masked_patches": masked_step,
    "masked_inputs": masked_inputs,
    "feeding": feeding,
}


def race(naive, ours, rounds):
    "Best seconds of each, timed in turns after a warm-up."
    best = [float("inf")] * 2
    for turn in range(rounds + 1):
        for which, function in enumerate((naive, ours)):
            start = time.perf_counter()
            function()
            seconds = time.perf_counter() - start
            if turn:
                best[which] = min(best[which], seconds)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="of " + ", ".join(PAIRS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    chosen = {
        name: pair
        for name, pair in PAIRS.items()
        if not options.names or any(wanted in name for wanted in options.names)
    }
    if not chosen:
        parser.error(f"no pair is named like {' '.join(options.names)}; there are {', '.join(PAIRS)}")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {options.threads} threads, best of {options.rounds} in turns\n")
    print(f"{'naive ms':>9} {'ours ms':>9} {'ratio':>7} {'target':>7}  kernel")
    for name, pair in chosen.items():
        for title, target, naive, ours in pair():
            if not name.startswith("masked"):
                np.testing.assert_allclose(np.asarray(ours()), np.asarray(naive()), rtol=1e-3, atol=1e-3)
            slow, fast = race(naive, ours, options.rounds)
            wanted = "" if target is None else target
            times = f"{1e3 * slow:9.1f} {1e3 * fast:9.1f} {slow / fast:7.1f}"
            print(f"{times} {wanted:>7}  {title}", flush=True)


if __name__ == "__main__":
    main()
