"""The rows of a source that have a text and a target, each text once.

They are read and checked once. What is kept of each is where it lies and which labels it has: a few bytes, so that a
million rows fit where their texts would not. A row that is drawn is read again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from limpet.errors import DataError
from limpet.registry.formats.json_values import JsonObject
from limpet.training.batching.examples import Text, flat_text
from limpet.training.data.duplicates import normalise
from limpet.training.data.reading.lazy import Lazy
from limpet.training.data.reading.sources import Pool, Source
from limpet.training.task_types import TaskType

__all__ = ["PARTS", "Row", "SourceRows"]

PARTS = ("evaluation", "validation", "train")
"""What was given for evaluation stays there, and its copies elsewhere go."""
# how many texts with different labels are kept in the record, and how much of each
_MOST_CONFLICTS = 20
_LONGEST_CONFLICT = 200
_DIGEST_SIZE = 16


class Row(NamedTuple):
    """A row of a source: its text, its plain target, and the part of the source that it came from."""

    text: Text
    target: Hashable
    part: str


class _Read(NamedTuple):
    """Rows as they were read, before any is left out: places in their part, labels, digests of the texts."""

    places: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    digests: npt.NDArray[np.uint64]


class SourceRows:
    """The rows of a source, those for evaluation first; `checks` counts and notes what was left out.

    Raises:
        DataError: A row has no target, or holds something else than a text and a target.
    """

    def __init__(self, source: Source, kind: TaskType[Any], checks: JsonObject) -> None:
        self._source, self._kind = source, kind
        self.characters = 0
        """Of all texts together, each as it is compared."""
        self._label_sets: dict[tuple[str, ...], int] = {}
        self._read_target, note = kind.reader(_chained([pool.targets for pool in source.pools.values()]))
        checks["notes"] += [note] if note else []
        self._blanks = 0
        parts = {part: self._read(part, pool, checks) for part, pool in source.pools.items()}
        if self._blanks and kind.stratified:
            checks["notes"].append(f"{self._blanks} labels had spaces around them, which are left out")
        self._parts, self._places, self._labels = self._without_duplicates(parts, checks)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Row]:
        for number, part in enumerate(PARTS):
            wanted = self._places[self._parts == number]
            if len(wanted):
                pool = self._source.pools[part]
                yield from (self._row(part, *cells) for cells in _taken(pool, wanted))

    def __getitem__(self, at: int) -> Row:
        part = PARTS[self._parts[at]]
        pool, place = self._source.pools[part], int(self._places[at])
        return self._row(part, pool.texts[place], pool.targets[place])

    def part(self, name: str) -> list[int]:
        """Return the places of the rows of a part."""
        places: list[int] = np.flatnonzero(self._parts == PARTS.index(name)).tolist()
        return places

    def labels(self) -> list[tuple[str, ...]]:
        """Return the labels of each row, each once."""
        sets = list(self._label_sets)
        return [sets[number] for number in self._labels.tolist()]

    def normalised(self) -> Sequence[str]:
        """Return the text of each row as texts are compared."""
        return Lazy(len(self), lambda at: _key(self[at].text), lambda: (_key(row.text) for row in self))

    def _row(self, part: str, written: object, cell: object) -> Row:
        text = self._kind.read_text(written)
        assert text is not None
        return Row(text, self._read_target(cell), part)

    def _read(self, part: str, pool: Pool, checks: JsonObject) -> _Read:
        places: list[int] = []
        labels: list[int] = []
        digests = bytearray()
        for number, (written, cell) in enumerate(zip(pool.texts, pool.targets, strict=True)):
            self._blanks += isinstance(cell, str) and bool(cell.strip()) and cell != cell.strip()
            text, target = self._checked(pool, number + 1, (written, cell))
            if text is None:
                checks["empty_texts"] += 1
                continue
            key = _key(text)
            self.characters += len(key)
            digests += hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_SIZE).digest()
            places.append(number)
            of_row = tuple(dict.fromkeys(self._kind.labels_of(target)))
            labels.append(self._label_sets.setdefault(of_row, len(self._label_sets)))
        pairs = np.frombuffer(bytes(digests), np.uint64).reshape(-1, 2)
        return _Read(np.array(places, np.int64), np.array(labels, np.int64), pairs)

    def _checked(self, pool: Pool, number: int, cells: tuple[Any, Any]) -> tuple[Text | None, Any]:
        """Return text and target of a row; no text where it is empty."""
        written, cell = cells
        source = self._source
        try:
            text = self._kind.read_text(written)
        except DataError as error:
            message = f"{pool.where}: column {source.text_column!r} {error.message} (row {number})."
            raise DataError(message, error.hint) from error
        if text is None:
            return None, None
        try:
            target = self._read_target(cell)
            if target is not None:
                self._kind.check(text, target)
        except DataError as error:
            message = f"{pool.where}, row {number}, column {source.target_column!r}: {error.message}"
            raise DataError(message, error.hint) from error
        if target is None:
            noun = self._kind.noun
            raise DataError(
                f"{pool.where}: row {number} has no {noun} in column {source.target_column!r}.",
                f"fill it in or take the row out, or name another column with --{noun} COL",
            )
        return text, target

    def _without_duplicates(
        self, parts: dict[str, _Read], checks: JsonObject
    ) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the part, the place and the labels of the first row of each text; count the others."""
        given = [part for part in PARTS if part in parts]
        numbers = np.concatenate([np.full(len(parts[part].places), PARTS.index(part), np.int8) for part in given])
        places, labels, digests = (np.concatenate([parts[part][at] for part in given]) for at in range(3))
        first_of = _first_of_each(digests)
        copies = np.flatnonzero(first_of != np.arange(len(first_of)))
        checks["exact_duplicates"] = len(copies)
        self._parts, self._places = numbers, places
        conflicts: dict[int, dict[Hashable, None]] = {}
        for copy in copies.tolist():
            first = int(first_of[copy])
            target, other = self[first].target, self[copy].target
            if target != other:
                conflicts.setdefault(first, {target: None})[other] = None
        checks["conflicting_labels"] = len(conflicts)
        if conflicts:
            checks["conflicts"] = [
                {
                    "text": flat_text(self[first].text)[:_LONGEST_CONFLICT],
                    "targets": [list(target) if isinstance(target, tuple) else target for target in targets],
                }
                for first, targets in islice(conflicts.items(), _MOST_CONFLICTS)
            ]
        kept = first_of == np.arange(len(first_of))
        return numbers[kept], places[kept], labels[kept]


