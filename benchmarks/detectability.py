"""Does detectability mean something? A small classifier, trained on truth, against d': python benchmarks/detectability.py

Draws fresh simulated patients (one PA film each), fine-tunes the shipped film encoder to name what each scene holds and
where, and asks on other patients how well it finds each finding among the films without it: the area under the ROC curve
in each fifth of the finding's detectability d' (64-pixel counts, as visibility.parquet has it). If d' means something the
area rises with it. Pneumonia and consolidation share one picture by intent, so they count as one finding here. Prints the
table, the rank correlation of fifth and area for each finding (none where all areas are equal), its mean over findings,
and over those whose lowest fifth leaves room to rise; with `--out` writes it all as json.

Small things are hard to learn from few examples, and the question is what can be seen, not what can be learned from few. So the
classifier also trains on `--lesions` films of patients who have nodules and rib fractures more often (the test patients do not), and
names places on a fine grid (a feature pyramid, Lin et al. 2017, with the focal loss of Lin et al. 2017b, each finding with equal weight).

At the usual dose the classifier finds most things always, however low their d', and there is nothing left to rise. `--dose 0.003` draws
films of a three-hundredth of the usual dose up to all of it, so that d' of every finding spans an order of magnitude more.

About fifteen minutes of one core: three to draw 12,000 films, the rest to train. The same seed and threads give the same table.
"""
import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from medret_nb.data.findings import render
from medret_nb.data.scenes import KINDS, clinic, sample_patients
from medret_nb.data.truth import measure
from medret_nb.methods.encoders import ImageEncoder, load_backbone

NAMES = [k for k in KINDS if k != "pneumonia"]
SHARED = {"pneumonia": "consolidation"}


def draw(n, seed, size, often=(), least=1.0):
    """Films uint8 (n, size, size), the d' of every finding, float (n, findings), nan where it is absent, and up to two boxes of each.

    One patient each, PA, at the balanced clinic; `often`: kinds that four patients in ten have; `least`: doses from this share of the
    usual one up to it, evenly in their logarithm.
    """
    share = least ** np.random.default_rng(seed).random(n)
    place = clinic("balanced", "A")
    place = replace(place, shares=place.shares | dict.fromkeys(often, 0.4))
    scenes = [visits[-1] for visits in sample_patients(range(n), seed, place, ("PA",))]
    films, dprime = np.empty((n, size, size), np.uint8), np.full((n, len(NAMES)), np.nan)
    boxes = np.zeros((n, len(NAMES), 2, 4), np.float32)
    for row, scene in enumerate(tqdm(scenes, desc=f"films, seed {seed}", mininterval=2)):
        a, known = replace(scene.acquisitions[0], photons=scene.acquisitions[0].photons * share[row]), {}
        films[row] = render(scene, a, size, known)
        measured, places = measure(scene, a, known=known)
        for i, d in measured.items():
            f = scene.findings[i]
            k = NAMES.index(SHARED.get(f.name, f.kind or f.name))
            if places[i] is not None:
                boxes[row, k, int(not np.isnan(dprime[row, k]))] = places[i]
            dprime[row, k] = np.nanmax([dprime[row, k], d])
    return films, dprime, boxes


class Namer(nn.Module):
    """The shipped film encoder; a map of scores for each finding on a grid of a quarter of the film's side, and one score of the film.

    The film's score adds what the whole says (mean and maximum of the last grid) and the best place of the map.
    """
    def __init__(self, width=64):
        super().__init__()
        self.encoder = ImageEncoder(load_backbone("tiny", "image"))
        sizes = self.encoder.backbone.config.hidden_sizes
        self.across = nn.ModuleList(nn.Conv2d(n, width, 1) for n in sizes)
        self.mix = nn.Sequential(*[part for _ in range(2) for part in (nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())])
        self.places, self.whole = nn.Conv2d(width, len(NAMES), 1), nn.Linear(2 * sizes[-1], len(NAMES))
        self.weight = nn.Parameter(torch.ones(len(NAMES)))
        nn.init.constant_(self.places.bias, -4.0)

    def forward(self, films):
        pixels = ((films.float() / 255 - 0.5) / 0.25)[:, None]
        states = self.encoder.backbone(pixels, output_hidden_states=True).hidden_states[-3:]
        grid = self.across[2](states[2])
        for level in (1, 0): grid = F.interpolate(grid, states[level].shape[-2:], mode="bilinear") + self.across[level](states[level])
        places = self.places(self.mix(grid))
        whole = self.whole(torch.cat([states[2].mean((2, 3)), states[2].amax((2, 3))], 1))
        return whole + self.weight * places.flatten(2).amax(2), places


def focal(places, where, usual, gamma=2.0):
    """Focal loss of a map (B, findings, S, S) against 0/1: for each finding the sum over cells, by the cells usually covered, `usual` (findings,)."""
    p, loss = places.sigmoid(), F.binary_cross_entropy_with_logits(places, where, reduction="none")
    loss = loss * torch.where(where > 0, 1 - p, p) ** gamma
    return (loss.sum((2, 3)).mean(0) / usual).mean()


