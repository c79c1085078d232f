"""Frozen layers below the lowest that is trained: every text passes them once, and what they gave is kept.

They answer alike in every epoch and every evaluation, since no dropout acts in what stays as it is. So what the
lowest trained layer reads is computed under the fixed batch plan and kept in memory, token by token; from then on the
layers below let pass what they are given, and that layer reads what was kept. Embeddings, masks and positions are
computed by the model itself, each time, so that no architecture has to be known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers.utils import ModelOutput

__all__ = ["KEPT", "LowerLayers", "LowerStates", "Reader", "total_bytes"]

KEPT = "below"
"""The name of the field of a batch that has what the lowest trained layer reads: (batch, length, hidden)."""


class _ReachedError(Exception):
    """The lowest trained layer was reached, and nothing above it is asked."""


class Reader(Protocol):
    """What `keep` needs of a task model."""

    lower: LowerLayers | None

    def eval(self) -> object:
        """Switch dropout off."""

    def hidden(self, **batch: Tensor) -> ModelOutput:
        """Run the backbone on a batch."""


@dataclass(frozen=True)
class LowerLayers:
    """The layers of a stack that stay as they are, in order, and the lowest that is trained."""

    frozen: Sequence[nn.Module]
    trained: nn.Module

    @contextmanager
    def skipped(self, kept: Tensor) -> Iterator[None]:
        """Let the lowest trained layer read `kept`, (batch, length, hidden), for the length of a `with` block."""

        def give(layer: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            return (kept, *arguments[1:])

        with ExitStack() as stack:
            for layer in self.frozen:
                stack.enter_context(_passing(layer))
            stack.enter_context(self.trained.register_forward_pre_hook(give))
            yield

    def reach(self, model: Reader, batch: dict[str, Tensor]) -> Tensor | None:
        """Return what the lowest trained layer reads of a batch, (batch, length, hidden); nothing above it is asked.

        Null where that is not what the layer below returns: there is no way to pass it by.
        """
        returned: list[Any] = []
        read: list[Any] = []

        def listen(layer: nn.Module, arguments: tuple[Any, ...], output: object) -> None:
            returned.append(output)

        def stop(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
            read.extend(arguments[:1])
            raise _ReachedError

        with self.frozen[-1].register_forward_hook(listen), self.trained.register_forward_pre_hook(stop):
            try:
                model.hidden(**batch)
            except _ReachedError:
                return read[0] if read and read[0] is returned[0] else None
        return None


@contextmanager
def _passing(layer: nn.Module) -> Iterator[None]:
    layer.forward = lambda hidden, *rest, **named: hidden
    try:
        yield
    finally:
        del layer.forward


class LowerStates:
    """What the lower layers of one base gave for texts: those that were used last, up to `most_bytes` of them."""

    most_bytes: ClassVar[int] = 1 << 30
    """What is kept of one run at the most, and of one base; beyond that all layers compute in every epoch."""

    def __init__(self) -> None:
        self._kept: dict[str, Sequence[Tensor]] = {}

    def clear(self) -> None:
        """Let go of everything."""
        self._kept.clear()

    def find(self, key: str) -> Sequence[Tensor] | None:
        """Return the rows that are known by `key`, or null."""
        rows = self._kept.pop(key, None)
        if rows is not None:
            self._kept[key] = rows
        return rows

    def put(self, key: str, rows: Sequence[Tensor]) -> None:
        """Keep rows, and let go of what was not used for the longest time where they are too many together."""
        self._kept[key] = rows
        total = sum(map(total_bytes, self._kept.values()))
        while total > self.most_bytes:
            total -= total_bytes(self._kept.pop(next(iter(self._kept))))


def total_bytes(rows: Sequence[Tensor]) -> int:
    """Return how many bytes tensors take together."""
    return sum(row.nbytes for row in rows)
