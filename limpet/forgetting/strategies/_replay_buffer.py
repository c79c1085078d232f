"""Which examples of earlier tasks a replay buffer holds.

Every training example has a random priority, decided by the seed, its task and its place alone, and the lowest are
kept: reservoir sampling by random sort (Vitter 1985 gives the same distribution). So a buffer of fixed size never
takes back what it let go.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

__all__ = ["SELECTIONS", "buffered"]

SELECTIONS = ("reservoir", "balanced")


def buffered(
    labels: Mapping[str, Sequence[int | None]], buffer: float, selection: str, *, seed: int
) -> dict[str, tuple[int, ...]]:
    """Return the kept examples of each earlier task, as ascending indices into its training split.

    Args:
        labels: For each earlier task, in order, the label id of every training example; null without labels.
        buffer: Below 1, the share of each task's examples; else the number of examples of all tasks together.
        selection: `reservoir` keeps a uniform sample; `balanced` as many of each label, and of each task, as it can.
        seed: Decides the priorities.
    """
    queues = {task: _order(task, ids, selection, seed=seed) for task, ids in labels.items()}
    if buffer < 1:
        kept = {task: queue[: max(1, round(buffer * len(queue)))] for task, queue in queues.items()}
    elif selection == "balanced":
        sizes = _even(int(buffer), [len(queue) for queue in queues.values()])
        kept = {task: queue[:size] for (task, queue), size in zip(queues.items(), sizes, strict=True)}
    else:
        every = sorted((priority, task, index) for task, queue in queues.items() for priority, index in queue)
        kept = {task: [] for task in queues}
        for priority, task, index in every[: int(buffer)]:
            kept[task].append((priority, index))
    return {task: tuple(sorted(index for _, index in entries)) for task, entries in kept.items()}


def _order(task: str, labels: Sequence[int | None], selection: str, *, seed: int) -> list[tuple[float, int]]:
    """All examples by priority; balanced, the first of every label come before the second of any."""
    import numpy as np

    draws = np.random.default_rng([seed, zlib.crc32(task.encode())]).random(len(labels))
    entries = sorted((float(draw), index) for index, draw in enumerate(draws))
    if selection != "balanced":
        return entries
    seen: dict[int | None, int] = {}
    ranked = []
    for priority, index in entries:
        rank = seen[labels[index]] = seen.get(labels[index], -1) + 1
        ranked.append((rank, priority, index))
    return [(priority, index) for _, priority, index in sorted(ranked)]


def _even(total: int, sizes: Sequence[int]) -> list[int]:
    """Divide `total` as evenly as the sizes allow; the first take what is left over."""
    shares = [0] * len(sizes)
    left = total
    while left and any(share < size for share, size in zip(shares, sizes, strict=True)):
        for index, size in enumerate(sizes):
            if left and shares[index] < size:
                shares[index] += 1
                left -= 1
    return shares
