"""The command that asks claims: mistakes are told before anything is measured."""

import pytest

from medret_nb.cli.claims import Claims
from medret_nb.data.files import DataError


def test_no_board_without_draws(tmp_path):
    with pytest.raises(DataError, match="draws: 0 must be at least 1"):
        Claims(tmp_path, tmp_path, tmp_path / "board", draws=0).run()
    assert not (tmp_path / "board").exists()


def test_a_file_of_claims_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="claims.toml"):
        Claims(tmp_path, tmp_path, tmp_path / "board", tmp_path / "claims.toml").run()


def test_arms_without_runs_are_named(tmp_path):
    with pytest.raises(
        DataError, match="claims.toml asks about the arms .*clip.*; without runs: .*--claims FILE"
    ) as caught:
        Claims(tmp_path, tmp_path, tmp_path / "board").run()
    assert "\n" not in str(caught.value) and "did you mean" not in str(caught.value)
    (tmp_path / "cxr-clip").mkdir()
    with pytest.raises(DataError, match=r"without runs: .*cxr_clip \(did you mean cxr-clip\?\)"):
        Claims(tmp_path, tmp_path, tmp_path / "board").run()
