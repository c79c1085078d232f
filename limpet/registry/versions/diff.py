"""What tells two versions apart: their records field by field, and their files tensor by tensor."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.names import Reference
from limpet.registry.formats.json_values import JsonObject, JsonValue
from limpet.registry.formats.safetensors_header import read_header
from limpet.registry.formats.tensors import is_readable, read_tensor
from limpet.registry.records import tasks
from limpet.registry.store import Store
from limpet.registry.values import VersionRecord
from limpet.registry.versions import resolution

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

__all__ = ["FieldDifference", "SubspaceOverlap", "TensorDifference", "VersionDifference", "compare", "overlap"]

_SAFETENSORS = ".safetensors"
_LORA = re.compile(r"(.+)\.lora_(A|B)(?:\.[^.]+)?\.weight")
# what a table can't show; it is in `limpet adapter show --json`
_LEFT_OUT = "metrics.history"

Tensor = tuple[Path, str, tuple[int, ...], int, int]


@dataclass(frozen=True)
class FieldDifference:
    """A field of the record that is not the same, such as `config.method.r`; null where a version lacks it."""

    name: str
    a: JsonValue
    b: JsonValue


@dataclass(frozen=True)
class TensorDifference:
    """A tensor that both versions have in the same shape.

    `norm_a` and `norm_b` are L2 norms, `difference` is the norm of b - a, `cosine` is <a, b> / (|a| |b|) over all
    elements: 1 where one is a multiple of the other, null where one is zero.
    """

    name: str
    shape: tuple[int, ...]
    norm_a: float
    norm_b: float
    difference: float
    cosine: float | None


@dataclass(frozen=True)
class SubspaceOverlap:
    """How much the subspaces of two LoRA updates of one module have in common; see `overlap`.

    `inputs` compares the rows of A, the directions that the update reads; `outputs` the columns of B, those that it
    writes. Null where a matrix is zero, or the widths differ.
    """

    module: str
    rank_a: int
    rank_b: int
    inputs: float | None
    outputs: float | None


@dataclass(frozen=True)
class VersionDifference:
    """What tells version `a` from version `b`.

    `fields` has the fields that differ, `tensors` what both have in one shape, `reshaped` the names of those in
    another shape or a dtype that is not a float, `only_a` and `only_b` those that one alone has.
    """

    a: str
    b: str
    fields: tuple[FieldDifference, ...]
    tensors: tuple[TensorDifference, ...]
    reshaped: tuple[str, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    overlaps: tuple[SubspaceOverlap, ...]


def compare(store: Store, a: str | Reference, b: str | Reference) -> VersionDifference:
    """Compare two versions, of one task or of two; every file is verified before it is read.

    Raises:
        IntegrityError: A file is corrupt or missing.
        NotFoundError: There is no such version.
    """
    first, second = resolution.resolve(store, a), resolution.resolve(store, b)
    left, right = _tensors(resolution.files(store, first)), _tensors(resolution.files(store, second))
    shared = [name for name in left if name in right]
    alike = [name for name in shared if _comparable(left[name], right[name])]
    return VersionDifference(
        a=first.reference,
        b=second.reference,
        fields=_fields(_described(store, first), _described(store, second)),
        tensors=tuple(_tensor(name, left[name], right[name]) for name in alike),
        reshaped=tuple(name for name in shared if name not in alike),
        only_a=tuple(name for name in left if name not in right),
        only_b=tuple(name for name in right if name not in left),
        overlaps=_overlaps(left, right),
    )


def overlap(a: NDArray[float64], b: NDArray[float64]) -> float | None:
    r"""Return the normalised similarity of the column spaces of two matrices, in 0 to 1.

    phi(a, b) = ||U_a^T U_b||_F^2 / min(rank a, rank b), where the columns of U are an orthonormal basis of a matrix's
    column space: 1 where one space lies in the other, 0 where they are orthogonal. It is one minus the squared
    Grassmann distance, normalised (Hu et al. 2021, LoRA, section 7.2 and appendix G), with i and j the ranks.

    Args:
        a: A matrix (width, rank or more columns).
        b: A matrix of the same width.

    Returns:
        Null where a matrix is zero or not finite, or the widths differ.
    """
    import numpy as np

    if a.shape[0] != b.shape[0] or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    left, right = _basis(a), _basis(b)
    smaller = min(left.shape[1], right.shape[1])
    if not smaller:
        return None
    similarity: float = float(np.square(left.T @ right).sum()) / smaller
    return min(1.0, similarity)


def _basis(matrix: NDArray[float64]) -> NDArray[float64]:
    import numpy as np

    vectors, values, _ = np.linalg.svd(matrix, full_matrices=False)
    # the tensors were float32 at best: what is below their rounding is no direction of its own
    smallest = max(matrix.shape) * float(np.finfo(np.float32).eps) * (values[0] if len(values) else 0.0)
    return vectors[:, values > smallest]


def _described(store: Store, version: VersionRecord) -> dict[str, JsonValue]:
    task = tasks.of_version(store, version)
    splits: JsonObject = {split.name: split.examples for split in task.splits}
    return {
        "task": version.task,
        "method": version.method,
        "role": version.role,
        "base": version.base_digest,
        "labels": list(version.labels),
        "seed": version.seed,
        "parent": version.parent,
        **_flat("config", version.config),
        **_flat("data", {"revision": task.revision, "digest": version.data_digest, "examples": splits}),
        **_flat("metrics", version.metrics),
        **_flat("cost", version.cost),
    }


def _flat(prefix: str, value: JsonValue) -> dict[str, JsonValue]:
    if prefix == _LEFT_OUT:
        return {}
    if not isinstance(value, Mapping):
        return {prefix: value}
    return {name: item for key in sorted(value) for name, item in _flat(f"{prefix}.{key}", value[key]).items()}


def _fields(a: Mapping[str, JsonValue], b: Mapping[str, JsonValue]) -> tuple[FieldDifference, ...]:
    names = [*a, *(name for name in b if name not in a)]
    return tuple(FieldDifference(name, a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name))


def _tensors(files: Mapping[str, Path]) -> dict[str, Tensor]:
    """Return where each tensor of a version is; a tensor outside the adapter itself is named with its file."""
    tensors: dict[str, Tensor] = {}
    for file, path in sorted(files.items()):
        if file.endswith(_SAFETENSORS):
            prefix = f"{file.removesuffix(_SAFETENSORS)}: " if file.startswith("head") else ""
            for name, location in sorted(read_header(path).items()):
                tensors[f"{prefix}{name}"] = (path, *location)
    return tensors


def _comparable(a: Tensor, b: Tensor) -> bool:
    return a[2] == b[2] and is_readable(a[1]) and is_readable(b[1])


def _read(tensor: Tensor) -> NDArray[float64]:
    import numpy as np

    path, dtype, shape, start, stop = tensor
    return read_tensor(path, dtype, shape, start=start, stop=stop).astype(np.float64)


def _tensor(name: str, a: Tensor, b: Tensor) -> TensorDifference:
    import numpy as np

    left, right = _read(a).ravel(), _read(b).ravel()
    norm_a, norm_b = float(np.linalg.norm(left)), float(np.linalg.norm(right))
    difference = float(np.linalg.norm(right - left))
    return TensorDifference(name, a[2], norm_a, norm_b, difference, _cosine(left, right, norm_a * norm_b))


def _cosine(a: NDArray[float64], b: NDArray[float64], norms: float) -> float | None:
    if not norms or not math.isfinite(norms):
        return None
    return max(-1.0, min(1.0, float(a @ b) / norms))


def _overlaps(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> tuple[SubspaceOverlap, ...]:
    left, right = _lora_pairs(a), _lora_pairs(b)
    return tuple(_module(name, left[name], right[name]) for name in left if name in right)


def _lora_pairs(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return A (rank, inputs) and B (outputs, rank) of every module that a LoRA changes."""
    halves: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _LORA.fullmatch(name)
        if match and len(tensor[2]) >= 2 and is_readable(tensor[1]):
            halves.setdefault(match[1], {})[match[2]] = tensor
    return {module: (pair["A"], pair["B"]) for module, pair in halves.items() if len(pair) == 2}


def _module(name: str, a: Sequence[Tensor], b: Sequence[Tensor]) -> SubspaceOverlap:
    # a convolution's matrices have more axes; its rank is on the same one
    inputs = [_read(pair[0]).reshape(pair[0][2][0], -1).T for pair in (a, b)]
    outputs = [_read(pair[1]).reshape(pair[1][2][0], -1) for pair in (a, b)]
    return SubspaceOverlap(name, a[0][2][0], b[0][2][0], overlap(*inputs), overlap(*outputs))
