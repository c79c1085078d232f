"""Near duplicates among so many texts that comparing them exactly would not fit in memory: MinHash with bands.

A text is sketched by the least value that each of 128 hash functions takes on its shingles (Broder 1997); two texts
have the same least value with the probability of their Jaccard index. Four values make a band, and texts that agree
in one of 32 bands are candidates (Leskovec, Rajaraman & Ullman, "Mining of massive datasets", chapter 3). Candidates
are compared exactly, so that nothing is called a near duplicate that is none; of pairs with an index of 0.7, one in
6,500 is not found, of 0.8 one in 20 million.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from limpet.training.data.duplicates.shingles import SIMILARITY, WordHashes, fewest_shared, shingle_keys

__all__ = ["MinHashes"]

_BANDS, _ROWS = 32, 4
_TEXTS_AT_ONCE, _CHARACTERS_AT_ONCE = 4096, 1 << 20
_SAMPLE = 20_000
_SHINGLES_AT_ONCE = 1 << 21
_TABLE_BITS = 24
_DROPPED_BITS = np.uint32(32 - _TABLE_BITS)

_Numbers = npt.NDArray[np.int64]
_Keys = npt.NDArray[np.uint64]


class MinHashes:
    """Sketches of a sequence of texts, ready to be asked which texts resemble which.

    `shared` is how many shingles more than half of the texts have: not compared, unless a text has no others. It is
    counted on some of the texts, evenly spread.

    Args:
        normalised: The texts, each as `normalise` returns it; read once in their order, and candidates again.
    """

    def __init__(self, normalised: Sequence[str]) -> None:
        self._texts = normalised
        self._words = WordHashes()
        self._shared = self._find_shared()
        self.shared = len(self._shared)
        generator = np.random.default_rng(0)
        self._factors = generator.integers(0, 1 << 32, _BANDS * _ROWS, np.uint32) | np.uint32(1)
        self._terms = generator.integers(0, 1 << 32, _BANDS * _ROWS, np.uint32)
        self._bands = np.empty((_BANDS, len(normalised)), np.uint32)
        self._sizes = np.empty(len(normalised), np.int32)
        done = 0
        for texts in _batches(normalised):
            keys, owners = self._compared(texts)
            sizes = np.bincount(owners, minlength=len(texts))
            self._sizes[done : done + len(texts)] = sizes
            self._bands[:, done : done + len(texts)] = self._sketch(keys, sizes)
            done += len(texts)

    def resembling(self, pool: Iterable[int], references: Iterable[int]) -> set[int]:
        """Return those texts of the pool that are near duplicates of a reference; see `Shingles.resembling`."""
        left = np.fromiter(pool, np.int64)
        others = np.fromiter(references, np.int64)
        near: set[int] = set()
        for band in self._bands:
            # which values there are at all is looked up in a small table first: most have no reference
            is_there = np.zeros(1 << _TABLE_BITS, np.bool_)
            is_there[band[others] >> _DROPPED_BITS] = True
            asked = np.flatnonzero(is_there[band[left] >> _DROPPED_BITS])
            ordered = others[np.argsort(band[others], kind="stable")]
            ranges = [np.searchsorted(band[ordered], band[left[asked]], side=side) for side in ("left", "right")]
            alike = asked[self._alike(left[asked], ordered, np.stack(ranges))]
            near.update(left[alike].tolist())
            left = np.delete(left, alike)
        return near

    def _alike(self, texts: _Numbers, references: _Numbers, ranges: _Numbers) -> npt.NDArray[np.bool_]:
        """Tell which texts are near duplicates of a candidate: of the references from a first to a last place."""
        alike = np.zeros(len(texts), np.bool_)
        first, last = ranges.copy()
        # one candidate of each text after the other: most texts that have several resemble the first of them
        while len(waiting := np.flatnonzero((first < last) & ~alike)):
            a, b = texts[waiting], references[first[waiting]]
            shorter, longer = np.minimum(self._sizes[a], self._sizes[b]), np.maximum(self._sizes[a], self._sizes[b])
            waiting_fit = np.flatnonzero(shorter >= SIMILARITY * longer - 1e-9)
            for some in self._portions(a, b, waiting_fit):
                alike[waiting[some]] = self._jaccard(a[some], b[some]) >= SIMILARITY
            first[waiting] += 1
        return alike

    def _portions(self, a: _Numbers, b: _Numbers, pairs: _Numbers) -> Iterator[_Numbers]:
        """Yield pairs in portions of so many shingles that they fit in memory."""
        total = np.cumsum(self._sizes[a[pairs]].astype(np.int64) + self._sizes[b[pairs]])
        ends = np.flatnonzero(np.diff(total // _SHINGLES_AT_ONCE)) + 1
        yield from (portion for portion in np.split(pairs, ends) if len(portion))

    def _jaccard(self, a: _Numbers, b: _Numbers) -> npt.NDArray[np.float64]:
        """Return the Jaccard index of each pair of texts, counted exactly."""
        texts, which = np.unique(np.concatenate([a, b]), return_inverse=True)
        keys, owners = self._compared([self._texts[at] for at in texts.tolist()])
        sizes = np.bincount(owners, minlength=len(texts))
        starts = np.cumsum(sizes) - sizes
        lengths = sizes[which]
        # the shingles of both texts of a pair behind each other, sorted: those that both have stand side by side
        pairs = np.repeat(np.arange(len(which)) % len(a), lengths)
        places = np.arange(len(pairs)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        of_pairs = keys[np.repeat(starts[which], lengths) + places]
        order = np.lexsort((of_pairs, pairs))
        pairs, of_pairs = pairs[order], of_pairs[order]
        both = (pairs[1:] == pairs[:-1]) & (of_pairs[1:] == of_pairs[:-1])
        shared = np.bincount(pairs[1:][both], minlength=len(a))
        counts: npt.NDArray[np.float64] = shared / (lengths[: len(a)] + lengths[len(a) :] - shared)
        return counts

    def _find_shared(self) -> _Keys:
        count = min(len(self._texts), _SAMPLE)
        sample = np.linspace(0, len(self._texts) - 1, count).astype(np.int64)
        texts = (self._texts[at] for at in sample.tolist())
        every = [shingle_keys(some, self._words)[0] for some in _batches(texts)]
        keys, frequency = np.unique(np.concatenate(every), return_counts=True)
        common: _Keys = keys[frequency > count / 2]
        return common if len(common) >= fewest_shared(count) else common[:0]

    def _compared(self, texts: Sequence[str]) -> tuple[_Keys, _Numbers]:
        """Return the shingles of texts that are compared, and beside each the text's place."""
        keys, owners = shingle_keys(texts, self._words)
        if not len(self._shared):
            return keys, owners
        own = ~np.isin(keys, self._shared)
        has_own = np.bincount(owners[own], minlength=len(texts)) > 0
        compared = own | ~has_own[owners]
        return keys[compared], owners[compared]

    def _sketch(self, keys: _Keys, sizes: _Numbers) -> npt.NDArray[np.uint32]:
        """Return the bands of texts whose shingles stand behind each other; each text has at least one."""
        starts = np.cumsum(sizes) - sizes
        # the keys are sums of products: their high bits depend on all of the words
        mixed = ((keys ^ (keys >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9) >> np.uint64(32)).astype(np.uint32)
        bands = np.empty((_BANDS, len(sizes)), np.uint32)
        for number in range(_BANDS):
            value = np.zeros(len(sizes), np.uint64)
            for at in range(number * _ROWS, (number + 1) * _ROWS):
                least = np.minimum.reduceat(mixed * self._factors[at] + self._terms[at], starts)
                value = (value ^ least) * np.uint64(0x9E3779B97F4A7C15)
            bands[number] = (value >> np.uint64(32)).astype(np.uint32)
        return bands


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield texts in portions that the processor's caches hold."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if len(batch) == _TEXTS_AT_ONCE or characters > _CHARACTERS_AT_ONCE:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
