"""Levels: assignment by a loop, what is dead, double or divided, answers of PECM's kind."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.views.levels import gathered, level_of, level_of_answers, use_of


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 6), st.integers(0, 999))
def test_use_is_that_of_a_loop(n, k, seed):
    rng = np.random.default_rng(seed)
    film, report, ends = rng.normal(size=(n, 4)), rng.normal(size=(n, 4)), rng.normal(size=(k, 4))
    use, cosine = use_of(level_of("l", film, report, ends)), lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    counts, divided = np.zeros((k, 2), int), []
    for i in range(n):
        a, b = (int(np.argmax([cosine(side[i], e) for e in ends])) for side in (film, report))
        counts[a, 0] += 1
        counts[b, 1] += 1
        if a != b:
            divided.append(i)
    assert (
        use.counts.tolist() == counts.tolist()
        and sorted(use.divided.tolist()) == divided
        and (np.diff(use.width) <= 1e-12).all()
    )
    assert use.dead.tolist() == [sum(c) < 0.1 * 2 * n / k for c in counts]


def test_doubles_and_single_modalities_are_named():
    ends = np.array([[1.0, 0, 0], [1, 0.05, 0], [0, 1, 0], [0, 0, 1]])
    film, report = np.tile([0.0, 1, 0], (30, 1)), np.tile([0.0, 0, 1], (30, 1))
    film[0] = report[0] = [1, 0, 0]
    film[1] = report[1] = [1, 0.05, 0]
    film[2:4] = report[2:4] = [[1, 0, 0], [1, 0.06, 0]]
    use = use_of(level_of("l", film, report, ends))
    assert [use.state(k) for k in range(4)] == ["doubles P2", "doubles P1", "films only", "reports only"]


def test_findings_are_held_against_all():
    film = np.repeat(np.eye(2), 10, 0)
    use = use_of(level_of("l", film, film, np.eye(2)))
    findings = [["A"]] * 8 + [["B"]] * 2 + [["A"]] * 2 + [["B", "B"]] * 8
    assert gathered(findings, use, 0) == [{"name": "A", "share": 0.8, "base": 0.5}]
    assert gathered(findings, use, 1) == [{"name": "B", "share": 0.8, "base": 0.5}]


def test_answers_find_what_was_asked():
    rng = np.random.default_rng(0)
    has = rng.random((150, 3)) < 0.25
    ways = rng.normal(size=(3, 5))
    film, report = (has[:, :, None] * ways + 0.1 * rng.normal(size=(150, 3, 5)) for _ in range(2))
    level = level_of_answers(
        "fine", np.concatenate([film, np.zeros((150, 1, 5))], 1), np.concatenate([report, np.zeros((150, 1, 5))], 1)
    )
    for k in range(3):
        best = np.argsort(-level.film[:, k])[: has[:, k].sum()]
        assert has[best, k].mean() > 0.95  # those with the rare answer stand at the top, whatever its sign
    assert use_of(level).dead.tolist()[3] and level.still.tolist() == [False, False, False, True]

    class Said:
        local = {"prototypes": np.concatenate([report, np.zeros((150, 1, 5))], 1)}

    np.testing.assert_allclose(level.hear(Said)[:, :3], level.report[:, :3], atol=1e-9)
