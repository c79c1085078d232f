"""Sequences whose values are made when they are asked for, so that a million of them need no memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar, overload

__all__ = ["Lazy", "made"]

Value = TypeVar("Value")


class Lazy(Sequence[Value]):
    """So many values: `at` makes one by its place, and `every` makes all of them in order, which is quicker.

    Args:
        count: How many there are.
        at: Returns the value at a place from 0.
        every: Yields all values.
    """

    def __init__(self, count: int, at: Callable[[int], Value], every: Callable[[], Iterable[Value]]) -> None:
        self._count, self._at, self._every = count, at, every

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Value]:
        return iter(self._every())

    @overload
    def __getitem__(self, at: int) -> Value: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Value]: ...

    def __getitem__(self, at: int | slice) -> Value | Sequence[Value]:
        if isinstance(at, slice):
            return [self._at(place) for place in range(self._count)[at]]
        return self._at(range(self._count)[at])


def made(count: int, at: Callable[[int], Value]) -> Sequence[Value]:
    """Return so many values, each made by its place."""
    return Lazy(count, at, lambda: map(at, range(count)))
