"""How long an answer takes: a version, the base alone, and the version merged, in turn on the same requests.

A machine that slows down for a moment slows all of them down, so what is kept is the median of the ratios, request by
request, beside the medians. One request is one example: there an adapter's own steps weigh most.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from limpet.errors import UsageError
from limpet.training import methods
from limpet.training.base.backbone import Backbone
from limpet.training.base.shared_copy import shared_copy
from limpet.training.batching.batches import on_device
from limpet.training.batching.examples import Example
from limpet.training.heads import AnsweringHead
from limpet.training.merging.merge import merged
from limpet.training.model.task_model import TaskModel, active, bound_head

__all__ = ["BRIEF_SECONDS", "LONG_SECONDS", "Latency", "answers", "latency", "paired_ratio", "reads", "time_in_turn"]

BRIEF_SECONDS = 0.1
"""For a version that joins a home: somebody waits for it."""
LONG_SECONDS = 1.0
"""For a comparison that somebody asked for."""
_LEAST, _MOST = 5, 40  # requests
_LARGEST_COPIED = 1 << 30
"""Bytes of a base's files; of a larger one no merged copy is timed: it would be a second base in memory."""


@dataclass(frozen=True)
class Latency:
    """What was measured; `limpet.registry.versions.costs.LATENCY` has the definitions."""

    milliseconds: float
    base_milliseconds: float
    ratio: float
    merged_milliseconds: float | None
    merged_ratio: float | None
    requests: int
    tokens: float
    threads: int
    device: str


def latency(
    backbone: Backbone,
    method: str,
    files: Mapping[str, Path],
    *,
    texts: Sequence[str],
    max_length: int,
    seconds: float,
) -> dict[str, Any] | None:
    """Measure, and as long again merged, how long an answer takes; null where that is switched off.

    Args:
        backbone: The base in memory; nothing is attached to it.
        method: The version's method.
        files: The version's files.
        texts: The requests.
        max_length: Longest text in tokens.
        seconds: For how long, unless `LIMPET_LATENCY_SECONDS` says otherwise.

    Raises:
        IntegrityError: A file does not fit the base.
        UsageError: `LIMPET_LATENCY_SECONDS` is no number.
    """
    seconds = _budget(seconds)
    if seconds <= 0:
        return None
    with ExitStack() as stack:
        # on a copy of the modules, so that the base alone stands beside it
        beside = replace(backbone, model=shared_copy(backbone.model))
        model = stack.enter_context(active(beside, method, files, head=files))
        base = TaskModel(backbone.model, bound_head(backbone, files), frozenset()).eval()
        encoded = model.encode(backbone.tokenizer, [Example(text) for text in texts], max_length)
        device = backbone.device
        batches = [encoded.batch([index]) for index in range(len(texts))]
        requests = [on_device(batch, device) for batch in batches]
        with_it, alone = time_in_turn([answers(model), reads(base)], requests, seconds)
        merged_in, beside_it = None, None
        if methods.get(method).capabilities.mergeable and backbone.record.size <= _LARGEST_COPIED:
            # apart from the first two, which share their weights: the processor would have those at hand for the base
            # an adapter made elsewhere may have more than its method makes here
            with suppress(UsageError):
                model = stack.enter_context(merged(backbone, method, files, head=files))
                merged_in, beside_it = time_in_turn([answers(model), reads(base)], requests, seconds)
    environment = backbone.environment("float32")
    return asdict(
        Latency(
            milliseconds=1000 * median(with_it),
            base_milliseconds=1000 * median(alone),
            ratio=paired_ratio(with_it, alone),
            merged_milliseconds=1000 * median(merged_in) if merged_in else None,
            merged_ratio=paired_ratio(merged_in, beside_it) if merged_in and beside_it else None,
            requests=len(alone),
            tokens=sum(request["input_ids"].shape[1] for request in requests) / len(requests),
            threads=environment.threads,
            device=environment.device,
        )
    )


def _budget(default: float) -> float:
    seconds = os.environ.get("LIMPET_LATENCY_SECONDS", default)
    try:
        return float(seconds)
    except ValueError:
        raise UsageError(
            f"LIMPET_LATENCY_SECONDS is {seconds!r}, not a number of seconds.", "unset LIMPET_LATENCY_SECONDS"
        ) from None


def paired_ratio(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the median of `a` divided by `b`, pair by pair."""
    return median(one / other for one, other in zip(a, b, strict=True))


def time_in_turn(
    passes: Sequence[Callable[[Mapping[str, Tensor]], object]],
    requests: Sequence[Mapping[str, Tensor]],
    seconds: float,
    *,
    least: int = _LEAST,
    most: int = _MOST,
) -> list[list[float]]:
    """Do each of several things with the same requests in turn, and return the seconds that each took every time.

    Args:
        passes: What to do with a request.
        requests: Batches, where the model is; they are gone through again and again.
        seconds: No new request begins after this long.
        least: Fewest requests, however long they take.
        most: Most requests.
    """
    times: list[list[float]] = [[] for _ in passes]
    with torch.inference_mode():
        for do in passes:
            # the first time pays for what is made once
            do(requests[0])
        started = time.perf_counter()
        for turn in range(most):
            if turn >= least and time.perf_counter() - started > seconds:
                break
            for place in range(len(passes)):
                # whoever is first finds the caches as the one before left them, so all are first in turn
                index = (turn + place) % len(passes)
                times[index].append(_seconds(passes[index], requests[turn % len(requests)]))
    return times


def answers(model: TaskModel) -> Callable[[Mapping[str, Tensor]], object]:
    """Return what a model does for an answer, up to the first word where it writes."""
    head: AnsweringHead = model.head
    return lambda batch: head.first_pass(model, batch)


def reads(model: TaskModel) -> Callable[[Mapping[str, Tensor]], object]:
    """Return what a model does to read a text."""
    return lambda batch: model.hidden(**batch)


def _seconds(do: Callable[[Mapping[str, Tensor]], object], request: Mapping[str, Tensor]) -> float:
    _wait()
    started = time.perf_counter()
    do(request)
    _wait()
    return time.perf_counter() - started


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
