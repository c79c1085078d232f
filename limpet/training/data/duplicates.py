"""Exact and near duplicates of texts: what must not stand on both sides of a split.

Two texts are near duplicates where the Jaccard index of their sets of word 3-grams (shingles; Broder 1997,
"On the resemblance and containment of documents") is at least 0.7. What most texts share, such as an instruction in
front of each, tells none from another and is not compared. Pairs are found through an inverted index
of each text's rarest shingles (prefix filtering; Bayardo, Ma & Srikant 2007, "Scaling up all pairs similarity
search"), which misses none of them and looks at few others.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import count

import numpy as np
import numpy.typing as npt

__all__ = ["SIMILARITY", "Shingles", "normalise"]

SIMILARITY = 0.7
_WORDS_PER_SHINGLE = 3
_WORD = re.compile(r"\w+")
# below so many texts, what most of them share may be chance
_FEW = 20
# fewer shared shingles, such as the one of a link's beginning, are no instruction and make no texts alike
_FEWEST_SHARED = 5
# odd 64-bit constants: a shingle's key is a sum of products modulo 2**64, so that equal keys are equal
# shingles but for one chance in 2**64
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)


def normalise(text: str) -> str:
    """Return the text without what makes no difference to a reader: case, spacing, compatible forms."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


class Shingles:
    """The shingles of a list of texts, ready to be asked which texts resemble which.

    `shared` is how many shingles more than half of the texts have: not compared, unless a text has no others.

    Args:
        normalised: The texts, each as `normalise` returns it.
    """

    def __init__(self, normalised: Sequence[str]) -> None:
        keys, texts = _shingle_keys(normalised)
        _, which, frequency = np.unique(keys, return_inverse=True, return_counts=True)
        # a shingle is known by its rank from rare to common, so that a text's first ranks are its rarest
        rank = np.empty(len(frequency), dtype=np.int64)
        rank[np.argsort(frequency, kind="stable")] = np.arange(len(frequency))
        ranks_of_all = rank[which]
        ends = np.cumsum(np.bincount(texts, minlength=len(normalised)))
        ranks = np.split(ranks_of_all[np.lexsort((ranks_of_all, texts))], ends[:-1]) if len(ends) else []
        # the commonest have the highest ranks
        shared = int(np.count_nonzero(frequency > len(normalised) / 2))
        self.shared = shared if len(normalised) >= _FEW and shared >= _FEWEST_SHARED else 0
        first_shared = len(frequency) - self.shared
        self._ranks = [own if len(own := part[part < first_shared]) else part for part in ranks]

    def resembling(self, pool: Iterable[int], references: Iterable[int]) -> set[int]:
        """Return those texts of the pool that are near duplicates of a reference.

        Args:
            pool: Places of texts in the list.
            references: Places of the texts that they are compared with.
        """
        index: dict[int, list[int]] = defaultdict(list)
        for reference in references:
            for rank in self._prefix(reference):
                index[rank].append(reference)
        return {text for text in pool if self._resembles_any(text, index)}

    def _resembles_any(self, text: int, index: dict[int, list[int]]) -> bool:
        seen: set[int] = set()
        for rank in self._prefix(text):
            for reference in index.get(rank, ()):
                if reference not in seen:
                    seen.add(reference)
                    if self._jaccard(text, reference) >= SIMILARITY:
                        return True
        return False

    def _prefix(self, text: int) -> list[int]:
        """The rarest shingles of a text: two texts that are similar enough share at least one of these."""
        ranks = self._ranks[text]
        needed = int(np.ceil(SIMILARITY * len(ranks) - 1e-9))
        prefix: list[int] = ranks[: len(ranks) - needed + 1].tolist()
        return prefix

    def _jaccard(self, a: int, b: int) -> float:
        shorter, longer = sorted((len(self._ranks[a]), len(self._ranks[b])))
        if shorter < SIMILARITY * longer - 1e-9:
            return 0.0
        shared = len(np.intersect1d(self._ranks[a], self._ranks[b], assume_unique=True))
        return shared / (shorter + longer - shared)


def _shingle_keys(normalised: Sequence[str]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Return the key of every shingle of every text, each once a text, and beside it the text's place in the list."""
    numbers: defaultdict[str, int] = defaultdict(count(1).__next__)
    ids: list[int] = []
    lengths = []
    for text in normalised:
        # a text without a word is one shingle of itself; a shorter text than a shingle is padded with word 0
        words = _WORD.findall(text) or [text]
        ids += map(numbers.__getitem__, words)
        ids += [0] * (_WORDS_PER_SHINGLE - len(words))
        lengths.append(max(len(words), _WORDS_PER_SHINGLE))
    row = np.array(ids, dtype=np.uint64)
    owners = np.repeat(np.arange(len(lengths)), lengths)
    last = _WORDS_PER_SHINGLE - 1
    keys = np.zeros(max(len(row) - last, 0), dtype=np.uint64)
    for place, factor in enumerate(_MIX):
        keys += row[place : place + len(keys)] * factor
    # three words in a row of which the last is another text's are no shingle
    inside = owners[: len(keys)] == owners[last:]
    keys, owners = keys[inside], owners[: len(inside)][inside]
    order = np.lexsort((keys, owners))
    keys, owners = keys[order], owners[order]
    is_new = np.ones(len(keys), dtype=np.bool_)
    is_new[1:] = (keys[1:] != keys[:-1]) | (owners[1:] != owners[:-1])
    return keys[is_new], owners[is_new]
