"""How often the 95 % intervals of this package hold the truth, and how often percentiles would.

Patients with one to five films each, several hundred worlds: recall, a paired difference of two models that differ in
few queries, AUROC and AURC of a confidence; and claims whose effect is exactly the margin, with trainings that spread.

    python benchmarks/interval_coverage.py --worlds 400
"""

import argparse

import numpy as np
from scipy import stats

from medret_nb.evaluation.intervals import (
    bootstrap_draws,
    bootstrap_interval,
    interval,
    paired_bootstrap,
    resampled_rows,
)
from medret_nb.evaluation.reliability import aurc, auroc, reliability_interval
from medret_nb.evaluation.seeds import combined_luck

LIMIT = 1.35  # of ease plus luck: about 17 % of the films are found
FLIPPED = 0.02  # queries that the second model answers differently
DRAWS = 300


def films(rng: np.random.Generator, patients: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Patient, hits of two models and the first one's confidence, of one world's films."""
    who = np.repeat(np.arange(patients), rng.integers(1, 6, patients))
    ease = rng.normal(size=patients)[who]
    hits = (ease + rng.normal(size=len(who)) > LIMIT).astype(float)
    other = np.where(rng.random(len(who)) < FLIPPED, 1 - hits, hits)
    sure = 0.8 * hits + 0.5 * ease + rng.normal(size=len(who))
    return who, hits, other, sure


def percentiles_of(statistic, hits, sure, who, seed):
    """The percentile interval of a statistic of hits and confidence."""
    drawn = []
    for rows in resampled_rows(who, len(who), DRAWS, seed):
        drawn.append(statistic(hits[rows], sure[rows]) if 0 < hits[rows].sum() < len(rows) else np.nan)
    return interval(np.array(drawn))


def both_forms(world: tuple, seed: int) -> dict[str, tuple]:
    """Quantity -> (percentile interval, this package's interval) of one world."""
    who, hits, other, sure = world
    pair = paired_bootstrap(hits, other, who, DRAWS, seed)
    found = {
        "R@10": (interval(bootstrap_draws(hits, who, DRAWS, seed)), bootstrap_interval(hits, who, DRAWS, seed)),
        "difference": (interval(bootstrap_draws(other - hits, who, DRAWS, seed)), (pair.low, pair.high)),
    }
    for statistic in (auroc, aurc):
        ours = reliability_interval(statistic, hits, sure, who, DRAWS, seed)
        found[statistic.__name__] = (percentiles_of(statistic, hits, sure, who, seed), ours)
    return found


def coverage(patients: int, worlds: int, truth: dict[str, float]) -> None:
    """Print a line of the table for each quantity."""
    rng = np.random.default_rng(patients)
    held: dict[str, list] = {name: [] for name in truth}
    for seed in range(worlds):
        for name, (before, now) in both_forms(films(rng, patients), seed).items():
            held[name].append([before[0] <= truth[name] <= before[1], now[0] <= truth[name] <= now[1], now[0]])
    for name, rows in held.items():
        table = np.array(rows, float)
        known = np.isfinite(table[:, 2])
        few = worlds - int(known.sum())
        print(f"| {name} | {patients} | {table[:, 0].mean():.3f} | {table[known, 1].mean():.3f} | {few} of {worlds} |")


def claims(spread: float, worlds: int, queries: int = 2000, seeds: int = 3, margin: float = 0.02) -> None:
    """Print how often an effect that equals the margin is called larger, and how often the interval holds it."""
    rng = np.random.default_rng(int(1e4 * spread))
    larger = []
    covered = []
    for _ in range(worlds):
        ease = rng.normal(0, np.sqrt(0.5), queries)
        own = rng.normal(0, np.sqrt(0.1), (2, 1, queries))
        luck = rng.normal(0, np.sqrt(0.4), (2, seeds, queries))
        recall = np.array([[0.15] * seeds, [0.15 + margin] * seeds]) + rng.normal(0, spread / np.sqrt(2), (2, seeds))
        hits = (ease + own + luck > stats.norm.isf(recall)[:, :, None]).astype(float)
        pair = paired_bootstrap(hits[0].mean(0), hits[1].mean(0), n=DRAWS)
        both = combined_luck(pair.value, pair.low, pair.high, queries, (hits[1] - hits[0]).mean(1))
        larger.append([pair.low > margin, both.low > margin])
        covered.append([pair.low <= margin <= pair.high, both.low <= margin <= both.high])
    said = np.mean(larger, 0)
    held = np.mean(covered, 0)
    print(f"| {spread:g} | {said[0]:.3f} | {said[1]:.3f} | {held[0]:.3f} | {held[1]:.3f} |")


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=400, help="how many are drawn")
    worlds = parser.parse_args().worlds
    _, hits, _, sure = films(np.random.default_rng(99), 200_000)
    recall = stats.norm.sf(LIMIT / np.sqrt(2))
    truth = {"R@10": recall, "difference": FLIPPED * (1 - 2 * recall)}
    truth |= {"auroc": auroc(hits, sure), "aurc": aurc(hits, sure)}
    print("| quantity | patients | percentiles | now | too few |\n|---|---|---|---|---|")
    for patients in (30, 100, 300):
        coverage(patients, worlds, truth)
    print("\n| spread of trainings | larger, patients | larger, both | covered, patients | covered, both |")
    print("|---|---|---|---|---|")
    for spread in (0.0, 0.006, 0.012):
        claims(spread, worlds)


if __name__ == "__main__":
    main()
