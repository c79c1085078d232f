"""Elastic weight consolidation: what mattered for earlier tasks is held where it was."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from limpet.errors import UsageError
from limpet.forgetting.strategies._context import Context, stage
from limpet.forgetting.strategies.sequential import Sequential

if TYPE_CHECKING:
    from torch import Tensor

    from limpet.registry.formats.json_values import JsonObject
    from limpet.registry.values import TaskRecord
    from limpet.training.learning.runs.run_folder import Staged, Start

__all__ = ["STRATEGY", "Ewc", "QuadraticPenalty", "fisher"]


@dataclass(frozen=True)
class QuadraticPenalty:
    """lambda/2 times the sum over weights of F (w - anchor)^2, up to a constant.

    One penalty for each earlier task, F_t (w - w_t)^2, add up to a single one: F is the sum of the F_t, the anchor
    their weighted mean of the w_t, and what is left over does not depend on w. So memory does not grow with tasks.
    """

    strength: float
    importance: Mapping[str, Tensor]
    anchor: Mapping[str, Tensor]
    identity: JsonObject

    def __call__(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the penalty of the parameters, a scalar in float32."""
        import torch

        terms = [
            (weight * (parameters[name] - self.anchor[name]).square()).sum()
            for name, weight in self.importance.items()
        ]
        return self.strength / 2 * torch.stack(terms).sum()


class Ewc(Sequential):
    """As `sequential`, with Kirkpatrick et al. 2017's penalty: one quadratic for each earlier task.

    The importance of a weight is the diagonal of the empirical Fisher information at the end of its task: the mean
    over examples of the squared gradient of the loss, one example at a time, targets as labelled. It is estimated on
    as many of the task's training examples as its validation split has. Heads are no part of it: they stay anyway.
    """

    name = "ewc"
    summary = "as sequential, held back by the diagonal Fisher information of earlier tasks"
    settings: Mapping[str, Any] = {"lambda": 1000.0}

    def check(self, settings: Mapping[str, Any]) -> None:
        """See `Strategy.check`."""
        if not 0 <= settings["lambda"] < float("inf"):
            raise UsageError(f"The strength of ewc can't be {settings['lambda']:g}.", "lambda: 1000")

    def stage(self, context: Context, index: int, learned: Mapping[str, Start]) -> tuple[Staged, ...]:
        """See `Strategy.stage`."""
        from limpet.training.learning.joint_training import JointTraining

        joint = JointTraining(penalty=self._penalty(context, index, learned) if index else None)
        return (stage(context, index, self.newest(context, index, learned), joint=joint),)

    def _penalty(self, context: Context, index: int, learned: Mapping[str, Start]) -> QuadraticPenalty:
        """Add what is not yet in memory: after an interruption, all earlier tasks."""
        memory = context.memory
        for task in context.tasks[len(memory.setdefault("tasks", [])) : index]:
            weights, values = fisher(context, task, learned[task.name])
            importance, weighted = memory.setdefault("importance", {}), memory.setdefault("weighted", {})
            for name, weight in weights.items():
                importance[name] = importance.get(name, 0) + weight
                weighted[name] = weighted.get(name, 0) + weight * values[name]
            memory["tasks"].append(task.name)
        # where no gradient ever came, the anchor is of no importance
        anchor = {
            name: memory["weighted"][name] / weight.clamp(min=1e-30) for name, weight in memory["importance"].items()
        }
        strength = context.settings["lambda"]
        identity = {"ewc": strength, "after": [learned[name].digest for name in memory["tasks"]]}
        return QuadraticPenalty(strength, dict(memory["importance"]), anchor, identity)


def fisher(context: Context, task: TaskRecord, learned: Start) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the diagonal of the empirical Fisher information and the weights it was taken at, by parameter name."""
    import numpy as np

    from limpet.training.data.stored_splits import read_split
    from limpet.training.learning.objectives import TaskLoss
    from limpet.training.model.task_model import active

    examples = read_split(context.store, task, "train")
    size = min(len(examples), task.split("validation").examples)
    generator = np.random.default_rng([context.training.seed, zlib.crc32(task.name.encode())])
    drawn = [examples[int(index)] for index in sorted(generator.choice(len(examples), size, replace=False))]
    max_length = context.training.max_length or task.definition.max_length
    context.progress.note(f"importance of weights for {task.name}, on {size} examples")
    with active(context.backbone, learned.method, learned.files, head=learned.files) as model:
        shared = {
            name: parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and name.startswith("module.")
        }
        values = {name: parameter.detach().clone() for name, parameter in shared.items()}
        sums = {name: parameter.detach().clone().zero_() for name, parameter in shared.items()}
        encoded = model.encode(context.backbone.tokenizer, drawn, max_length, learning=True)
        objective = TaskLoss(encoded, model.head, context.backbone.device)
        for number in range(size):
            for loss in objective.losses(model, [number]):
                loss.backward()  # type: ignore[no-untyped-call]
            for name, parameter in shared.items():
                if parameter.grad is not None:
                    sums[name] += parameter.grad.square()
            model.zero_grad(set_to_none=True)
    return {name: total / size for name, total in sums.items()}, values


STRATEGY = Ewc()
