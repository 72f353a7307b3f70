"""Reports: true where the observer did not err, shaped as configured, the same for the same key."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from medret_nb.phantom.assertions import report_fits
from medret_nb.phantom.dictation import FORMS, Forms, dictate
from medret_nb.phantom.scenes import Finding, Patient, Scene, clinic
from medret_nb.phantom.patients import sample_patients, sample_scenes
from medret_nb.phantom.observer import PERFECT, Observer

FAINT = {"nodule": 25.0, "rib fracture": 35.0, "endotracheal tube": 20.0, "central line": 55.0, "gastric tube": 80.0}


def visible(scene):
    """Detectabilities near those measured on rendered films: faint things around 30, most others in the hundreds."""
    return [
        30.0 if (f.name, f.severity) == ("pleural effusion", 1) else FAINT.get(f.kind or f.name, 250.0)
        for f in scene.findings
    ]


def dictated(n, prevalence, site, seed=0):
    """The last visit of n patients and its report."""
    place, out = clinic(prevalence, site), []
    for index, visits in enumerate(sample_patients(range(n), seed, place)):
        prior = visits[-2] if len(visits) > 1 else None
        out.append(
            (
                visits[-1],
                dictate(
                    visits[-1],
                    (seed, index, len(visits) - 1),
                    site,
                    prior,
                    visible(visits[-1]),
                    forms=FORMS[prevalence, site],
                ),
            )
        )
    return out


@pytest.fixture(scope="module")
def natural():
    return {site: dictated(4000, "natural", site) for site in "AB"}


@pytest.mark.parametrize("site", "AB")
@pytest.mark.parametrize("reading", ["open", "closed"])
def test_a_report_without_errors_fits_its_scene(natural, site, reading):
    pairs = natural[site][:1500]
    fits = [report_fits([r.assertions], [s], reading)[0, 0] for s, r in pairs]
    assert all(f for f, (_, r) in zip(fits, pairs) if not r.errors)
    assert np.mean(fits) < 1 and any(r.errors for _, r in pairs)


@pytest.mark.parametrize("site", "AB")
def test_label_shares_are_the_published_ones(natural, site):
    labels = Counter(k for _, r in natural[site] for k, v in r.labels.items() if v == 1)
    for name, share in clinic("natural", site).published.items():
        assert labels[name] / 4000 == pytest.approx(share, abs=0.02), name


@pytest.mark.parametrize("site", "AB")
def test_shapes_are_the_published_ones(natural, site):
    forms, reports = FORMS["natural", site], [r for _, r in natural[site]][:3955]
    share = lambda rule: np.mean([bool(rule(r)) for r in reports])
    assert share(lambda r: not r.findings and r.impression) == pytest.approx(forms.impression_only, abs=0.02)
    assert share(lambda r: r.findings and not r.impression) == pytest.approx(forms.findings_only, abs=0.01)
    assert share(lambda r: not r.findings and not r.impression) == pytest.approx(forms.neither, abs=0.01)
    texts = [" ".join(re.sub(r"\bxxxx\b|[\W_]+", " ", f"{r.findings} {r.impression}".lower()).split()) for r in reports]
    count = Counter(t for t in texts if t)
    assert sum(v for v in count.values() if v > 1) / sum(count.values()) == pytest.approx(forms.identical, abs=0.02)


def test_normal_share_of_site_b(natural):
    from medret_nb.phantom.phrases import INCIDENTAL

    def normal(r):
        told = any(v in (1, -1) for k, v in r.labels.items() if k != "No Finding")
        return not told and not any(s.text.removeprefix("Bones: ") in INCIDENTAL["B"] for _, s in r.sentences)

    assert np.mean([normal(r) for _, r in natural["B"]]) == pytest.approx(0.352, abs=0.02)


WORDS = {
    "Pleural Effusion": r"effusion|pleural fluid",
    "Pneumothorax": r"pneumothora|pleural air",
    "Edema": r"edema|congesti",
}
NO = r"^(\w+(/\w+)?: )?(\d+\. )?(no |there is no|negative for|without|no evidence)|resol|cleared|previously seen"
MAYBE = r"possible|questionable|may be|excluded|suspected|equivocal|probable"


@pytest.mark.parametrize("site", "AB")
def test_text_and_assertions_agree(natural, site):
    """An independent labeller that knows nothing of the grammar reads the same from the text."""
    wrong = Counter()
    for _, report in natural[site][:1500]:
        for name, word in WORDS.items():
            values = set()
            for _, s in report.sentences:
                text = s.text.lower()
                if re.search(word, text):
                    values.add(0 if re.search(NO, text) else -1 if re.search(MAYBE, text) else 1)
            read = 1 if 1 in values else -1 if -1 in values else 0 if 0 in values else None
            wrong[name] += read != report.labels[name]
    assert max(wrong.values()) <= 15, wrong  # 1 %


def test_same_key_same_report_and_other_keys_differ():
    scenes = sample_scenes(40, 2)
    again = [[dictate(s, key=(2, i)) for i, s in enumerate(scenes)] for _ in range(2)]
    assert again[0] == again[1]
    other = [dictate(s, key=(3, i)) for i, s in enumerate(scenes)]
    assert sum(a.findings != b.findings for a, b in zip(again[0], other)) > 25


def test_a_removed_finding_leaves_the_other_sentences():
    both = Scene(
        Patient(1, age=50),
        (Finding("pleural effusion", "right", severity=2), Finding("rib fracture", "left", "mid", 3)),
    )
    one = replace(both, findings=both.findings[1:])
    kept = []
    for i in range(40):
        a, b = (
            dictate(s, key=(i,), observer=PERFECT, forms=Forms(neither=0, impression_only=0)) for s in (both, one)
        )
        told = lambda r: {
            s.text for _, s in r.sentences if any(c.finding == "rib fracture" and c.present for c in s.claims)
        }
        strip = lambda texts: {re.sub(r"^(\d+\.|Bones:) ", "", t) for t in texts}
        kept.append(strip(told(a)) == strip(told(b)))
        assert not any(c.finding == "pleural effusion" and c.present for c in b.assertions)
    assert all(kept)


def test_only_the_indication_tells_pneumonia_from_consolidation():
    fever = r"fever|chills|infection"
    for i in range(60):
        for kind in ("pneumonia", "consolidation"):
            r = dictate(Scene(Patient(i), (Finding(kind, "left", "lower", 2),)), key=(i,))
            assert bool(re.search(fever, r.indication.lower())) == (kind == "pneumonia")


def test_sections_and_marks_of_the_sites():
    for site, mark, foreign in (("A", "___", "XXXX"), ("B", "XXXX", "___")):
        reports = [dictate(s, key=(i,), site=site, prior=s) for i, s in enumerate(sample_scenes(60, 3, site=site))]
        text = " ".join(f"{r.indication} {r.comparison} {r.technique} {r.findings} {r.impression}" for r in reports)
        assert mark in text and foreign not in text
        assert all(mark in r.comparison for r in reports) and all(r.indication and r.technique for r in reports)
    first = dictate(sample_scenes(1, 3)[0], prior=None)
    assert first.comparison.lower().startswith(("none", "no prior"))
    with pytest.raises(ValueError, match="site"):
        dictate(sample_scenes(1, 3)[0], site="C")


def test_sites_speak_differently():
    vocabulary = [
        {
            w
            for s, r in dictated(300, "balanced", site, 1)
            for w in re.findall(r"[a-z]+", (r.findings + r.impression).lower())
        }
        for site in "AB"
    ]
    shared = len(vocabulary[0] & vocabulary[1]) / len(vocabulary[0] | vocabulary[1])
    assert 0.2 < shared < 0.7


def test_templates_repeat_and_only_where_nothing_was_seen():
    forms = Forms(templated=1.0, doctors=2, templates=2, incidental=0, impression_only=0, findings_only=0, neither=0)
    healthy = [dictate(Scene(Patient(i)), key=(i,), forms=forms, observer=PERFECT) for i in range(200)]
    assert (
        all(r.templated and r.labels["No Finding"] == 1 for r in healthy)
        and len({r.findings + r.impression for r in healthy}) <= 4
    )
    sick = [
        dictate(s, key=(i,), forms=forms, observer=PERFECT)
        for i, s in enumerate(sample_scenes(100, 1))
        if s.findings
    ]
    assert not any(r.templated for r in sick)


def test_assertions_point_at_their_sentence():
    for scene, r in dictated(200, "balanced", "A", 7):
        for a in r.assertions:
            section, sentence = r.sentences[a.sentence]
            assert section == a.section and sentence.text in getattr(r, section)
            assert replace(a, section="findings", sentence=0) in sentence.claims
        assert all(
            s.determined in ("image", "partly", "no") and (s.determined != "no" or not s.claims) for _, s in r.sentences
        )
        assert isinstance(r.bits, float) and r.bits > 0


def test_errors_come_at_the_stated_rate():
    pairs = dictated(3000, "balanced", "A", 5)
    findings = sum(len(s.findings) for s, _ in pairs)
    missed = sum(e["error"] == "missed" for _, r in pairs for e in r.errors)
    expected = sum(1 - Observer().sees(d) for scene, _ in pairs for d in visible(scene))
    assert missed == pytest.approx(expected, abs=4 * expected**0.5) and 0.02 < missed / findings < 0.1
