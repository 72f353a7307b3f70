"""Fixtures of the tests of kernels in Triton, which `pytestmark` of a file asks for by name."""

import pytest
import torch


@pytest.fixture
def triton_form(triton_device):
    """The test asks for Triton, on every device, and for exact matrix products."""
    from medret_nb.kernels.forms import forced_form

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    with forced_form("triton"):
        yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def kernels(request, triton_device):
    """The module under test: that in Triton after which the file is named, test_<name>_triton."""
    from medret_nb.kernels.forms import triton_module

    return triton_module(request.path.stem.removeprefix("test_").removesuffix("_triton"))
