"""Does detectability mean something?

A small classifier, trained on truth, against d': python benchmarks/detectability.py

Draws fresh simulated patients (one PA film each), fine-tunes the shipped film encoder to name what each scene holds
and where, and asks on other patients how well it finds each finding among the films without it: the area under the
ROC curve in each fifth of the finding's detectability d' (64-pixel counts, as visibility.parquet has it). If d' means
something the area rises with it. Pneumonia and consolidation share one picture by intent, so they count as one
finding here. Prints the table, the rank correlation of fifth and area for each finding, its mean, and the smallest
area in a highest fifth; with `--out` writes it all as json.

At full contrast the classifier finds most things always, however low their d', and there is nothing left to rise. So
every second finding is faded, as in studies of human observers: of what it adds to the line integral only a share is
drawn, from `--faintest` up to all of it, evenly in the logarithm, and its d' is that of what is drawn. `--faintest 1`
leaves all as they are.

Small things are hard to learn from few examples, and the question is what can be seen, not what can be learned from
few. So the classifier also trains on `--lesions` films, none faded, of patients who have nodules and rib fractures
more often (the test patients do not), and names places on a fine grid (a feature pyramid, Lin et al. 2017, with the
focal loss of Lin et al. 2017b, each finding with equal weight).

About a quarter of an hour of two cores (`--workers 2`), half of it to train. The same seed and threads give the same
table.
"""

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from medret_nb.data.files import write_json
from medret_nb.methods.backbones import load_backbone
from medret_nb.methods.encoders import ImageEncoder
from medret_nb.phantom.exposure import expected_photons, line_integral, scatter_field
from medret_nb.phantom.patients import sample_patients
from medret_nb.phantom.regions import mask_box
from medret_nb.phantom.rendering import compose, develop, surroundings
from medret_nb.phantom.scenes import KINDS, clinic
from medret_nb.phantom.truth import READING_SIZE

NAMES = [k for k in KINDS if k != "pneumonia"]
SHARED = {"pneumonia": "consolidation"}


def finding_index(f):
    """Where a finding stands in NAMES."""
    return NAMES.index(SHARED.get(f.name, f.kind or f.name))


def examine(job):
    """One film uint8 (size, size), d' of every finding (nan where it is absent), and up to two boxes of each
    (findings, 2, 4).

    job: the scene, its contrasts (findings,): the share that is drawn of what each adds to the line integral, and
    the size.
    """
    scene, contrast, size = job
    a, known = scene.acquisitions[0], {}
    around, kinds = surroundings(scene.patient, a), [finding_index(f) for f in scene.findings]
    for side in (size, READING_SIZE):
        full = line_integral(compose(scene, a).volume, around.geometry, side, known)
        added = [
            full - line_integral(compose(scene, a, i).volume, around.geometry, side, known) for i in range(len(kinds))
        ]
        drawn = full - sum((1 - contrast[k]) * part for k, part in zip(kinds, added))
        scatter = scatter_field(around.coarse, around.share, side)
        mean = expected_photons(drawn, scatter, a.photons, around.geometry)
        if side == size:
            film = develop(mean, scene, a)
    dprime, boxes = np.full(len(NAMES), np.nan), np.zeros((len(NAMES), 2, 4), np.float32)
    for k, part in zip(kinds, added):
        without = expected_photons(drawn - contrast[k] * part, scatter, a.photons, around.geometry)
        if box := mask_box(np.abs(part) > max(0.1 * np.abs(part).max(), 0.01)):
            boxes[k, int(not np.isnan(dprime[k]))] = box
        dprime[k] = np.nanmax([dprime[k], np.sqrt(((mean - without) ** 2 / without).sum())])
    return film, dprime, boxes


def draw(n, seed, size, workers, often=(), faintest=1.0):
    """Films, d' and boxes, as `examine` gives them, of n patients, PA, at the balanced clinic.

    often: kinds that four patients in ten have. faintest: least contrast of the findings that are faded, every second.
    """
    rng = np.random.default_rng([seed, 1])
    contrast = faintest ** rng.random((n, len(NAMES)))
    contrast[rng.random(contrast.shape) < 0.5] = 1.0
    place = clinic("balanced", "A")
    place = replace(place, shares=place.shares | dict.fromkeys(often, 0.4))
    scenes = [visits[-1] for visits in sample_patients(range(n), seed, place, ("PA",))]
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        films = pool.map(examine, zip(scenes, contrast, repeat(size)), chunksize=50)
        return [np.stack(column) for column in zip(*tqdm(films, total=n, desc=f"films, seed {seed}", mininterval=2))]


