"""Tensor cores take the products of a training on a graphics processor, and of nothing else."""

import pytest
import torch

from kdops.precision import tensor_cores

PLACES = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)


@pytest.fixture(autouse=True)
def full():
    before = [place.fp32_precision for place in PLACES]
    for place in PLACES:
        place.fp32_precision = "ieee"
    yield
    for place, precision in zip(PLACES, before, strict=True):
        place.fp32_precision = precision


def precisions():
    return [place.fp32_precision for place in PLACES]


@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda")])
def test_products_and_convolutions_are_rounded_within_and_not_after(device):
    with tensor_cores(device):
        assert precisions() == ["tf32", "tf32"]
    assert precisions() == ["ieee", "ieee"]


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_elsewhere_nothing_changes(device):
    with tensor_cores(device):
        assert precisions() == ["ieee", "ieee"]


def test_a_failure_leaves_the_precision_as_it_was():
    with pytest.raises(ValueError, match="no"), tensor_cores("cuda"):
        raise ValueError("no")
    assert precisions() == ["ieee", "ieee"]