def _chained(columns: Sequence[Sequence[Any]]) -> Sequence[Any]:
    def cell(at: int) -> object:
        for column in columns:
            if at < len(column):
                return column[at]
            at -= len(column)
        raise IndexError(at)

    return Lazy(sum(map(len, columns)), cell, lambda: chain.from_iterable(columns))


def _key(text: Text) -> str:
    return normalise(flat_text(text))


def _taken(pool: Pool, places: npt.NDArray[np.int64]) -> Iterator[tuple[Any, Any]]:
    """Yield the cells of some rows of a part, in their order; what lies between is read too, which is quicker."""
    wanted = iter(places.tolist())
    next_one = next(wanted, None)
    for at, cells in enumerate(zip(pool.texts, pool.targets, strict=True)):
        if at == next_one:
            yield cells
            next_one = next(wanted, None)
            if next_one is None:
                return


def _first_of_each(digests: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Return for each row the first that has the same digest, which is itself where none came before."""
    if not len(digests):
        return np.zeros(0, np.int64)
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    ordered = digests[order]
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first_of = np.empty(len(order), np.int64)
    # the sort is stable, so that equal digests stay in the order of their rows
    first_of[order] = order[np.flatnonzero(is_first)[np.cumsum(is_first) - 1]]
    return first_of
