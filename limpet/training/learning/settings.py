"""How a task is to be learned: the settings of a training, checked."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import InitVar, asdict, dataclass, field
from typing import Any

from limpet.argument_types import check_fields
from limpet.errors import UsageError
from limpet.names import recorded_method
from limpet.training import methods
from limpet.training.base.precision import check_dtype
from limpet.training.learning.optimization.optimizers import OPTIMIZERS, needs_library
from limpet.training.learning.optimization.schedules import SCHEDULES
from limpet.training.model.fast_paths import check_optimizations

__all__ = ["TrainingSettings"]

_LOOP_KEYS = {
    "lr": "learning_rate",
    "epochs": "epochs",
    "batch_size": "batch_size",
    "max_length": "max_length",
    "weight_decay": "weight_decay",
    "dtype": "dtype",
    "accumulate": "accumulate",
    "checkpointing": "checkpointing",
    "schedule": "schedule",
    "warmup": "warmup",
    "patience": "patience",
    "evaluate_every": "evaluate_every",
    "class_weights": "class_weights",
    "optimizer": "optimizer",
    "packing": "packing",
    "disable": "disable",
    # as stream files had it, and as streams and versions are recorded
    "without": "disable",
}


_LATER: dict[str, Any] = {
    "replay": None,
    "accumulate": 1,
    "checkpointing": False,
    "schedule": "linear",
    "warmup": 0.1,
    "patience": None,
    "evaluate_every": None,
    "class_weights": None,
    "optimizer": "adamw",
    "packing": False,
}
"""Settings that runs were recorded without before there were any, by what was done then."""


@dataclass(frozen=True)
class TrainingSettings:
    """How a task is to be learned.

    `learning_rate` None means the method's own; `max_length` (tokens) None means
    the task's; `dtype` is `auto`, `bfloat16` or `float32`; `max_seconds` ends training early; `weight_decay` pulls
    matrices towards 0, and no norm, bias, scale or factor (see `limpet.training.learning.optimization.weight_decay`);
    `disable` names optimizations to leave out (see `limpet.training.model.fast_paths.OPTIMIZATIONS`), and was called
    `without`.
    `replay` is how many of the rows that the version to begin with was learned on are learned again in each epoch,
    beside those that are new or corrected since; None means all.

    A step learns from `accumulate` times `batch_size` examples, of which `batch_size` are computed together at the
    most. `checkpointing` keeps each layer's inputs alone and computes the rest again in the backward pass. The
    learning rate rises over `warmup` (a share of all steps, from 1 on a number of them), then follows `schedule`:
    `linear` or `cosine` to 0, or `constant`. The validation split is scored after each epoch, and after every
    `evaluate_every` steps; after `patience` scores in a row without a better one, training ends. With
    `class_weights` "balanced", labels weigh the more in the loss the rarer they are. `optimizer` is `adamw`, or
    `adamw-8bit`, whose states take a quarter of the memory (see `limpet.training.learning.optimization.optimizers`).
    With `packing`, the texts of a step share rows of at most `max_length` tokens, without seeing each other (see
    `limpet.training.batching.packing`).
    """

    method: str = methods.DEFAULT
    method_settings: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 3
    learning_rate: float | None = None
    batch_size: int = 16
    seed: int = 0
    max_length: int | None = None
    dtype: str = "auto"
    max_seconds: float | None = None
    weight_decay: float = 0.01
    disable: tuple[str, ...] = ()
    replay: int | None = None
    accumulate: int = 1
    checkpointing: bool = False
    schedule: str = "linear"
    warmup: float = 0.1
    patience: int | None = None
    evaluate_every: int | None = None
    class_weights: str | None = None
    optimizer: str = "adamw"
    packing: bool = False
    without: InitVar[tuple[str, ...]] = ()

    @classmethod
    def of(cls, method: str, settings: Mapping[str, Any], seed: int) -> TrainingSettings:
        """Tell what is the loop's (`lr` and the others of a stream's `training`) from what is the method's."""
        own = dict(settings)
        loop = {name: own.pop(key) for key, name in _LOOP_KEYS.items() if key in own}
        # of a file it is a list
        loop["disable"] = tuple(str(name) for name in loop.get("disable", ()))
        return cls(method=method, method_settings=own, seed=seed, **loop)

    def recorded(self) -> dict[str, Any]:
        """Return the settings as a run's record has them, and every digest of them: with names that never change."""
        settings = {name: value for name, value in asdict(self).items() if _LATER.get(name, ...) != value}
        return settings | {"without": settings.pop("disable")}

    @classmethod
    def from_record(cls, settings: Mapping[str, Any]) -> TrainingSettings:
        """Return the settings of a run's record."""
        own = dict(settings)
        disable = tuple(own.pop("without", ()))
        return cls(**own, disable=disable)

    def later(self) -> dict[str, Any]:
        """Return the settings that came later than the first versions, where they are not what was done before."""
        return {name: getattr(self, name) for name, usual in _LATER.items() if getattr(self, name) != usual}

    def __post_init__(self, without: tuple[str, ...]) -> None:
        """Check ranges.

        Raises:
            UsageError: A value makes no sense.
            UnavailableError: The library of its optimizer is not installed.
        """
        check_fields(self)
        object.__setattr__(self, "method", recorded_method(self.method))
        if without:
            warnings.warn("TrainingSettings(without=...) is called disable now", DeprecationWarning, stacklevel=3)
            object.__setattr__(self, "disable", (*self.disable, *without))
        ranges = {
            "epochs": (self.epochs >= 1, "1 or more"),
            "batch_size": (self.batch_size >= 1, "1 or more"),
            "learning_rate": (self.learning_rate is None or 0 < self.learning_rate < 10, "above 0 and below 10"),
            "seed": (0 <= self.seed < 2**31, "0 to 2147483647"),
            "max_length": (self.max_length is None or self.max_length >= 2, "2 or more"),
            "weight_decay": (0 <= self.weight_decay < 1, "0 or more and below 1"),
            "replay": (self.replay is None or self.replay >= 0, "0 or more, or all"),
            "max_seconds": (self.max_seconds is None or self.max_seconds > 0, "above 0"),
            "accumulate": (self.accumulate >= 1, "1 or more"),
            "schedule": (self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
            "warmup": (
                0 <= self.warmup < 1 or (self.warmup >= 1 and float(self.warmup).is_integer()),
                "a share of all steps below 1, or a number of steps",
            ),
            "patience": (self.patience is None or self.patience >= 1, "1 or more"),
            "evaluate_every": (self.evaluate_every is None or self.evaluate_every >= 1, "1 or more"),
            "class_weights": (self.class_weights in (None, "balanced"), "balanced"),
            "optimizer": (self.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}"),
        }
        check_optimizations(self.disable)
        check_dtype(self.dtype)
        for name, (fine, allowed) in ranges.items():
            if not fine:
                words = name.replace("_", " ")
                raise UsageError(f"The {words} can't be {getattr(self, name)!r}.", f"it must be {allowed}")
        needs_library(self.optimizer)
