"""Device, digits and processes: what is set is put back, and what does not go together is said in a line."""

import pytest
import torch

from medret_nb.data.files import DataError
from medret_nb.training.arithmetic import check_device, check_shares, products_of, start_accelerator
from medret_nb.training.loop import TrainConfig


@pytest.mark.parametrize(
    "settings,words",
    [
        (dict(precision="fp16"), "precision: fp16 needs a CUDA card, and this training runs on cpu"),
        (dict(precision="tf32"), "precision: tf32 is a way in which CUDA cards multiply"),
        (dict(compile="graphs"), "compile: graphs are recorded on a CUDA card"),
    ],
)
def test_what_the_cpu_cannot_do_is_said(settings, words):
    with pytest.raises(DataError, match=words):
        start_accelerator(TrainConfig(device="cpu", batch_size=8, **settings))
    check_device(TrainConfig(**settings), torch.device("cuda"))


def test_batches_divide_among_processes_and_into_parts():
    check_shares(TrainConfig(batch_size=64, micro_batch=16), 2)
    for processes, micro, words in ((3, 0, "among 3 processes"), (1, 24, "the batch of 64"), (2, 64, "the 32 studies")):
        with pytest.raises(DataError, match=words):
            check_shares(TrainConfig(batch_size=64, micro_batch=micro), processes)


@pytest.mark.parametrize("precision", ["no", "tf32", "bf16"])
def test_how_a_card_multiplies_is_put_back(precision):
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    with pytest.raises(KeyboardInterrupt), products_of(precision):
        assert torch.backends.cudnn.allow_tf32 is (precision == "tf32")
        assert torch.get_float32_matmul_precision() == ("high" if precision == "tf32" else "highest")
        raise KeyboardInterrupt
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


def test_the_accelerator_goes_where_it_is_told(device):
    accelerator = start_accelerator(TrainConfig(device=str(device), batch_size=8, precision="bf16"))
    assert accelerator.device.type == device.type and accelerator.mixed_precision == "bf16"
    again = start_accelerator(TrainConfig(device="cpu", batch_size=8))
    assert again.device.type == "cpu" and again.mixed_precision == "no"
