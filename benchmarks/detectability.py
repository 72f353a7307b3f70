"""Does detectability mean something? A small classifier, trained on truth, against d': python benchmarks/detectability.py

Draws fresh simulated patients (one PA film each), fine-tunes the shipped film encoder to name what each scene holds and
where, and asks on other patients how well it finds each finding among the films without it: the area under the ROC curve
in each fifth of the finding's detectability d' (64-pixel counts, as visibility.parquet has it). If d' means something the
area rises with it. Pneumonia and consolidation share one picture by intent, so they count as one finding here. Prints the
table, the rank correlation of fifth and area for each finding (none where all areas are equal), its mean over findings,
and over those whose lowest fifth leaves room to rise; with `--out` writes it all as json.

About ten minutes of one core: two to draw 9,000 films, eight to train. The same seed and threads give the same table.
"""
import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from medret_nb.data.findings import render
from medret_nb.data.scenes import KINDS, sample_scenes
from medret_nb.data.truth import measure
from medret_nb.methods.encoders import ImageEncoder, load_backbone

NAMES = [k for k in KINDS if k != "pneumonia"]
SHARED = {"pneumonia": "consolidation"}


def draw(n, seed, size):
    """Films uint8 (n, size, size), the d' of every finding, float (n, findings), nan where it is absent, and up to two boxes of each."""
    films, dprime = np.empty((n, size, size), np.uint8), np.full((n, len(NAMES)), np.nan)
    boxes = np.zeros((n, len(NAMES), 2, 4), np.float32)
    for row, scene in enumerate(tqdm(sample_scenes(n, seed, views=("PA",)), desc=f"films, seed {seed}", mininterval=2)):
        a, known = scene.acquisitions[0], {}
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
    """The shipped film encoder; a map of scores for each finding on its middle grid, and one score of the film.

    The film's score adds what the whole says (mean and maximum of the last grid) and the best place of the map.
    """
    def __init__(self):
        super().__init__()
        self.encoder = ImageEncoder(load_backbone("tiny", "image"))
        last, middle = self.encoder.backbone.config.hidden_sizes[-1], self.encoder.backbone.config.hidden_sizes[-2]
        self.mix = nn.Conv2d(last + middle, 128, 3, padding=1)
        self.places, self.whole = nn.Conv2d(128, len(NAMES), 1), nn.Linear(2 * last, len(NAMES))
        self.weight = nn.Parameter(torch.ones(len(NAMES)))
        nn.init.constant_(self.places.bias, -3.0)

    def forward(self, films):
        pixels = ((films.float() / 255 - 0.5) / 0.25)[:, None]
        states = self.encoder.backbone(pixels, output_hidden_states=True).hidden_states
        middle, last = states[-2], states[-1]
        grid = torch.cat([middle, F.interpolate(last, middle.shape[-2:], mode="bilinear")], 1)
        places = self.places(F.relu(self.mix(grid)))
        whole = self.whole(torch.cat([last.mean((2, 3)), last.amax((2, 3))], 1))
        return whole + self.weight * places.flatten(2).logsumexp(2), places


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
    optimiser = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.05)
    steps = epochs * (len(films) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, steps)
    model.train()
    bar = tqdm(total=steps, desc="training", mininterval=5)
    for _ in range(epochs):
        order = torch.randperm(len(films), generator=generator)
        for rows in order[:len(order) // batch * batch].split(batch):
            moved, where = shifted(films[rows], boxes[rows], generator)
            score, places = model(moved)
            local = F.binary_cross_entropy_with_logits(places, covered(where, places.shape[-1]), pos_weight=torch.tensor(4.0))
            loss = F.binary_cross_entropy_with_logits(score, truth[rows]) + local
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
    for name, value in dict(studies=5000, test=4000, size=128, epochs=12, seed=0).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--out", type=Path, help="folder for films.npz, drawn once, and detectability.json")
    o = parser.parse_args()
    kept = o.out and o.out / "films.npz"
    start = time.process_time()
    if kept and kept.is_file():
        data = dict(np.load(kept, allow_pickle=False))
    else:
        data = {f"{part}_{what}": value for part, n, seed in (("train", o.studies, o.seed + 1_000_003), ("test", o.test, o.seed + 2_000_003))
                for what, value in zip(("films", "dprime", "boxes"), draw(n, seed, o.size))}
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
