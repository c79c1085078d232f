"""Schedules of the learning rate: a linear warm-up, then down to 0 or not."""

from __future__ import annotations

import math

__all__ = ["SCHEDULES", "learning_rate_factor"]

SCHEDULES = ("linear", "cosine", "constant")


def learning_rate_factor(step: int, total: int, warmup: float, *, schedule: str) -> float:
    """Return what the peak learning rate is multiplied with in a step; a factor in (0, 1].

    It rises linearly over the warm-up. Then it stays (`constant`), or falls to 0 behind the last step: in a straight
    line (`linear`), or along half a cosine (`cosine`; Loshchilov & Hutter 2017, SGDR, without restarts).

    Args:
        step: The step, from 0.
        total: How many steps there are.
        warmup: A share of all steps; from 1 on a number of them.
        schedule: One of `SCHEDULES`.
    """
    warm = max(1, round(total * warmup) if warmup < 1 else int(warmup))
    left = (total - step) / max(1, total - warm + 1)
    if schedule == "constant":
        left = 1.0
    elif schedule == "cosine":
        left = 0.5 * (1 + math.cos(math.pi * (1 - min(1.0, left))))
    return min((step + 1) / warm, left)