def shifted(films, boxes, generator, reach=6):
    """Films moved by up to `reach` pixels each way, edges repeated, a little brighter or darker; boxes (fractions) move along."""
    size = films.shape[-1]
    padded = F.pad(films[:, None].float(), (reach,) * 4, mode="replicate")[:, 0]
    moves = torch.randint(0, 2 * reach + 1, (len(films), 2), generator=generator)
    films = torch.stack([film[r:r + size, c:c + size] for film, (r, c) in zip(padded, moves.tolist())])
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
        return (boxes[..., first, None] < high) & (boxes[..., last, None] > low) & (boxes[..., last, None] > boxes[..., first, None])
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
        for rows in order[:len(order) // batch * batch].split(batch):
            moved, where = shifted(films[rows], boxes[rows], generator)
            score, places = model(moved)
            loss = F.binary_cross_entropy_with_logits(score, truth[rows]) + 0.3 * focal(places, covered(where, places.shape[-1]), usual)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    bar.close()
    return model.eval()


def by_fifths(scores, dprime, parts=5):
    """One row for each finding: median d' and area under the ROC curve in each fifth of d', and their rank correlation."""
    rows = []
    for k, name in enumerate(NAMES):
        there = np.flatnonzero(~np.isnan(dprime[:, k]))
        absent = scores[np.isnan(dprime[:, k]), k]
        there = there[np.argsort(dprime[there, k], kind="stable")]
        groups = np.array_split(there, parts)
        areas = [roc_auc_score(np.r_[np.ones(len(g)), np.zeros(len(absent))], np.r_[scores[g, k], absent]) for g in groups]
        rows.append({"finding": name, "films": len(there), "dprime": [float(np.median(dprime[g, k])) for g in groups],
                     "area": [float(a) for a in areas], "rank_correlation": float(spearmanr(range(parts), areas)[0]) if len(set(areas)) > 1 else np.nan})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in dict(studies=5000, lesions=3000, test=4000, size=128, epochs=10, seed=0).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--dose", type=float, default=1.0, help="least share of the usual dose; all up to it are drawn")
    parser.add_argument("--out", type=Path, help="folder for films.npz, drawn once, and detectability.json")
    o = parser.parse_args()
    kept = o.out and o.out / "films.npz"
    start = time.process_time()
    if kept and kept.is_file():
        data = dict(np.load(kept, allow_pickle=False))
    else:
        parts = {"train": [draw(o.studies, o.seed + 1_000_003, o.size, (), o.dose),
                           draw(o.lesions, o.seed + 3_000_003, o.size, ("nodule", "rib fracture"), o.dose)],
                 "test": [draw(o.test, o.seed + 2_000_003, o.size, (), o.dose)]}
        data = {f"{part}_{what}": np.concatenate(values) for part, drawn in parts.items() for what, values in zip(("films", "dprime", "boxes"), zip(*drawn))}
        if kept:
            o.out.mkdir(parents=True, exist_ok=True)
            np.savez(kept, **data)
    print(f"films: {time.process_time() - start:.0f} s of processor time")
    start, truth = time.process_time(), torch.from_numpy((~np.isnan(data["train_dprime"])).astype(np.float32))
    model = train(torch.from_numpy(data["train_films"]), truth, torch.from_numpy(data["train_boxes"]), o.epochs, o.seed)
    print(f"training: {time.process_time() - start:.0f} s of processor time")
    with torch.inference_mode():
        scores = torch.cat([model(part)[0] for part in torch.from_numpy(data["test_films"]).split(200)]).numpy()
    rows = by_fifths(scores, data["test_dprime"])
    print(f"{'finding':22s} films  median d' of each fifth             area under the ROC curve       rank correlation")
    for r in rows:
        print(f"{r['finding']:22s} {r['films']:5d}  {' '.join(f'{d:6.0f}' for d in r['dprime'])}   {' '.join(f'{a:5.3f}' for a in r['area'])}   {r['rank_correlation']:6.2f}")
    room = [r["rank_correlation"] for r in rows if r["area"][0] < 0.98]
    mean, mean_room, least = np.nanmean([r["rank_correlation"] for r in rows]), np.mean(room or [np.nan]), min(rows, key=lambda r: r["area"][-1])
    pooled = spearmanr([d for r in rows for d in r["dprime"]], [a for r in rows for a in r["area"]])[0]
    print(f"rank correlation, mean of {len(rows)} findings: {mean:.3f}; of the {len(room)} whose lowest fifth leaves room to rise (area below 0.98): {mean_room:.3f}; "
          f"of all {5 * len(rows)} fifths together: {pooled:.3f}")
    print(f"smallest area in the highest fifth: {least['area'][-1]:.3f} ({least['finding']})")
    if o.out:
        found = {"settings": vars(o) | {"out": str(o.out)}, "findings": rows, "mean_rank_correlation": mean, "mean_where_there_is_room": mean_room, "pooled": pooled}
        (o.out / "detectability.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
