"""Tensor cores take the products of a training on a graphics processor, and of nothing else."""

import pytest
import torch

from kdops.utils.hardware import allow_tf32


@pytest.fixture(autouse=True)
def full():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda")])
def test_products_are_rounded_within_and_not_after(device):
    with allow_tf32(device):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_elsewhere_nothing_changes(device):
    with allow_tf32(device):
        assert torch.get_float32_matmul_precision() == "highest"


def test_a_failure_leaves_the_precision_as_it_was():
    with pytest.raises(ValueError, match="no"), allow_tf32("cuda"):
        raise ValueError("no")
    assert torch.get_float32_matmul_precision() == "highest"
