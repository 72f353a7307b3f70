"""Our kernels against the form in which they are usually written: python -P benchmarks/kernels.py [NAME ...]

Each pair is warmed up, then timed in turns (A, B, A, B ...), and the best of `--rounds` is taken, so that a machine
that slows down or is shared hurts both alike. What counts is the ratio. Before timing, both forms must agree. Pairs
whose names contain a NAME are run, all of them without one. `--threads` sets torch's threads.
"""

import argparse
import hashlib
import itertools
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from medret_nb.data.batches import BatchMaker
from medret_nb.data.boxes import RegionTable
from medret_nb.data.counters import keyed_noise
from medret_nb.data.files import shipped_data
from medret_nb.data.images import letterbox, read_image
from medret_nb.data.reports import split_sentences
from medret_nb.data.tokens import load_tokenizer, tokenize
from medret_nb.data.usable import section_groups, text_slots, usable_studies
from medret_nb.evaluation.ranking import ranks
from medret_nb.losses.contrastive import info_nce
from medret_nb.losses.gaussian import matching_loss, mls
from medret_nb.losses.masked import keep_patches
from medret_nb.losses.region_word import region_word_scores
from medret_nb.methods.backbones import TINY_TEXT, TINY_VIT, backbone_from_config
from medret_nb.methods.clip import CLIP
from medret_nb.methods.encoders import ImageEncoder
from medret_nb.methods.mcr import MCR, MCRConfig
from medret_nb.phantom.phantom import make_phantom


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


class FeedingByStudy:
    """Batches as they are usually made: study by study, film by film, texts cut whenever they are needed.

    Each draw has a generator of its own, made from the hash of a text. `feeding` compares `BatchMaker` with it.
    """

    def __init__(self, studies, tokenizer, size=64, views=1, sections=1, regions=(), mixing=0.0):
        self.pixels, self.tokenizer = studies.pixels(size), tokenizer
        self.usable = usable_studies(studies, self.pixels, "both")
        self.texts, self.shuffled = text_slots(self.usable, sections)
        self.groups = section_groups(self.usable.texts, self.usable.parts, sections)
        self.regions = RegionTable(studies, list(regions)) if regions else None
        self.views, self.mixing = views, mixing

    def generator(self, epoch, i, *what):
        text = "/".join(map(str, (0, epoch, self.usable.study_ids[i], *what))).encode()
        return np.random.default_rng(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1)

    def films(self, epoch, i):
        if self.views == 1:
            return [self.usable.first[i]]
        mine = self.usable.images[self.usable.study_ids[i]]
        drawn = [mine[j] for j in self.generator(epoch, i, "films").permutation(len(mine))]
        view = self.usable.view_of[drawn[0]]
        other = [film for film in drawn[1:] if self.usable.view_of[film] != view]
        drawn = [drawn[0], *other, *(film for film in drawn[1:] if film not in other)]
        return [drawn[v % len(drawn)] for v in range(self.views)]

    def words(self, epoch, i):
        texts = []
        for s, (text, shuffled) in enumerate(zip(self.texts[i], self.shuffled[i])):
            if shuffled:
                sentences = split_sentences(text)
                order = self.generator(epoch, i, "text", s).permutation(len(sentences))
                text = " ".join(sentences[j] for j in order)
            texts.append(text)
        return texts

    def varied(self, epoch, rows):
        names = [film for i in rows for film in self.films(epoch, i)]
        films = torch.from_numpy(self.pixels.take(names))[:, None].float() / 255
        numbers, noise = [], []
        for i in rows:
            for v in range(self.views):
                rng = self.generator(epoch, i, "film", v)
                numbers.append(rng.uniform(-1, 1, 8))
                noise.append(rng.standard_normal(films.shape[1:], dtype=np.float32) * np.float32(0.02))
        u = torch.from_numpy(np.stack(numbers, 1)).float()
        zoom, turn = (0.12 * u[1]).exp(), u[0] * np.pi / 30
        cos, sin = turn.cos() / zoom, turn.sin() / zoom
        matrix = torch.stack([torch.stack([cos, sin, 0.1 * u[2]], 1), torch.stack([-sin, cos, 0.1 * u[3]], 1)], 1)
        films = F.grid_sample(films, F.affine_grid(matrix, films.shape, align_corners=True), align_corners=True)
        light, contrast, grey = (u[k][:, None, None, None] for k in (4, 5, 6))
        films = films.clamp(0, 1) ** (0.25 * light).exp()
        mean = films.mean((1, 2, 3), keepdim=True)
        films = (films - mean) * (1 + 0.2 * contrast) + mean + 0.06 * grey + torch.from_numpy(np.stack(noise))
        return names, films.clamp(0, 1)

    def partner(self, epoch, i, company):
        rng = self.generator(epoch, i, "partner")
        others = company[company != i]
        return others[rng.integers(len(others))] if rng.random() < self.mixing else i

    def mixed(self, epoch, rows, films):
        company = np.sort(rows)
        partner = np.array([self.partner(epoch, i, company) for i in rows])
        at = np.flatnonzero(partner != rows)
        if len(at):
            shares = np.array([self.generator(epoch, rows[k], "mix").beta(2, 2) for k in at], np.float32)
            share = torch.from_numpy(shares)[:, None, None, None]
            films[at] = films[at] * share + self.varied(epoch, partner[at])[1] * (1 - share)
        return films

    def batch(self, epoch, rows):
        names, films = self.varied(epoch, rows)
        if self.mixing:
            films = self.mixed(epoch, rows, films)
        texts = [text for i in rows for text in self.words(epoch, i)]
        tokens, mask, word_ids = (x.unflatten(0, (len(rows), -1)) for x in tokenize(self.tokenizer, texts, 96))
        boxes = ()
        if self.regions is not None:
            boxes = self.regions.take(names, self.pixels.boxes[[self.pixels.rows[name] for name in names]])
        return SimpleNamespace(
            pixels=((films - 0.5) / 0.25).unflatten(0, (len(rows), self.views)),
            tokens=tokens,
            mask=mask,
            word_ids=word_ids,
            study=torch.as_tensor(rows),
            text_group=torch.as_tensor(self.groups[rows, 0]),
            section_group=torch.as_tensor(self.groups[rows]),
            labels=torch.as_tensor(self.usable.labels[rows]),
            boxes=boxes,
        )

    def epoch(self, epoch, batch_size):
        order = np.random.default_rng(epoch).permutation(len(self.usable.study_ids))
        for first in range(0, len(order) - batch_size + 1, batch_size):
            yield self.batch(epoch, order[first : first + batch_size])


