"""Near duplicates, each of them: what is compared is found through an index.

Two texts are near duplicates where the Jaccard index of their sets of word 3-grams (shingles; Broder 1997,
"On the resemblance and containment of documents") is at least 0.7. What most texts share, such as an instruction in
front of each, tells none from another and is not compared. Pairs are found through an inverted index
of each text's rarest shingles (prefix filtering; Bayardo, Ma & Srikant 2007, "Scaling up all pairs similarity
search"), which misses none of them and looks at few others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from limpet.training.data.duplicates.shingles import SIMILARITY, WordHashes, fewest_shared, shingle_keys

__all__ = ["Shingles"]


class Shingles:
    """The shingles of a list of texts, ready to be asked which texts resemble which.

    `shared` is how many shingles more than half of the texts have: not compared, unless a text has no others.

    Args:
        normalised: The texts, each as `normalise` returns it.
    """

    def __init__(self, normalised: Sequence[str]) -> None:
        keys, texts = shingle_keys(normalised, WordHashes())
        _, which, frequency = np.unique(keys, return_inverse=True, return_counts=True)
        # a shingle is known by its rank from rare to common, so that a text's first ranks are its rarest
        rank = np.empty(len(frequency), dtype=np.int64)
        rank[np.argsort(frequency, kind="stable")] = np.arange(len(frequency))
        ranks_of_all = rank[which]
        ends = np.cumsum(np.bincount(texts, minlength=len(normalised)))
        ranks = np.split(ranks_of_all[np.lexsort((ranks_of_all, texts))], ends[:-1]) if len(ends) else []
        # the commonest have the highest ranks
        shared = int(np.count_nonzero(frequency > len(normalised) / 2))
        self.shared = shared if shared >= fewest_shared(len(normalised)) else 0
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
