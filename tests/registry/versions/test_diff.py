"""What tells two versions apart, on tensors made by hand."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limpet.errors import IntegrityError, NotFoundError
from limpet.registry import versions
from limpet.registry.store import Store
from limpet.registry.versions.diff import TensorDifference, VersionDifference, compare, overlap
from tests.registry.homes import draft, stock

MODULE = "base_model.model.layer.query"
RANDOM = np.random.default_rng(0)
A, B = RANDOM.normal(size=(4, 32)), RANDOM.normal(size=(16, 4))


def as_bf16(values: Any) -> bytes:
    return (np.asarray(values, "<f4").view("<u4") >> 16).astype("<u2").tobytes()


def safetensors(tensors: dict[str, Any], dtype: str = "F32") -> bytes:
    header, body = {}, b""
    for name, values in tensors.items():
        array = np.asarray(values)
        raw = as_bf16(array) if dtype == "BF16" else array.astype({"F32": "<f4", "F16": "<f2", "I64": "<i8"}[dtype])
        raw = raw if isinstance(raw, bytes) else raw.tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def lora(a: Any = A, b: Any = B) -> dict[str, Any]:
    return {f"{MODULE}.lora_A.weight": a, f"{MODULE}.lora_B.weight": b}


@pytest.fixture
def small(tmp_path: Path) -> Store:
    return stock(tmp_path / "home")


def add(store: Store, tensors: dict[str, Any], seed: int = 0, dtype: str = "F32", **changes: Any) -> str:
    file = store.path / "adapter_model.safetensors"
    file.write_bytes(safetensors(tensors, dtype))
    return versions.register(store, draft(seed=seed, **changes), {file.name: file})[0].reference


def compared(store: Store, other: dict[str, Any], dtype: str = "F32") -> VersionDifference:
    return compare(store, add(store, lora()), add(store, other, seed=1, dtype=dtype))


def tensor(found: VersionDifference, half: str) -> TensorDifference:
    return next(one for one in found.tensors if one.name == f"{MODULE}.lora_{half}.weight")


def test_a_version_does_not_differ_from_itself(small: Store) -> None:
    reference = add(small, lora())
    found = compare(small, reference, reference)
    assert (found.fields, found.only_a, found.only_b, found.reshaped) == ((), (), (), ())
    assert [(one.difference, one.cosine) for one in found.tensors] == [(0.0, pytest.approx(1.0))] * 2
    assert [(one.inputs, one.outputs) for one in found.overlaps] == [(pytest.approx(1.0), pytest.approx(1.0))]


def test_a_scaled_copy_has_the_cosine_1_and_spans_the_same_space(small: Store) -> None:
    found = compared(small, lora(3 * A, -B))
    a, b = tensor(found, "A"), tensor(found, "B")
    assert a.cosine == pytest.approx(1.0)
    assert b.cosine == pytest.approx(-1.0)
    assert a.norm_b == pytest.approx(3 * a.norm_a, rel=1e-6)
    assert a.difference == pytest.approx(2 * a.norm_a, rel=1e-6)
    assert found.overlaps[0].inputs == pytest.approx(1.0)
    assert found.overlaps[0].outputs == pytest.approx(1.0)


def test_orthogonal_updates_have_nothing_in_common(small: Store) -> None:
    basis = np.linalg.qr(RANDOM.normal(size=(32, 8)))[0].T
    found = compare(small, add(small, lora(basis[:4])), add(small, lora(basis[4:]), seed=1))
    assert tensor(found, "A").cosine == pytest.approx(0.0, abs=1e-6)
    assert found.overlaps[0].inputs == pytest.approx(0.0, abs=1e-6)
    assert found.overlaps[0].outputs == pytest.approx(1.0)


def test_half_of_a_space_in_common_is_a_half(small: Store) -> None:
    unit = np.eye(32)
    found = compare(small, add(small, lora(unit[:4])), add(small, lora(unit[2:6]), seed=1))
    assert found.overlaps[0].inputs == pytest.approx(0.5)


def test_another_basis_of_the_same_space_is_the_same_space() -> None:
    mixed = RANDOM.normal(size=(4, 4)) @ A
    assert overlap(A.T, mixed.T) == pytest.approx(1.0)


def test_a_space_inside_a_larger_one_counts_as_whole() -> None:
    assert overlap(A[:2].T, A.T) == pytest.approx(1.0)


def test_a_zero_matrix_spans_nothing(small: Store) -> None:
    found = compared(small, lora(b=np.zeros_like(B)))
    assert tensor(found, "B").cosine is None
    assert tensor(found, "B").norm_b == 0.0
    assert found.overlaps[0].outputs is None
    assert found.overlaps[0].inputs == pytest.approx(1.0)


def test_a_rank_that_is_only_in_the_shape_does_not_count() -> None:
    twice = np.vstack([A[:1], A[:1]])
    assert overlap(twice.T, A[:1].T) == pytest.approx(1.0)
    assert overlap(twice.T, RANDOM.normal(size=(31, 2))) is None
    assert overlap(twice.T, np.full((32, 2), np.nan)) is None


def test_random_subspaces_share_what_chance_gives() -> None:
    # the expectation of phi for independent spaces of ranks i and j in n dimensions is max(i, j) / n
    draws = [overlap(RANDOM.normal(size=(64, 4)), RANDOM.normal(size=(64, 8))) or 0.0 for _ in range(200)]
    assert sum(draws) / len(draws) == pytest.approx(8 / 64, rel=0.1)


def test_other_ranks_are_compared_by_their_spaces(small: Store) -> None:
    found = compared(small, lora(A[:2], B[:, :2]))
    assert found.tensors == ()
    assert len(found.reshaped) == 2
    assert (found.overlaps[0].rank_a, found.overlaps[0].rank_b) == (4, 2)
    assert found.overlaps[0].inputs == pytest.approx(1.0)


@pytest.mark.parametrize(("dtype", "accuracy"), [("F16", 1e-3), ("BF16", 1e-2)])
def test_half_precision_is_read(small: Store, dtype: str, accuracy: float) -> None:
    found = compared(small, lora(), dtype)
    assert tensor(found, "A").norm_b == pytest.approx(np.linalg.norm(A), rel=accuracy)
    assert tensor(found, "A").cosine == pytest.approx(1.0, abs=accuracy)
    assert 0 < tensor(found, "A").difference < accuracy * np.linalg.norm(A)


def test_integers_are_named_and_not_compared(small: Store) -> None:
    found = compare(small, add(small, {"n": [1, 2]}, dtype="I64"), add(small, {"n": [1, 3]}, seed=1, dtype="I64"))
    assert (found.tensors, found.reshaped) == ((), ("n",))


def test_tensors_of_one_version_alone_are_named(small: Store) -> None:
    found = compared(small, {"other": [1.0]})
    assert (found.only_a, found.only_b) == (tuple(lora()), ("other",))
    assert found.tensors == found.overlaps == ()


def test_fields_that_differ_are_named_with_both_values(small: Store) -> None:
    first = add(small, lora(), config={"method": {"r": 8, "alpha": 16}, "max_length": 64}, metrics={"score": 0.5})
    second = add(
        small,
        lora(),
        seed=3,
        config={"method": {"r": 4, "alpha": 16}},
        metrics={"score": 0.75, "history": [1]},
        parent=first,
    )
    found = compare(small, first, second)
    assert {field.name: (field.a, field.b) for field in found.fields} == {
        "seed": (0, 3),
        "parent": (None, first),
        "config.method.r": (8, 4),
        "config.max_length": (64, None),
        "metrics.score": (0.5, 0.75),
    }


def test_versions_of_two_tasks_are_compared(small: Store) -> None:
    found = compare(small, add(small, lora()), add(small, lora(), task="films"))
    assert [(field.name, field.a, field.b) for field in found.fields] == [("task", "news", "films")]
    assert math.isclose(tensor(found, "A").cosine or 0, 1.0)


def test_a_corrupt_file_is_never_compared(small: Store) -> None:
    first, second = add(small, lora()), add(small, lora(2 * A), seed=1)
    path = versions.files(small, versions.resolve(small, second))["adapter_model.safetensors"]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(IntegrityError):
        compare(small, first, second)
    with pytest.raises(NotFoundError):
        compare(small, first, "news@9")
