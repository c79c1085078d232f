"""A task model's answers to a split, with no more work than they need.

Where nothing is attached to the base, the head reads features that are computed once; where the lower layers are the
base's own, the texts pass those once. What is kept is known by all that decides it, and gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from limpet.training import methods
from limpet.training.base.backbone import Backbone
from limpet.training.batching.encoded import Encoded
from limpet.training.batching.inference import Outcome, run_batches
from limpet.training.model import feature_cache
from limpet.training.model.fast_paths import fast_paths
from limpet.training.model.frozen_layer_cache import add_frozen_states
from limpet.training.model.task_model import TaskModel
from limpet.training.progress import SILENT, Progress

__all__ = ["AttachedModel", "feature_path", "predict_split"]


@dataclass(frozen=True)
class AttachedModel:
    """A method that is attached to the base, and both as a model with the task's head."""

    backbone: Backbone
    method: methods.Method
    model: TaskModel

    @property
    def reads_features(self) -> bool:
        """Whether the head reads what the base gives for a text, the same for every text at any time."""
        return (
            not isinstance(self.method, methods.TrainingFree)
            and self.model.head.config.type in methods.NON_GENERATIVE
        )


def predict_split(
    attached: AttachedModel,
    texts: Encoded,
    *,
    progress: Progress = SILENT,
    name: str = "evaluate",
    bypass_cache: bool = False,
) -> Outcome:
    """Return the answers of a model to texts, in the dtype that evaluations are computed in.

    Args:
        attached: What answers.
        texts: The texts with their plan.
        progress: Receives every batch.
        name: What is evaluated, for the progress bar.
        bypass_cache: Ask every layer for every text, whatever is kept.
    """
    model, device, dtype = attached.model, attached.backbone.device, attached.backbone.evaluation_dtype
    # in float32 by the very graph that answers are served by; in bfloat16 by the quickest
    disable = ("quick-layers",) if dtype == "float32" else ()
    with fast_paths(attached.method, model.module, dtype, disable=disable):
        if not bypass_cache and attached.reads_features:
            if path := feature_path(attached, texts, dtype):
                return feature_cache.answer(model, texts, device, path=path, progress=progress, dtype=dtype)
            if isinstance(attached.method, methods.SupportsFrozenPrefix):
                model.lower = attached.method.lower_layers(model.module)
                if model.lower is not None:
                    states = attached.backbone.lower_states
                    [texts] = add_frozen_states(model, [texts], device, progress=progress, dtype=dtype, states=states)
        return run_batches(model, texts, device, progress=progress, name=name, dtype=dtype)


def feature_path(attached: AttachedModel, texts: Encoded, dtype: str) -> Path | None:
    """Return where the features that a head reads of texts are kept; null where they are not those of the base."""
    if not attached.reads_features:
        return None
    return feature_cache.cache_path(attached.backbone, attached.model, texts, dtype=dtype)
