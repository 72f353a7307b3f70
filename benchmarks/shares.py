"""What the simulated reports say against what was published: python benchmarks/shares.py [--studies N] [--site A|B]

Draws patients of the `natural` clinic, measures how visible every finding of theirs is on every film (without drawing
the films), has the reports dictated as `medret data phantom --prevalence natural` would, and prints for each label
the share of reports that assert it, the published share, and their difference in points with its standard error
(patients are what is drawn, so studies of one patient count together). Below it the forms of the reports, and the
share of identical texts among the first 3,955 reports, the size of the collection whose figure is published. The
numbers that are compared stand in `medret_nb.phantom.scenes.CLINICS` and `medret_nb.phantom.dictation.FORMS`, with
their sources.

Two minutes for 6,000 studies on one core.
"""

import argparse

import numpy as np
import pandas as pd
from tqdm import tqdm

from medret_nb.data.reports import normalise_text
from medret_nb.phantom.dictation import FORMS, dictate
from medret_nb.phantom.patients import sample_patients
from medret_nb.phantom.scenes import clinic
from medret_nb.phantom.truth import best_dprime, visibility_of


def reports_of_site(n, site, seed=0):
    """n reports of whole patients of natural site `site`, and the patient of each."""
    place, reports, patients = clinic("natural", site), [], []
    with tqdm(total=n, desc=f"reports of site {site}", mininterval=2) as bar:
        for start in range(0, n, 100):
            for i, visits in zip(range(start, start + 100), sample_patients(range(start, start + 100), seed, place)):
                for v, scene in enumerate(visits):
                    films = [{"dprime": visibility_of(scene, a)[0]} for a in scene.acquisitions]
                    dprime = best_dprime(films, len(scene.findings))
                    reports.append(
                        dictate(
                            scene,
                            (seed, i, v),
                            site,
                            visits[v - 1] if v else None,
                            dprime,
                            forms=FORMS["natural", site],
                        )
                    )
                    patients.append(i)
                    bar.update()
                    if len(reports) == n:
                        return reports, np.array(patients)


def error(values, patients):
    """Standard error of a mean over studies, patients drawn: of the ratio of sums."""
    frame = pd.DataFrame({"off": values - values.mean(), "patient": patients}).groupby("patient")["off"].sum()
    return float(np.sqrt((frame**2).sum()) / len(values))


def identical(reports):
    """Share of reports, those without a text left out, whose words another report has too."""
    texts = pd.Series([normalise_text(f"{r.findings} {r.impression}") for r in reports])
    texts = texts[texts != ""]
    return float(texts.duplicated(keep=False).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=6000)
    parser.add_argument("--site", default="A", choices=["A", "B"])
    parser.add_argument("--seed", type=int, default=0)
    o = parser.parse_args()
    reports, patients = reports_of_site(o.studies, o.site, o.seed)
    place, forms = clinic("natural", o.site), FORMS["natural", o.site]
    print(f"{len(reports)} reports of {len(set(patients))} patients; published: {place.source}")
    rows = [
        (name, np.array([r.labels[name] == 1 for r in reports], float), share)
        for name, share in place.published.items()
    ]
    whole = {
        "impression only": (lambda r: not r.findings and r.impression, forms.impression_only),
        "findings only": (lambda r: r.findings and not r.impression, forms.findings_only),
        "neither": (lambda r: not r.findings and not r.impression, forms.neither),
    }
    rows += [(name, np.array([bool(rule(r)) for r in reports], float), share) for name, (rule, share) in whole.items()]
    print(f"{'share of reports, %':28s} here published  points  standard error")
    for name, values, share in rows:
        here = 100 * values.mean()
        there = 100 * share
        spread = 100 * error(values, patients)
        print(f"{name:28s} {here:5.1f}     {there:5.1f}   {here - there:+5.1f}            {spread:5.2f}")
    here = 100 * identical(reports[:3955])
    there = 100 * forms.identical
    print(f"{'identical, of 3,955':28s} {here:5.1f}     {there:5.1f}   {here - there:+5.1f}     ({forms.source})")


if __name__ == "__main__":
    main()
