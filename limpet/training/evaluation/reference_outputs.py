"""Reference outputs of a version: fixed texts, answered when it is added, and again whenever somebody doubts.

The logits take the path of `predict`: the adapter on the frozen base, the fixed batch plan. Inside one environment
the bits must be those recorded. Another library, processor or number of threads may add in another order: on MiniLM
that moved float32 logits by 1e-6 of their scale, while weights rounded to bfloat16 moved them by 7e-3. The
tolerance between two environments stands in the middle.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from limpet.errors import IntegrityError
from limpet.registry.records import reference_outputs
from limpet.registry.records.reference_outputs import ReferenceOutputs
from limpet.registry.store import Store
from limpet.registry.values import Environment, TaskRecord, VersionRecord
from limpet.training.base.backbone import Backbone
from limpet.training.base.environment import current_environment
from limpet.training.batching.examples import Example, flat_text
from limpet.training.batching.inference import run_batches
from limpet.training.data.stored_splits import read_split
from limpet.training.model.task_model import active, version_files

__all__ = ["TOLERANCE", "Answered", "Replay", "answer_again", "compute", "reference_inputs", "replay"]

TOLERANCE = 1e-4
"""The largest difference of a logit across environments, as a share of the largest recorded logit."""

_NEUTRAL = "The quick brown fox jumps over the lazy dog."
_TEXTS = 4
_CHARACTERS = 300


@dataclass(frozen=True)
class Answered:
    """The texts of reference outputs, answered now.

    `logits` has a row for each text; `loaded` has the digests of what was on the base in memory, as an evaluation
    keeps them; `environment` is where this was computed, with the dtype of the base.
    """

    logits: tuple[tuple[float, ...], ...]
    loaded: Mapping[str, str]
    plan_digest: str
    seconds: float
    environment: Environment


@dataclass(frozen=True)
class Replay:
    """How a version answers the texts of its reference outputs now.

    `largest_difference` is absolute, `scale` the largest absolute logit that was recorded; `changed` says what
    differs between the recorded environment and this one, such as `torch 2.13.0, now 2.14.0`.
    """

    reference: str
    largest_difference: float
    scale: float
    identical: bool
    same_environment: bool
    changed: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Bits are equal in the same environment; in another, no logit is further off than `TOLERANCE`."""
        return self.identical or (not self.same_environment and self.largest_difference <= TOLERANCE * self.scale)


def reference_inputs(store: Store, task: TaskRecord) -> tuple[str, ...]:
    """Return a task's fixed inputs: four texts of its evaluation split by the order of their digests, and a sentence.

    Raises:
        IntegrityError: The split's bytes are missing or changed.
    """
    texts = {flat_text(example.text)[:_CHARACTERS] for example in read_split(store, task, "evaluation")}
    chosen = sorted(texts, key=lambda text: hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    return (*chosen[:_TEXTS], _NEUTRAL)


def compute(
    backbone: Backbone, method: str, files: Mapping[str, Path], *, inputs: tuple[str, ...], max_length: int
) -> bytes:
    """Return an adapter's answers to `inputs`, as `registry.records.reference_outputs` keeps them.

    Raises:
        IntegrityError: A file does not fit the base, or a logit is not finite.
    """
    logits = _answers(backbone, method, files, inputs=inputs, max_length=max_length).logits
    if not all(math.isfinite(value) for row in logits for value in row):
        raise IntegrityError(
            "The adapter's answers are not finite numbers, so it was not registered.",
            "look at its tensors; train it with a smaller learning rate",
        )
    return reference_outputs.write(inputs, logits, max_length, environment=_environment(backbone))


def answer_again(store: Store, backbone: Backbone, version: VersionRecord, *, recorded: ReferenceOutputs) -> Answered:
    """Answer the texts of a version's reference outputs again.

    Raises:
        IntegrityError: A file is corrupt, or the version belongs to another base.
    """
    files = version_files(store, backbone, version)
    return _answers(backbone, version.method, files, inputs=recorded.inputs, max_length=recorded.max_length)


def replay(store: Store, backbone: Backbone, version: VersionRecord, *, recorded: ReferenceOutputs) -> Replay:
    """Answer the texts of a version's reference outputs again, and compare.

    Raises:
        IntegrityError: A file is corrupt, or the version belongs to another base.
    """
    answered = answer_again(store, backbone, version, recorded=recorded)
    changed = _changes(recorded.environment, answered.environment)
    before = [value for row in recorded.logits for value in row]
    now = [value for row in answered.logits for value in row]
    return Replay(
        reference=version.reference,
        largest_difference=_largest_difference(before, now),
        scale=max(abs(value) for value in before),
        identical=[value.hex() for value in before] == [value.hex() for value in now],
        same_environment=not changed,
        changed=changed,
    )


def _largest_difference(recorded: list[float], now: list[float]) -> float:
    """Return the largest absolute difference; infinite where a logit is NaN or the labels are not as many."""
    if len(recorded) != len(now):
        return math.inf
    differences = [abs(before - after) for before, after in zip(recorded, now, strict=True)]
    return math.inf if any(math.isnan(value) for value in differences) else max(differences)


def _answers(
    backbone: Backbone, method: str, files: Mapping[str, Path], *, inputs: tuple[str, ...], max_length: int
) -> Answered:
    with active(backbone, method, files, head=files) as model:
        loaded = model.loaded()
        # nothing to do in float32; a base that was cast since it was loaded shall answer, not fail in its head
        model.head.to(getattr(torch, _computed_dtype(backbone)))
        encoded = model.encode(backbone.tokenizer, [Example(text) for text in inputs], max_length)
        outcome = run_batches(model, encoded, backbone.device)
        logits = tuple(tuple(model.head.summary(row)) for row in outcome.rows)
    return Answered(logits, loaded, encoded.plan.digest, outcome.seconds, _environment(backbone))


def _environment(backbone: Backbone) -> Environment:
    return current_environment(_computed_dtype(backbone))


def _computed_dtype(backbone: Backbone) -> str:
    """Return what the base computes in here, whatever it is said to compute in: float32, unless it was cast."""
    dtype = str(backbone.model.dtype).removeprefix("torch.")
    return "float32" if dtype == backbone.held_dtype else dtype


def _changes(before: Environment, now: Environment) -> tuple[str, ...]:
    return tuple(
        f"{field.name} {getattr(before, field.name)}, now {getattr(now, field.name)}"
        for field in fields(Environment)
        if getattr(before, field.name) != getattr(now, field.name)
    )
