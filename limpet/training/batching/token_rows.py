"""Token ids of very many texts in two arrays: four bytes a token, where lists of numbers take ten times as many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

__all__ = ["TokenRows"]


class TokenRows(Sequence[list[int]]):
    """The token ids of texts; those of one are a list, made when it is asked for.

    Args:
        flat: The ids of all texts behind each other.
        ends: Where each text ends among them.
    """

    def __init__(self, flat: npt.NDArray[np.int32], ends: npt.NDArray[np.int64]) -> None:
        self.flat, self.ends = flat, ends

    @classmethod
    def of(cls, batches: Iterable[Sequence[Sequence[int]]]) -> TokenRows:
        """Return the rows of batches, which are needed one at a time."""
        parts = [np.zeros(0, np.int32)]
        lengths: list[int] = []
        for batch in batches:
            lengths += map(len, batch)
            parts.append(np.array([token for row in batch for token in row], np.int32))
        return cls(np.concatenate(parts), np.cumsum(np.array(lengths, np.int64)))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, at: int) -> list[int]: ...

    @overload
    def __getitem__(self, at: slice) -> list[list[int]]: ...

    def __getitem__(self, at: int | slice) -> list[int] | list[list[int]]:
        if isinstance(at, slice):
            return [self[place] for place in range(len(self))[at]]
        place = range(len(self))[at]
        row: list[int] = self.flat[self.ends[place - 1] if place else 0 : self.ends[place]].tolist()
        return row

    def __iter__(self) -> Iterator[list[int]]:
        return map(self.__getitem__, range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Tell whether another sequence has the same rows, whatever it is."""
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(a == b for a, b in zip(self, other, strict=True))

    @property
    def lengths(self) -> list[int]:
        """How many tokens each text has."""
        lengths: list[int] = np.diff(self.ends, prepend=0).tolist()
        return lengths
