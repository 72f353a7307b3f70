"""CLIP on the simulated clinic: trained at one site, tested at both: python benchmarks/two_sites.py OUT [--train A B]

Makes 2,400 training studies (and 200 to choose the epoch by) of balanced site A, and 400 test studies, one per
patient, of each of four places: balanced A and B, natural A and B. Site B has other words, exposure and prevalence;
`natural` has the prevalence of published collections. Trains CLIP on the shipped tiny pair for 10 epochs and prints
recall in both directions with 95 % intervals (patients drawn) and chance. `--train A B` trains at B too, which tells
how much of what is lost between sites is the site and how much the other set's difficulty. What is made stays in OUT
and is not made twice.

About four minutes on two cores for one site, alone on the machine.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd

from medret_nb.cli.summary import markdown, measure_points
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.methods.table import load_method
from medret_nb.phantom.dictation import FORMS
from medret_nb.phantom.phantom import make_phantom
from medret_nb.retrieval.embeddings import embed
from medret_nb.training.loop import TrainConfig, fit

PLACES = [("balanced", "A"), ("balanced", "B"), ("natural", "A"), ("natural", "B")]


def made(out, counts, prevalence, site, o):
    """A phantom of this place; every study has a text."""
    folder = Path(out) / f"{prevalence}-{site}-{'-'.join(counts)}"
    return make_phantom(
        counts,
        o.seed,
        o.size,
        folder,
        prevalence,
        site,
        one_study_per_patient=("test",),
        forms=replace(FORMS[prevalence, site], neither=0.0),
        workers=o.workers,
    )


def trained(out, site, o):
    """CLIP trained at a site of balanced prevalence."""
    run = Path(out) / f"run-{site}"
    studies = made(out, {"train": o.studies, "val": 200}, "balanced", site, o)
    if not (run / "model.safetensors").is_file() or not (run / "done").is_file():
        fit(
            CLIP.create(CLIPConfig(size=o.size), seed=o.seed),
            studies,
            TrainConfig(epochs=o.epochs, seed=o.seed),
            run,
            resume=True,
        )
        (run / "done").touch()
    return load_method(run)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", nargs="+", default=["A"], choices=["A", "B"])
    for name, value in dict(studies=2400, test=400, size=64, epochs=10, seed=4_021, workers=2).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    o = parser.parse_args()
    tests = {place: made(o.out, {"test": o.test}, *place, o) for place in PLACES}
    tables = []
    for site in o.train:
        method = trained(o.out, site, o)
        for place, studies in tests.items():
            points = embed(method, studies, "test", progress=False)
            for protocol in ("exact", "text", "fits-closed"):
                found = measure_points(points, studies.split("test"), protocol, verbose=False)
                tables.append(found.table().assign(trained=f"balanced {site}", tested=" ".join(place)))
    table = pd.concat(tables, ignore_index=True)
    table.to_csv(o.out / "two_sites.csv", index=False)
    few = table[table["metric"].isin(["R@1", "R@10"]) & table["scorer"].eq("model")]
    print(
        markdown(
            few[
                [
                    "trained",
                    "tested",
                    "protocol",
                    "direction",
                    "metric",
                    "value",
                    "low",
                    "high",
                    "chance",
                    "queries",
                    "gallery",
                    "duplicate_share",
                ]
            ]
        )
    )


if __name__ == "__main__":
    main()