class Namer(nn.Module):
    """The shipped film encoder; a map of scores for each finding on a grid of a quarter of the film's side, and
    one score of the film.

    The film's score adds what the whole says (mean and maximum of the last grid) and the best place of the map.
    """

    def __init__(self, width=64):
        super().__init__()
        self.encoder = ImageEncoder(load_backbone("tiny", "image"))
        sizes = self.encoder.backbone.config.hidden_sizes
        self.across = nn.ModuleList(nn.Conv2d(n, width, 1) for n in sizes)
        self.mix = nn.Sequential(
            *[
                part
                for _ in range(2)
                for part in (nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
            ]
        )
        self.places, self.whole = nn.Conv2d(width, len(NAMES), 1), nn.Linear(2 * sizes[-1], len(NAMES))
        self.weight = nn.Parameter(torch.ones(len(NAMES)))
        nn.init.constant_(self.places.bias, -4.0)

    def forward(self, films):
        pixels = ((films.float() / 255 - 0.5) / 0.25)[:, None]
        states = self.encoder.backbone(pixels, output_hidden_states=True).hidden_states[-3:]
        grid = self.across[2](states[2])
        for level in (1, 0):
            grid = F.interpolate(grid, states[level].shape[-2:], mode="bilinear") + self.across[level](states[level])
        places = self.places(self.mix(grid))
        whole = self.whole(torch.cat([states[2].mean((2, 3)), states[2].amax((2, 3))], 1))
        return whole + self.weight * places.flatten(2).amax(2), places


def focal(places, where, usual, gamma=2.0):
    """Focal loss of a map (B, findings, S, S) against 0/1.

    For each finding the sum over cells, by the cells usually covered, `usual` (findings,).
    """
    p, loss = places.sigmoid(), F.binary_cross_entropy_with_logits(places, where, reduction="none")
    loss = loss * torch.where(where > 0, 1 - p, p) ** gamma
    return (loss.sum((2, 3)).mean(0) / usual).mean()


def shifted(films, boxes, generator, reach=6):
    """Films moved by up to `reach` pixels each way, edges repeated, a little brighter or darker.

    Boxes (fractions) move along.
    """
    size = films.shape[-1]
    padded = F.pad(films[:, None].float(), (reach,) * 4, mode="replicate")[:, 0]
    moves = torch.randint(0, 2 * reach + 1, (len(films), 2), generator=generator)
    films = torch.stack([film[r : r + size, c : c + size] for film, (r, c) in zip(padded, moves.tolist())])
    gain = 1 + 0.15 * torch.randn(len(films), 1, 1, generator=generator)
    films = ((films - 128) * gain + 128 + 12 * torch.randn(len(films), 1, 1, generator=generator)).clamp(0, 255)
    by = (reach - moves.float())[:, [1, 0, 1, 0]] / size
    there = (boxes[..., 2:] > boxes[..., :2]).all(-1, keepdim=True)
    return films, torch.where(there, boxes + by[:, None, None], boxes)


def covered(boxes, size):
    """Which cells of a size x size grid lie in a finding's boxes: float (B, findings, size, size)."""
    edge = torch.arange(size + 1) / size
    low, high = edge[:-1], edge[1:]

    def along(first, last):
        return (
            (boxes[..., first, None] < high)
            & (boxes[..., last, None] > low)
            & (boxes[..., last, None] > boxes[..., first, None])
        )

    return (along(1, 3)[..., :, None] & along(0, 2)[..., None, :]).any(2).float()


def train(films, truth, boxes, epochs, seed, lr=2e-3, batch=48):
    """The classifier after `epochs` over the films: it learns which findings a film has, and where."""
    torch.manual_seed(seed)
    generator, model = torch.Generator().manual_seed(seed), Namer()
    heads = [p for name, p in model.named_parameters() if not name.startswith("encoder.")]
    optimiser = torch.optim.AdamW([{"params": model.encoder.parameters()}, {"params": heads}], weight_decay=0.05)
    steps = epochs * (len(films) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, [0.3 * lr, lr], steps)
    usual = torch.stack([covered(part, 32).sum((2, 3)).mean(0) for part in boxes.split(500)]).mean(0)
    model.train()
    bar = tqdm(total=steps, desc="training", mininterval=5)
    for _ in range(epochs):
        order = torch.randperm(len(films), generator=generator)
        for rows in order[: len(order) // batch * batch].split(batch):
            moved, where = shifted(films[rows], boxes[rows], generator)
            score, places = model(moved)
            loss = F.binary_cross_entropy_with_logits(score, truth[rows]) + 0.3 * focal(
                places, covered(where, places.shape[-1]), usual
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    bar.close()
    return model.eval()


def by_fifths(scores, dprime, parts=5):
    """One row for each finding.

    Median d' and area under the ROC curve in each fifth of d', and their rank correlation.
    """
    rows = []
    for k, name in enumerate(NAMES):
        there = np.flatnonzero(~np.isnan(dprime[:, k]))
        absent = scores[np.isnan(dprime[:, k]), k]
        there = there[np.argsort(dprime[there, k], kind="stable")]
        groups = np.array_split(there, parts)
        areas = [
            roc_auc_score(np.r_[np.ones(len(g)), np.zeros(len(absent))], np.r_[scores[g, k], absent]) for g in groups
        ]
        rows.append(
            {
                "finding": name,
                "films": len(there),
                "dprime": [float(np.median(dprime[g, k])) for g in groups],
                "area": [float(a) for a in areas],
                "rank_correlation": float(spearmanr(range(parts), areas)[0]) if len(set(areas)) > 1 else np.nan,
            }
        )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in dict(studies=6000, lesions=4000, test=8000, size=128, epochs=8, seed=0, workers=1).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--faintest", type=float, default=0.03, help="least contrast of the findings that are faded")
    parser.add_argument("--out", type=Path, help="file for settings and results, json")
    o = parser.parse_args()
    start = time.perf_counter()
    usual = draw(o.studies, o.seed + 1_000_003, o.size, o.workers, faintest=o.faintest)
    lesions = draw(o.lesions, o.seed + 3_000_003, o.size, o.workers, ("nodule", "rib fracture"))
    films, dprime, boxes = map(np.concatenate, zip(usual, lesions))
    test_films, test_dprime, _ = draw(o.test, o.seed + 2_000_003, o.size, o.workers, faintest=o.faintest)
    drawing, start = time.perf_counter() - start, time.perf_counter()
    model = train(
        torch.from_numpy(films), torch.from_numpy(~np.isnan(dprime)).float(), torch.from_numpy(boxes), o.epochs, o.seed
    )
    print(
        f"drawing {drawing:.0f} s on {o.workers} processes, "
        f"training {time.perf_counter() - start:.0f} s on {torch.get_num_threads()} threads"
    )
    with torch.inference_mode():
        scores = torch.cat([model(part)[0] for part in torch.from_numpy(test_films).split(200)]).numpy()
    rows = by_fifths(scores, test_dprime)
    print(f"{'finding':22s} films  median d' of each fifth             area under the ROC curve       rank correlation")
    for r in rows:
        dprimes = " ".join(f"{d:6.0f}" for d in r["dprime"])
        areas = " ".join(f"{a:5.3f}" for a in r["area"])
        print(f"{r['finding']:22s} {r['films']:5d}  {dprimes}   {areas}   {r['rank_correlation']:6.2f}")
    mean, least = np.nanmean([r["rank_correlation"] for r in rows]), min(rows, key=lambda r: r["area"][-1])
    print(f"rank correlation, mean of {len(rows)} findings: {mean:.3f}")
    print(f"smallest area in the highest fifth: {least['area'][-1]:.3f} ({least['finding']})")
    if o.out:
        settings = {name: value for name, value in vars(o).items() if name not in ("out", "workers")}
        write_json({"settings": settings, "findings": rows, "mean_rank_correlation": mean}, o.out)


if __name__ == "__main__":
    main()
