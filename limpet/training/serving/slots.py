"""Many LoRA adapters on one base in memory: slots for their tensors, and linear layers that read them row by row.

A slot is one row of a buffer that was allocated beforehand. It holds all tensors of one adapter, so that putting an
adapter in its place is one copy. Adapters whose tensors have the same names and shapes share a buffer, and a batch
may mix adapters of any buffers: every linear layer adds to each row what that row's adapter adds
(Hu et al. 2021, arXiv 2106.09685; per-row products as in Punica, Chen et al. 2023, arXiv 2310.18547).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from limpet.training.shared_copy import shared_copy

__all__ = ["Layout", "Place", "SlottedBackbone", "Slots", "Target"]

# tensors begin where a cache line does, as those that torch allocates
_ALIGNED = 16
# below this many rows a group, a product of its own for every group costs more than one over copied weights
_ROWS_TO_LOOP = 4


@dataclass(frozen=True)
class Target:
    """A linear layer that an adapter changes: its name in the base, the rank, and its widths."""

    module: str
    rank: int
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Layout:
    """The linear layers that an adapter changes, in the order of their tensors' names."""

    targets: tuple[Target, ...]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        # asked for at every row of every batch
        return hash(self.targets)

    @cached_property
    def starts(self) -> tuple[tuple[int, int], ...]:
        """Where A (rank, inputs) and B (outputs, rank) of each target begin in a slot, in numbers."""
        found, at = [], 0
        for target in self.targets:
            to_b = at + _aligned(target.rank * target.inputs)
            found.append((at, to_b))
            at = to_b + _aligned(target.rank * target.outputs)
        return tuple(found)

    @cached_property
    def width(self) -> int:
        """Numbers in a slot."""
        last = self.targets[-1]
        return self.starts[-1][1] + _aligned(last.rank * last.outputs)


@dataclass(frozen=True)
class Place:
    """Where an adapter's tensors are: a buffer and a slot of it."""

    slots: Slots
    index: int


