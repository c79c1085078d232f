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
from limpet.training.model.fast_paths import check_optimizations

__all__ = ["TrainingSettings"]

_LOOP_KEYS = {
    "lr": "learning_rate",
    "epochs": "epochs",
    "batch_size": "batch_size",
    "max_length": "max_length",
    "weight_decay": "weight_decay",
    "dtype": "dtype",
    "disable": "disable",
    # as stream files had it, and as streams and versions are recorded
    "without": "disable",
}


@dataclass(frozen=True)
class TrainingSettings:
    """How a task is to be learned.

    `learning_rate` None means the method's own; `max_length` (tokens) None means
    the task's; `dtype` is `auto`, `bfloat16` or `float32`; `max_seconds` ends training early; `weight_decay` pulls
    matrices towards 0, and no norm, bias, scale or factor (see `limpet.training.learning.weight_decay`); `disable`
    names optimizations to leave out (see `limpet.training.model.fast_paths.OPTIMIZATIONS`), and was called `without`.
    `replay` is how many of the rows that the version to begin with was learned on are learned again in each epoch,
    beside those that are new or corrected since; None means all.
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
        settings = asdict(self)
        if self.replay is None:
            # as before there was such a thing
            del settings["replay"]
        return settings | {"without": settings.pop("disable")}

    @classmethod
    def from_record(cls, settings: Mapping[str, Any]) -> TrainingSettings:
        """Return the settings of a run's record."""
        own = dict(settings)
        disable = tuple(own.pop("without", ()))
        return cls(**own, disable=disable)

    def __post_init__(self, without: tuple[str, ...]) -> None:
        """Check ranges.

        Raises:
            UsageError: A value makes no sense.
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
        }
        check_optimizations(self.disable)
        check_dtype(self.dtype)
        for name, (fine, allowed) in ranges.items():
            if not fine:
                words = name.replace("_", " ")
                raise UsageError(f"The {words} can't be {getattr(self, name)!r}.", f"it must be {allowed}")
