"""The live curve of a training."""

from medret_nb.training.curve import LossCurve, empty_curve


def test_an_empty_curve_has_two_lines_without_points():
    figure = empty_curve()
    assert [line.name for line in figure.data] == ["training loss", "validation recall"]
    assert all(line.x is None for line in figure.data)


def test_the_curve_follows_the_log():
    curve = LossCurve(every=2)
    for step in range(1, 6):
        curve({"step": step, "loss": 1.0 / step})
    curve({"step": 5, "val_recall": 0.25})
    assert list(curve.figure.data[0].x) == [1, 2, 3, 4, 5] and list(curve.figure.data[1].y) == [0.25]


def test_points_wait_until_there_are_enough():
    curve = LossCurve(every=3)
    for step in (1, 2):
        curve({"step": step, "loss": 1.0})
    assert not curve.figure.data[0].x and len(curve.pending) == 2
    curve({"step": 3, "loss": 1.0})
    assert list(curve.figure.data[0].x) == [1, 2, 3] and not curve.pending