class Slots:
    """Slots for adapters of one layout; the one that was used longest ago gives way.

    Args:
        layout: What all adapters in it have.
        count: How many slots there are.
        device: Where the base is.
    """

    def __init__(self, layout: Layout, count: int, device: Any) -> None:
        self.layout = layout
        self.count = count
        self.buffer = torch.empty(count, layout.width, dtype=torch.float32, device=device)
        self.scales = torch.ones(count, dtype=torch.float32, device=device)
        self.scale_of = [1.0] * count
        self._held: OrderedDict[str, int] = OrderedDict()

    def held(self) -> tuple[str, ...]:
        """The keys of the adapters in place, the one that was used longest ago first."""
        return tuple(self._held)

    def place(self, key: str, scale: float, fill: Callable[[Tensor], None]) -> int:
        """Return the slot of an adapter; `fill` writes its tensors into the slot (width) unless it is there."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        index = len(self._held) if len(self._held) < self.count else self._held.popitem(last=False)[1]
        try:
            fill(self.buffer[index])
        except BaseException:
            # half an adapter must never be found under a key; its slot is the next to be used
            self._held[f"nothing {index}"] = index
            self._held.move_to_end(f"nothing {index}", last=False)
            raise
        self.scales[index] = scale
        self.scale_of[index] = scale
        self._held[key] = index
        return index

    def stacks(self, which: int) -> tuple[Tensor, Tensor]:
        """Return A (slots, rank, inputs) and B (slots, outputs, rank) of a target, as views of the buffer."""
        target, (to_a, to_b) = self.layout.targets[which], self.layout.starts[which]
        size, width = (self.count, target.rank, target.inputs), self.layout.width
        a = self.buffer.as_strided(size, (width, target.inputs, 1), to_a)
        return a, self.buffer.as_strided((self.count, target.outputs, target.rank), (width, target.rank, 1), to_b)


@dataclass(frozen=True)
class Segment:
    """Rows `start` to `stop` of a batch, whose adapters are in one buffer.

    They are groups of equally many rows, one after the other; `pick` selects the slot of each group. With one group
    `pick` is the slot itself.
    """

    slots: Slots
    start: int
    stop: int
    groups: int
    pick: int | slice | Tensor


@dataclass
class Rows:
    """What the batch that passes now consists of; all slotted layers of a base look at the same."""

    size: int = 0
    segments: tuple[Segment, ...] = ()


class _Beside:
    """What stands beside a linear layer: it adds to each row `scale * B A x` of that row's adapter.

    Args:
        rows: Says which rows belong to which slots.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._stacks: dict[int, tuple[Tensor, Tensor]] = {}

    def know(self, slots: Slots, which: int) -> None:
        """Take the tensors of one target from `slots`."""
        self._stacks[id(slots)] = slots.stacks(which)

    def __call__(self, _: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> Tensor:
        """Return (..., outputs) for inputs (..., width); the first dimension is the batch, or begins with it."""
        for segment in self._rows.segments:
            if id(segment.slots) in self._stacks:
                result = self._add(result, inputs[0], segment, *self._stacks[id(segment.slots)])
        return result

    def _add(self, result: Tensor, x: Tensor, segment: Segment, a: Tensor, b: Tensor) -> Tensor:
        if isinstance(segment.pick, int) and segment.stop - segment.start == self._rows.size:
            # the very operations of peft's layer, so that one adapter alone gives its bits
            return result + linear(linear(x, a[segment.pick]), b[segment.pick]) * segment.slots.scale_of[segment.pick]
        inputs = x.view(self._rows.size, -1, x.shape[-1])[segment.start : segment.stop]
        outputs = result.view(self._rows.size, -1, result.shape[-1])[segment.start : segment.stop]
        if isinstance(segment.pick, int):
            scale = segment.slots.scale_of[segment.pick]
            outputs += linear(linear(inputs, a[segment.pick]), b[segment.pick]) * scale
            return result
        inputs = inputs.reshape(segment.groups, -1, x.shape[-1])
        hidden = torch.bmm(inputs, a[segment.pick].mT)
        hidden *= segment.slots.scales[segment.pick].view(-1, 1, 1)
        outputs.view(segment.groups, -1, result.shape[-1]).baddbmm_(hidden, b[segment.pick].mT)
        return result


class SlottedBackbone:
    """The base with slots beside its linear layers: a copy of its modules that shares its tensors.

    The base itself is never touched: methods can be attached to it and taken off while this exists.

    Args:
        model: The base's model, as it was loaded.
        memory: Bytes that the slots of one layout may take; there is always one slot.
    """

    def __init__(self, model: Any, memory: int) -> None:
        self.module: Any = shared_copy(model)
        self._memory = memory
        self._rows = Rows()
        self._layers: dict[str, _Beside] = {}
        self._slots: dict[Layout, Slots] = {}

    def slots(self, layout: Layout) -> Slots:
        """Return the slots for adapters of a layout, made when they are first asked for."""
        if layout not in self._slots:
            made = Slots(layout, max(1, self._memory // (4 * layout.width)), self.module.device)
            for which, target in enumerate(layout.targets):
                self._layer(target.module).know(made, which)
            self._slots[layout] = made
        return self._slots[layout]

    def run(self, places: Sequence[Place | None], **inputs: Any) -> Any:
        """Return the base's output for a batch whose rows belong to the adapters at `places`; null is none.

        Rows whose places are equal stand together, and so do those of one layout; see `order`.
        """
        self._rows.size = len(places)
        self._rows.segments = tuple(_segments(places))
        return self.module(**inputs)

    def _layer(self, name: str) -> _Beside:
        if name not in self._layers:
            self._layers[name] = _Beside(self._rows)
            # a hook, and no layer in its place: models read the weights of their layers too
            self.module.get_submodule(name).register_forward_hook(self._layers[name])
        return self._layers[name]


def _segments(places: Sequence[Place | None]) -> list[Segment]:
    found, at = [], 0
    for slots, rows in groupby(places, key=lambda place: place.slots if place else None):
        held = list(rows)
        if slots is not None:
            found += _cut(slots, at, [place.index for place in held if place])
        at += len(held)
    return found


def _cut(slots: Slots, at: int, indices: list[int]) -> list[Segment]:
    counts = [(index, len(list(rows))) for index, rows in groupby(indices)]
    stop = at + len(indices)
    if len(counts) > 1 and len({count for _, count in counts}) == 1:
        return [Segment(slots, at, stop, len(counts), _pick([index for index, _ in counts], slots))]
    if len(indices) < _ROWS_TO_LOOP * len(counts) and len(counts) > 1:
        return [Segment(slots, at, stop, len(indices), _pick(indices, slots))]
    found = []
    for index, count in counts:
        found.append(Segment(slots, at, at + count, 1, index))
        at += count
    return found


def _pick(indices: list[int], slots: Slots) -> slice | Tensor:
    if indices == list(range(indices[0], indices[0] + len(indices))):
        # neighbours are read where they are; others are copied together
        return slice(indices[0], indices[0] + len(indices))
    return torch.tensor(indices, device=slots.buffer.device)


def _aligned(count: int) -> int:
    return -(-count // _ALIGNED) * _ALIGNED
