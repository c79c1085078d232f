"""How long an answer takes: a version, the base alone, and the version merged, in turn on the same requests.

A machine that slows down for a moment slows all of them down, so what is kept is the median of the ratios, request by
request, beside the medians. One request is one example: there an adapter's own steps weigh most.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from limpet.errors import UsageError
from limpet.training import methods
from limpet.training.backbone import Backbone
from limpet.training.environment import current_environment
from limpet.training.heads import load_head
from limpet.training.merge import merged
from limpet.training.model import TaskModel, active
from limpet.training.shared_copy import shared_copy
from limpet.training.task_types import Example

__all__ = ["Latency", "latency", "paired_ratio", "time_in_turn"]

_SECONDS = 0.5
_LEAST, _MOST = 5, 40  # requests


@dataclass(frozen=True)
class Latency:
    """What was measured; `limpet.registry.costs.LATENCY` has the definitions."""

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
    backbone: Backbone, method: str, files: Mapping[str, Path], texts: Sequence[str], max_length: int
) -> dict[str, Any] | None:
    """Measure for about half a second how long a version takes for one text; null where that was switched off.

    Args:
        backbone: The base in memory; nothing is attached to it.
        method: The version's method.
        files: The version's files.
        texts: The requests.
        max_length: Longest text in tokens.

    Raises:
        IntegrityError: A file does not fit the base.
        UsageError: `LIMPET_LATENCY_SECONDS` is no number.
    """
    seconds = _budget()
    if seconds <= 0:
        return None
    encoded = load_head(files).encode(backbone.tokenizer, [Example(text) for text in texts], max_length, False)
    requests = [encoded.batch([index]) for index in range(len(texts))]
    with ExitStack() as stack:
        # on a copy of the modules, so that the base alone stands beside it
        beside = replace(backbone, model=shared_copy(backbone.model))
        models = [
            stack.enter_context(active(beside, method, files, files)),
            TaskModel(backbone.model, load_head(files).to(backbone.model.device), frozenset()).eval(),
        ]
        if methods.get(method).capabilities.mergeable:
            models.append(stack.enter_context(merged(backbone, method, files, files)))
        times = time_in_turn(models, requests, seconds)
    environment = current_environment("float32")
    with_it, alone, *rest = times
    return asdict(
        Latency(
            milliseconds=1000 * median(with_it),
            base_milliseconds=1000 * median(alone),
            ratio=paired_ratio(with_it, alone),
            merged_milliseconds=1000 * median(rest[0]) if rest else None,
            merged_ratio=paired_ratio(rest[0], alone) if rest else None,
            requests=len(alone),
            tokens=sum(request["input_ids"].shape[1] for request in requests) / len(requests),
            threads=environment.threads,
            device=environment.device,
        )
    )


def _budget() -> float:
    wanted = os.environ.get("LIMPET_LATENCY_SECONDS", _SECONDS)
    try:
        return float(wanted)
    except ValueError:
        raise UsageError(
            f"LIMPET_LATENCY_SECONDS is {wanted!r}, not a number of seconds.", "unset LIMPET_LATENCY_SECONDS"
        ) from None


def paired_ratio(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the median of `a` divided by `b`, pair by pair."""
    return median(one / other for one, other in zip(a, b, strict=True))


def time_in_turn(
    models: Sequence[Any],
    requests: Sequence[Mapping[str, Tensor]],
    seconds: float,
    least: int = _LEAST,
    most: int = _MOST,
) -> list[list[float]]:
    """Let every model answer the same requests, and return the seconds of each answer, by model.

    Args:
        models: In evaluation mode.
        requests: Batches of token ids and mask; they are gone through again and again.
        seconds: No new request begins after this long.
        least: Fewest requests, however long they take.
        most: Most requests.
    """
    device = next(models[0].parameters()).device
    inputs = [{key: tensor.to(device) for key, tensor in request.items()} for request in requests]
    times: list[list[float]] = [[] for _ in models]
    with torch.inference_mode():
        for model in models:
            # the first answer of a model pays for what is made once
            model(**inputs[0])
        started = time.perf_counter()
        for turn in range(most):
            if turn >= least and time.perf_counter() - started > seconds:
                break
            for place in range(len(models)):
                # whoever is first finds the caches as the one before left them, so all are first in turn
                index = (turn + place) % len(models)
                times[index].append(_seconds(models[index], inputs[turn % len(inputs)]))
    return times


def _seconds(model: Any, inputs: Mapping[str, Tensor]) -> float:
    _wait()
    started = time.perf_counter()
    model(**inputs)
    _wait()
    return time.perf_counter() - started


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