SIDES = [f"{side} {part}" for side in ("left", "right") for part in ("lung", "upper lung zone", "lower lung zone")]
FEEDING = {
    "one film and one text": {},
    "two views and two sections": dict(views=2, sections=2),
    "a quarter of the films mixed": dict(mixing=0.25),
    "boxes of eight regions": dict(regions=[*SIDES, "cardiac silhouette", "mediastinum"]),
}


def counted(maker, batch_size, use=len):
    "A function that takes an epoch of batches, another one each time, and returns the number of pairs."
    epochs = itertools.count()

    def step():
        return sum(use(batch) for batch in maker.epoch(next(epochs), batch_size))

    return step


def per_second(what, pairs):
    "What is said of a race over `pairs`, once the seconds of both are known."
    return lambda slow, fast: f"{what}: {pairs / slow:,.0f} and {pairs / fast:,.0f} pairs a second"


def feeding(count=256, size=64, batch_size=64):
    "Batches study by study against tables and tensors: all four kinds of feeding alone, then whole steps of CLIP."
    with tempfile.TemporaryDirectory() as folder:
        studies = make_phantom(count, seed=1, size=size, out=folder, progress=False)
        tokenizer = load_tokenizer(shipped_data("tiny/text"))
        pairs = count // batch_size * batch_size
        for what, settings in FEEDING.items():
            naive = FeedingByStudy(studies, tokenizer, size, **settings)
            ours = BatchMaker(studies, tokenizer, size=size, **settings)
            both = counted(naive, batch_size, lambda batch: len(batch.study)), counted(ours, batch_size)
            yield per_second(f"feeding alone, {size} px, {what}", pairs), 4, *both
        method = CLIP.create()
        optimiser = torch.optim.AdamW(method.parameters())

        def learn(batch):
            optimiser.zero_grad()
            sum(method(batch).values()).backward()
            optimiser.step()
            return len(batch.study)

        makers = [kind(studies, tokenizer, size=size) for kind in (FeedingByStudy, BatchMaker)]
        yield (
            per_second(f"whole steps of a tiny CLIP, {size} px", pairs),
            None,
            *(counted(m, batch_size, learn) for m in makers),
        )


def film_cache(count=32, size=512):
    "Films from the pixel cache against films decoded each time."
    with tempfile.TemporaryDirectory() as folder:
        folder, films = Path(folder), np.random.default_rng(0).integers(0, 255, (count, size, size)).astype(np.uint8)
        for k, film in enumerate(films):
            Image.fromarray(film).save(folder / f"{k}.png")
        np.save(folder / "pixels.npy", films)
        cache = np.load(folder / "pixels.npy", mmap_mode="r", allow_pickle=False)
        order = np.random.default_rng(1).permutation(count)

        def decode():
            return np.stack([letterbox(read_image(folder / f"{k}.png"), size)[0] for k in order])

        yield f"{count} films of {size} px", None, decode, lambda: np.asarray(cache[order])


PAIRS = {
    "csd": csd_loss,
    "mls": mls_scores,
    "info_nce": contrastive_loss,
    "region_word": region_words,
    "ranks": all_ranks,
    "masked_patches": masked_step,
    "masked_inputs": masked_inputs,
    "feeding": feeding,
    "film_cache": film_cache,
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
            title = title(slow, fast) if callable(title) else title
            wanted = "" if target is None else target
            times = f"{1e3 * slow:9.1f} {1e3 * fast:9.1f} {slow / fast:7.1f}"
            print(f"{times} {wanted:>7}  {title}", flush=True)


if __name__ == "__main__":
    main()
