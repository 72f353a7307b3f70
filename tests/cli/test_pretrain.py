"""The command that pretrains: every setting of the pretraining is an option."""

from dataclasses import fields

from medret_nb.cli.main import read_arguments
from medret_nb.training.pretrain import PretrainConfig


def test_a_setting_of_the_pretraining_is_an_option(tmp_path):
    job = read_arguments("pretrain", [str(tmp_path), "--seed", "5"])
    assert job.out == tmp_path and job.config == PretrainConfig(seed=5)
    assert "seed" in {setting.name for setting in fields(PretrainConfig)}
