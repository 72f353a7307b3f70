"""What all commands share: their base, the points of a run, the studies of a split."""

import pytest

from medret_nb.cli.commands import Command, OfRun, run_points, studies_of_split
from medret_nb.data.files import DataError


def test_a_command_without_work_says_its_name(tmp_path):
    with pytest.raises(TypeError, match="OfRun: run is not defined"):
        OfRun(tmp_path).run()
    assert issubclass(OfRun, Command)


def test_a_folder_without_model_and_points_is_no_run(small_phantom, tmp_path):
    with pytest.raises(DataError, match="no run, it has neither config.json nor embeddings/test-image.parquet"):
        run_points(tmp_path, small_phantom, "test")


def test_all_is_a_split_of_its_own(small_phantom):
    assert studies_of_split(small_phantom, "all") is small_phantom
    parts = [len(studies_of_split(small_phantom, split)) for split in ("train", "val", "test")]
    assert sum(parts) == len(small_phantom)
    with pytest.raises(DataError, match="tset"):
        studies_of_split(small_phantom, "tset")
