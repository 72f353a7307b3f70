"""Reports: true where the observer did not err, shaped as configured, the same for the same key."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from medret_nb.phantom.assertions import report_fits
from medret_nb.phantom.dictation import FORMS, Forms, dictate
from medret_nb.phantom.observer import PERFECT, Observer
from medret_nb.phantom.patients import sample_patients, sample_scenes
from medret_nb.phantom.phrases import INCIDENTAL
from medret_nb.phantom.scenes import Finding, Patient, Scene, clinic

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
        scene = visits[-1]
        prior = visits[-2] if len(visits) > 1 else None
        key = (seed, index, len(visits) - 1)
        out.append((scene, dictate(scene, key, site, prior, visible(scene), forms=FORMS[prevalence, site])))
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

    def share(rule):
        return np.mean([bool(rule(r)) for r in reports])

    assert share(lambda r: not r.findings and r.impression) == pytest.approx(forms.impression_only, abs=0.02)
    assert share(lambda r: r.findings and not r.impression) == pytest.approx(forms.findings_only, abs=0.01)
    assert share(lambda r: not r.findings and not r.impression) == pytest.approx(forms.neither, abs=0.01)
    texts = [" ".join(re.sub(r"\bxxxx\b|[\W_]+", " ", f"{r.findings} {r.impression}".lower()).split()) for r in reports]
    count = Counter(t for t in texts if t)
    assert sum(v for v in count.values() if v > 1) / sum(count.values()) == pytest.approx(forms.identical, abs=0.02)


def test_normal_share_of_site_b(natural):
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


def labelled(text):
    """Denied, possible or there, by two patterns."""
    if re.search(NO, text):
        return 0
    return -1 if re.search(MAYBE, text) else 1


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
                    values.add(labelled(text))
            strongest = [value for value in (1, -1, 0) if value in values]
            wrong[name] += (strongest[0] if strongest else None) != report.labels[name]
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
    forms = Forms(neither=0, impression_only=0)
    for i in range(40):
        a, b = (dictate(s, key=(i,), observer=PERFECT, forms=forms) for s in (both, one))
        assert fractures(a) == fractures(b)
        assert not any(c.finding == "pleural effusion" and c.present for c in b.assertions)


def fractures(report):
    """The sentences on a fracture, without numbers and headings."""
    out = set()
    for _, s in report.sentences:
        if any(c.finding == "rib fracture" and c.present for c in s.claims):
            out.add(re.sub(r"^(\d+\.|Bones:) ", "", s.text))
    return out


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
    vocabulary = []
    for site in "AB":
        text = " ".join(r.findings + r.impression for _, r in dictated(300, "balanced", site, 1))
        vocabulary.append(set(re.findall(r"[a-z]+", text.lower())))
    shared = len(vocabulary[0] & vocabulary[1]) / len(vocabulary[0] | vocabulary[1])
    assert 0.2 < shared < 0.7


def test_templates_repeat_and_only_where_nothing_was_seen():
    forms = Forms(templated=1.0, doctors=2, templates=2, incidental=0, impression_only=0, findings_only=0, neither=0)
    healthy = [dictate(Scene(Patient(i)), key=(i,), forms=forms, observer=PERFECT) for i in range(200)]
    assert all(r.templated and r.labels["No Finding"] == 1 for r in healthy)
    assert len({r.findings + r.impression for r in healthy}) <= 4
    sick = [(i, s) for i, s in enumerate(sample_scenes(100, 1)) if s.findings]
    assert not any(dictate(s, key=(i,), forms=forms, observer=PERFECT).templated for i, s in sick)


def test_assertions_point_at_their_sentence():
    for _, r in dictated(200, "balanced", "A", 7):
        for a in r.assertions:
            section, sentence = r.sentences[a.sentence]
            assert section == a.section and sentence.text in getattr(r, section)
            assert replace(a, section="findings", sentence=0) in sentence.claims
        for _, s in r.sentences:
            assert s.determined in ("image", "partly") or (s.determined == "no" and not s.claims)
        assert isinstance(r.bits, float) and r.bits > 0


def test_errors_come_at_the_stated_rate():
    pairs = dictated(3000, "balanced", "A", 5)
    findings = sum(len(s.findings) for s, _ in pairs)
    missed = sum(e["error"] == "missed" for _, r in pairs for e in r.errors)
    expected = sum(1 - Observer().sees(d) for scene, _ in pairs for d in visible(scene))
    assert missed == pytest.approx(expected, abs=4 * expected**0.5) and 0.02 < missed / findings < 0.1
