"""One training as a value: what is learned, on which base and how, and all that follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from limpet.errors import UsageError
from limpet.names import shown_method
from limpet.registry.formats.canonical import digest_json
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.store import Store
from limpet.registry.values import TaskRecord
from limpet.training import methods
from limpet.training.base.backbone import Backbone, positions
from limpet.training.base.precision import resolve_dtype
from limpet.training.batching.batches import PAD_TO, max_tokens_to_learn
from limpet.training.learning.joint_training import NO_JOINT, JointTraining
from limpet.training.learning.loop import LoopSettings
from limpet.training.learning.ranks.group import ALONE, Ranks
from limpet.training.learning.runs.run_folder import Start, run_folder
from limpet.training.learning.settings import TrainingSettings
from limpet.training.progress import SILENT, Progress

__all__ = ["TrainingRun", "nothing_to_replay"]


def nothing_to_replay(task: str, start: str | None) -> UsageError:
    """Return the error of a replay that begins with no version of its task."""
    return UsageError(
        f"What is replayed are rows that an earlier version of {task!r} was learned on, and training begins with "
        f"{'none' if start is None else start}.",
        f"limpet train {task} --from {task}@V --replay N",
    )


@dataclass(frozen=True)
class TrainingRun:
    """One training, as it travels from `learn` to the loop.

    Args:
        store: The home's registry.
        backbone: The base in memory.
        task: What is learned.
        settings: How.
        start: The adapter to begin with.
        joint: Other tasks to learn, or to rehearse, with it, and a penalty on the weights.
        lineage: Recorded with the version (stream, arm); no part of its identity.
        progress: Receives every step.
        ranks: The processes that learn it together; no part of its identity.
    """

    store: Store
    backbone: Backbone
    task: TaskRecord
    settings: TrainingSettings
    start: Start | None = None
    joint: JointTraining = NO_JOINT
    lineage: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress = SILENT
    ranks: Ranks = ALONE

    @cached_property
    def method(self) -> methods.Method:
        """The method, which works on this base.

        Raises:
            UsageError: There is no such method, or it does not work on this architecture.
        """
        return methods.get_for(self.settings.method, self.backbone.record)

    @cached_property
    def config(self) -> dict[str, Any]:
        """All settings with what they are for this base and task, as they are recorded with the version.

        Raises:
            UsageError: A setting of the method is wrong, or the method can't go on from `start`.
        """
        self._check_start()
        method = self.method.resolve(self.backbone.model, self.settings.method_settings)
        config: dict[str, Any] = {
            "method": method,
            # where nothing is trained, no setting of training is a part of what was made
            "training": {} if isinstance(self.method, methods.TrainingFree) else self._loop_config(),
            "max_length": self._longest_text(method),
        }
        # versions keep both under these names since they were first made: they decide a run's digest
        if self.joint.tasks:
            config["companions"] = [task.identity for task in self.joint.tasks]
        if self.joint.penalty is not None:
            config["penalty"] = self.joint.penalty.identity
        return config

    @cached_property
    def folder(self) -> Path:
        """The run's folder, which is known by all that decides the result."""
        identity: JsonObject = {
            "task": self.task.name,
            "method": self.method.name,
            "config": self.config,
            "base": self.backbone.record.digest,
            "data": self.task.data_digest,
            "seed": self.settings.seed,
            "start": self.start.digest if self.start else None,
        }
        return run_folder(self.store, digest_json(identity))

    @property
    def max_length(self) -> int:
        """Longest text in tokens."""
        length: int = self.config["max_length"]
        return length

    @property
    def trains(self) -> bool:
        """Whether anything is trained; else a method makes a head of examples."""
        return bool(self.config["training"])

    @property
    def dtype(self) -> str:
        """What products are computed in, `float32` or `bfloat16`."""
        return self.loop.dtype if self.trains else self.backbone.evaluation_dtype

    @property
    def use_cache(self) -> bool:
        """Whether what the frozen base gives is kept for later runs: only where it is computed in the default way."""
        return not self.settings.disable

    @property
    def loop(self) -> LoopSettings:
        """The settings of the loop, where something is trained."""
        training, settings, disabled = self.config["training"], self.settings, self.settings.disable
        model, record = self.backbone.model, self.backbone.record
        limit = max_tokens_to_learn(model.device.type, self.backbone.layers, record.hidden_size)
        return LoopSettings(
            epochs=training["epochs"],
            learning_rate=training["learning_rate"],
            batch_size=training["batch_size"],
            seed=self.settings.seed,
            dtype=training["dtype"],
            max_seconds=training["max_seconds"],
            weight_decay=training["weight_decay"],
            fused="fused-optimizer" not in disabled,
            max_tokens_per_microbatch=None if "token-budget" in disabled else limit,
            accumulate=settings.accumulate,
            schedule=settings.schedule,
            warmup=settings.warmup,
            patience=settings.patience,
            evaluate_every=settings.evaluate_every,
            optimizer=settings.optimizer,
            ranks=self.ranks,
        )

    def _check_start(self) -> None:
        if self.settings.replay is not None and (self.start is None or self.start.task != self.task.name):
            raise nothing_to_replay(self.task.name, None if self.start is None else self.start.reference)
        if self.start is None:
            return
        name = shown_method(self.method.name)
        if self.start.method != self.method.name:
            raise UsageError(
                f"{self.start.reference} was learned by {shown_method(self.start.method)!r}, so {name!r} can't go on "
                "from it.",
                f"--method {shown_method(self.start.method)}",
            )
        if isinstance(self.method, methods.TrainingFree):
            raise UsageError(
                f"{name!r} trains nothing, so it can't go on from {self.start.reference}.", f"--method {name}"
            )

    def _loop_config(self) -> dict[str, Any]:
        settings = self.settings
        training = {
            "epochs": settings.epochs,
            "learning_rate": settings.learning_rate or self.method.learning_rate,
            "batch_size": settings.batch_size,
            "dtype": resolve_dtype(settings.dtype, self.backbone.record.architecture),
            "max_seconds": settings.max_seconds,
            # versions without it were made when every parameter was decayed by 0.01, norms and factors too
            "weight_decay": settings.weight_decay,
        }
        # what is done by default is no part of a version's identity: it gives the same adapter, up to rounding.
        # what is disabled was recorded as `without` before it had this name, and digests stay
        training |= {"without": sorted(settings.disable)} if settings.disable else {}
        return training | settings.later()

    def _longest_text(self, method_config: Mapping[str, Any]) -> int:
        """Return for how many tokens there is room, beside the method's virtual ones, in the base's positions."""
        wanted = self.settings.max_length or self.task.definition.max_length
        virtual_tokens = self.method.virtual_tokens(method_config)
        limit = positions(self.backbone.model)
        if limit is None or (not virtual_tokens and wanted <= limit):
            return wanted
        # padding takes positions too
        room = (limit - virtual_tokens) // PAD_TO * PAD_TO
        if room < PAD_TO:
            raise UsageError(
                f"{self.method.name!r} takes {virtual_tokens} of the {limit} positions of "
                f"{self.backbone.record.name!r}, which leaves no room for a text.",
                f"--set virtual_tokens={max(1, limit // 4)}",
            )
        return min(wanted, room)
