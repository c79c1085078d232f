"""Many LoRA adapters on one base in memory: slots for their tensors, and linear layers that read them row by row.

A slot is a stretch of a buffer that was allocated beforehand. It holds all tensors of one adapter, so that putting an
adapter into a slot is one copy. Adapters whose tensors have the same names and shapes have slots of one width, and a
batch may mix adapters of any widths: every linear layer adds to each row what that row's adapter adds
(Hu et al. 2021, arXiv 2106.09685; per-row products as in Punica, Chen et al. 2023, arXiv 2310.18547).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from limpet.training.base.shared_copy import shared_copy

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.utils import ModelOutput

__all__ = ["Layout", "CacheSlot", "SlotBuffer", "SlottedBackbone", "Slots", "Target"]

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
class CacheSlot:
    """Where an adapter's tensors are: a layout's slots, and one of them."""

    slots: Slots
    index: int


class Slots:
    """The slots that adapters of one layout can have in a buffer; slots of several layouts lie over each other.

    `scales` and `scale_of` have the factor of the adapter in each slot that was filled.

    Args:
        layout: What all adapters in them have.
        buffer: Numbers, as many as all slots of all layouts have together.
    """

    def __init__(self, layout: Layout, buffer: Tensor) -> None:
        self.layout = layout
        self.count = len(buffer) // layout.width
        self.scales = torch.ones(self.count, dtype=torch.float32, device=buffer.device)
        self.scale_of: dict[int, float] = {}
        self._buffer = buffer
        self._stacks = {
            target.module: self._views(target, *starts)
            for target, starts in zip(layout.targets, layout.starts, strict=True)
        }

    def slot(self, index: int) -> Tensor:
        """Return a slot (width) as a view of the buffer."""
        return self._buffer[index * self.layout.width : (index + 1) * self.layout.width]

    def stacks(self, module: str) -> tuple[Tensor, Tensor] | None:
        """Return A (slots, rank, inputs) and B (slots, outputs, rank) beside a layer; null if it has none."""
        return self._stacks.get(module)

    def _views(self, target: Target, to_a: int, to_b: int) -> tuple[Tensor, Tensor]:
        width = self.layout.width
        a = self._buffer.as_strided((self.count, target.rank, target.inputs), (width, target.inputs, 1), to_a)
        return a, self._buffer.as_strided((self.count, target.outputs, target.rank), (width, target.rank, 1), to_b)


class _Held(NamedTuple):
    """An adapter in a slot, and the numbers of the buffer that are its own, from `start` to `stop`."""

    cache_slot: CacheSlot
    start: int
    stop: int


class SlotBuffer:
    """One buffer for adapters of all layouts together; those that were used longest ago give way.

    A slot of a layout is a stretch of the buffer that begins at a multiple of the layout's width. Whoever takes it
    takes it from all adapters, of whatever layout, that lie in it. What is in a slot stands in one table alone: an
    adapter leaves it before a number of its slot is touched, and enters it when its slot is whole. So whatever
    interrupts a copy, wherever, no adapter is found where another was written.

    Args:
        memory: Bytes that the buffer takes; it is as large as one adapter at least.
        device: Where the base is.
    """

    def __init__(self, memory: int, device: torch.device) -> None:
        self._count = memory // 4
        self._device = device
        self._buffer: Tensor | None = None
        self._slots: dict[Layout, Slots] = {}
        self._held: OrderedDict[str, _Held] = OrderedDict()
        # how many numbers are taken; fewer only make this look for free slots where there is none
        self._taken = 0

    @property
    def memory(self) -> int:
        """Bytes that the buffer takes."""
        return 0 if self._buffer is None else self._buffer.nbytes

    def __contains__(self, key: str) -> bool:
        return key in self._held

    def held(self) -> tuple[str, ...]:
        """The keys of the adapters in a slot, the one that was used longest ago first."""
        return tuple(self._held)

    def slots(self, layout: Layout) -> Slots:
        """Return the slots for adapters of a layout."""
        if self._buffer is None or len(self._buffer) < layout.width:
            # what lies in the former buffer is forgotten before there is another
            self._held, self._slots, self._taken = OrderedDict(), {}, 0
            count = max(self._count, layout.width)
            self._buffer = torch.empty(count, dtype=torch.float32, device=self._device)
        if layout not in self._slots:
            self._slots[layout] = Slots(layout, self._buffer)
        return self._slots[layout]

    def put(
        self,
        key: str,
        layout: Layout,
        scale: float,
        *,
        copy_into: Callable[[Tensor], None],
        staying: Set[str] = frozenset(),
    ) -> CacheSlot | None:
        """Return where an adapter is; `copy_into` writes its tensors into a slot (width) unless it is in a slot.

        Args:
            key: The adapter.
            layout: What it has.
            scale: The factor of its product.
            copy_into: Writes it.
            staying: Keys of adapters that may not give way.

        Returns:
            Null where there is no room beside those that stay.
        """
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key].cache_slot
        if self._buffer is not None and len(self._buffer) < layout.width and staying:
            return None
        slots, width = self.slots(layout), layout.width
        index, giving_way = self._free(slots), list[str]()
        if index is None:
            index, giving_way = self._oldest(slots, staying)
        if index is None:
            return None
        # where this does not end well, the next one looks for free slots itself
        taken, self._taken = self._taken, 0
        for other in giving_way:
            held = self._held.pop(other)
            taken -= held.stop - held.start
        copy_into(slots.slot(index))
        slots.scales[index] = scale
        slots.scale_of[index] = scale
        cache_slot = CacheSlot(slots, index)
        self._held[key] = _Held(cache_slot, index * width, (index + 1) * width)
        self._taken = taken + width
        return cache_slot

    def _free(self, slots: Slots) -> int | None:
        """Return the first slot in which no adapter lies; null if there is none."""
        assert self._buffer is not None
        if self._taken + slots.layout.width > len(self._buffer):
            return None
        self._taken = sum(held.stop - held.start for held in self._held.values())
        index = 0
        for held in sorted(self._held.values(), key=lambda held: held.start):
            if (index + 1) * slots.layout.width <= held.start:
                break
            index = max(index, -(-held.stop // slots.layout.width))
        return index if index < slots.count else None

    def _oldest(self, slots: Slots, staying: Set[str]) -> tuple[int | None, list[str]]:
        """Return the slot of the adapter that was used longest ago and all that lie in it; null if all must stay."""
        width = slots.layout.width
        for key, held in self._held.items():
            index = min(held.start // width, slots.count - 1)
            start, stop = index * width, (index + 1) * width
            if (held.start, held.stop) == (start, stop):
                giving_way = [key]
            else:
                giving_way = [one for one, own in self._held.items() if own.start < stop and start < own.stop]
            if staying.isdisjoint(giving_way):
                return index, giving_way
        return None, []


@dataclass(frozen=True)
class Segment:
    """Rows `start` to `stop` of a batch, whose adapters are of one layout.

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
        module: The layer's name in the base.
        rows: Says which rows belong to which slots.
    """

    def __init__(self, module: str, rows: Rows) -> None:
        self._module = module
        self._rows = rows

    def __call__(self, _: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> Tensor:
        """Return (..., outputs) for inputs (..., width); the first dimension is the batch, or begins with it."""
        for segment in self._rows.segments:
            if stacks := segment.slots.stacks(self._module):
                a, b = stacks
                result = self._add(result, inputs[0], segment, a=a, b=b)
        return result

    def _add(self, result: Tensor, x: Tensor, segment: Segment, *, a: Tensor, b: Tensor) -> Tensor:
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
        memory: Bytes that the slots of all layouts may take together; there is always room for one adapter.
    """

    def __init__(self, model: PreTrainedModel, memory: int) -> None:
        self.module = shared_copy(model)
        self.buffer = SlotBuffer(memory, self.module.device)
        self._rows = Rows()

    def put(
        self,
        key: str,
        layout: Layout,
        scale: float,
        *,
        copy_into: Callable[[Tensor], None],
        staying: Set[str] = frozenset(),
    ) -> CacheSlot | None:
        """Put an adapter in a slot, as `SlotBuffer.put` does, and let the layers that it changes read it."""
        # beforehand: what is in a slot has all its layers reading it, whatever interrupts this
        if key not in self.buffer:
            for target in layout.targets:
                self._attach_slots(target.module)
        return self.buffer.put(key, layout, scale, copy_into=copy_into, staying=staying)

    def run(self, cache_slots: Sequence[CacheSlot | None], **inputs: Tensor) -> ModelOutput:
        """Return the base's output for a batch whose rows belong to the adapters at `cache_slots`; null is none.

        Rows whose slots are equal stand together, and so do those of one layout.
        """
        self._rows.size = len(cache_slots)
        self._rows.segments = tuple(_segments(cache_slots))
        return self.module(**inputs)

    def _attach_slots(self, name: str) -> None:
        layer = self.module.get_submodule(name)
        # the layer itself knows, so that an interrupt leaves none without its hook and none with two
        if not any(isinstance(hook, _Beside) for hook in layer._forward_hooks.values()):
            # a hook, and no layer in its stead: models read the weights of their layers too
            layer.register_forward_hook(_Beside(name, self._rows))


def _segments(cache_slots: Sequence[CacheSlot | None]) -> list[Segment]:
    found, at = [], 0
    for slots, rows in groupby(cache_slots, key=lambda cache_slot: cache_slot.slots if cache_slot else None):
        held = list(rows)
        if slots is not None:
            found += _cut(slots, at, [cache_slot.index for cache_slot in held if cache_slot])
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
    return torch.tensor(indices, device=slots.scales.device)


def _aligned(count: int) -> int:
    return -(-count // _ALIGNED) * _ALIGNED
