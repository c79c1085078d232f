"""Seeded, stratified drawing: which examples a split gets, and in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["EVALUATION_SHARE", "VALIDATION_SHARE", "allocate", "draw", "room"]

EVALUATION_SHARE = 0.3
"""Of the examples that are evaluated, where nobody says how many."""
VALIDATION_SHARE = 0.2
"""Of the training examples that are set aside to validate by."""


def room(strata: Sequence[str], places: Sequence[int], keep: int) -> int:
    """Return how many of `places` may be drawn when `keep` of each stratum must stay behind."""
    counts = Counter(strata[place] for place in places)
    return sum(max(0, count - keep) for count in counts.values())


def allocate(counts: Mapping[str, int], size: int, keep: int = 0) -> dict[str, int]:
    """Share `size` among strata in proportion to their counts, by largest remainder.

    Every stratum that has one to give gives at least one where `size` allows it; none gives its last `keep`.

    Args:
        counts: How many examples each stratum has.
        size: How many to draw in all; at most the sum of `count - keep`.
        keep: How many of each stratum must stay behind.

    Returns:
        How many to draw of each stratum.
    """
    total = sum(counts.values())
    limits = {stratum: max(0, count - keep) for stratum, count in counts.items()}
    if not 0 <= size <= sum(limits.values()):
        raise ValueError(f"{size} can't be drawn from {sum(limits.values())}")
    given = {stratum: min(size * count // max(total, 1), limits[stratum]) for stratum, count in counts.items()}
    if size >= sum(limit > 0 for limit in limits.values()):
        given = {stratum: max(share, min(1, limits[stratum])) for stratum, share in given.items()}

    def excess(stratum: str) -> tuple[int, str]:
        # in units of 1 / total, so that whole numbers decide; the name breaks ties
        return given[stratum] * total - size * counts[stratum], stratum

    for _ in range(size - sum(given.values())):
        given[min((stratum for stratum in given if given[stratum] < limits[stratum]), key=excess)] += 1
    for _ in range(sum(given.values()) - size):
        given[max((stratum for stratum in given if given[stratum] > 1), key=excess)] -= 1
    return given


def draw(
    strata: Sequence[str], places: Sequence[int], size: int, *, seed: tuple[int, int], keep: int = 0
) -> list[int]:
    """Draw a stratified sample and put it in random order.

    Args:
        strata: The stratum of every example there is.
        places: Places in `strata` that may be drawn.
        size: How many to draw.
        seed: The user's seed, and the number of the draw.
        keep: How many of each stratum must stay behind.

    Returns:
        The drawn places, in an order that depends on the seed alone.
    """
    # uniform numbers and a sort instead of `permutation`: the plainest part of the generator's stream
    generator = np.random.default_rng(seed)
    keys = generator.random(len(places))
    quotas = allocate(Counter(strata[place] for place in places), size, keep)
    sample = []
    for at in np.argsort(keys, kind="stable").tolist():
        place = places[at]
        if quotas[strata[place]]:
            quotas[strata[place]] -= 1
            sample.append(place)
    order = np.argsort(generator.random(size), kind="stable").tolist()
    return [sample[at] for at in order]
