"""Digests of tensors: the same however many threads compute them; and what a cheap look sees and does not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from limpet.registry.formats.canonical import canonical_json
from limpet.training.base.tensor_digests import Untouched, digests_of, module_tensors


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    module = nn.Sequential(nn.Linear(2000, 3000), nn.BatchNorm1d(3000)).requires_grad_(False)
    return module_tensors(module)


def test_large_tensors_have_the_digest_of_their_dtype_shape_and_bytes(tensors: dict[str, Tensor]) -> None:
    assert sum(tensor.nbytes for tensor in tensors.values()) > 16 * 2**20
    digests = digests_of(tensors)
    assert list(digests) == list(tensors)
    for name, tensor in tensors.items():
        head = canonical_json([str(tensor.dtype), list(tensor.shape)])
        assert digests[name] == f"sha256:{hashlib.sha256(head + tensor.numpy().tobytes()).hexdigest()}"


@pytest.fixture
def untouched(tensors: dict[str, Tensor]) -> Untouched:
    kept = Untouched()
    kept.keep(tensors)
    assert kept.touched(tensors) == {}
    return kept


def write_one_element(tensors: dict[str, Tensor]) -> None:
    tensors["0.weight"][1234, 567] += 1


def write_through_a_view(tensors: dict[str, Tensor]) -> None:
    tensors["0.weight"].view(-1)[77].zero_()


def step_of_an_optimiser(tensors: dict[str, Tensor]) -> None:
    # as torch's own optimisers write, all tensors at once
    torch._foreach_add_([tensors["0.weight"]], 1e-3)


def write_past_the_count(tensors: dict[str, Tensor]) -> None:
    tensors["0.weight"].data.mul_(1.001)


def write_in_inference_mode(tensors: dict[str, Tensor]) -> None:
    with torch.inference_mode():
        tensors["0.weight"].add_(1e-3)


def write_by_numpy(tensors: dict[str, Tensor]) -> None:
    tensors["0.weight"].numpy()[-1, -1] += 1


@pytest.mark.parametrize(
    "change",
    [
        write_one_element,
        write_through_a_view,
        step_of_an_optimiser,
        write_past_the_count,
        write_in_inference_mode,
        write_by_numpy,
    ],
)
def test_a_write_into_a_large_tensor_is_seen(
    tensors: dict[str, Tensor], untouched: Untouched, change: Callable[[dict[str, Tensor]], None]
) -> None:
    change(tensors)
    assert list(untouched.touched(tensors)) == ["0.weight"]


def test_a_small_tensor_is_looked_at_whole(tensors: dict[str, Tensor], untouched: Untouched) -> None:
    tensors["1.running_mean"].data[1] += 1e-6
    assert list(untouched.touched(tensors)) == ["1.running_mean"]


def test_another_tensor_of_the_same_values_is_one_to_digest(tensors: dict[str, Tensor], untouched: Untouched) -> None:
    others = {**tensors, "0.weight": tensors["0.weight"].clone(), "new": torch.zeros(1)}
    assert list(untouched.touched(others)) == ["0.weight", "new"]


def test_a_single_element_written_past_torchs_count_is_what_only_a_digest_sees(
    tensors: dict[str, Tensor], untouched: Untouched
) -> None:
    before = digests_of(tensors)
    tensors["0.weight"].data[0, 1] += 1
    assert untouched.touched(tensors) == {}
    assert digests_of(tensors) != before
