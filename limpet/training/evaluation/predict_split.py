"""A task model's answers to a split, with no more work than they need.

Where nothing is attached to the base, the head reads features that are computed once; where the lower layers are the
base's own, the texts pass those once. What is kept is known by all that decides it, and gives the same bits.
"""

from __future__ import annotations

from pathlib import Path

from limpet.training import methods
from limpet.training.base.backbone import Backbone
from limpet.training.base.precision import SERVED_DTYPE
from limpet.training.batching.encoded import Encoded
from limpet.training.batching.inference import Outcome, run
from limpet.training.model import feature_cache
from limpet.training.model.fast_paths import computing
from limpet.training.model.frozen_layer_cache import add_frozen_states
from limpet.training.model.task_model import TaskModel
from limpet.training.progress import SILENT, Progress

__all__ = ["answers", "kept_features"]


def answers(
    backbone: Backbone,
    method: methods.Method,
    model: TaskModel,
    *,
    texts: Encoded,
    progress: Progress = SILENT,
    name: str = "evaluate",
    anew: bool = False,
) -> Outcome:
    """Return the answers of a model to texts, in the dtype that evaluations are computed in.

    Args:
        backbone: The base in memory.
        method: What is attached to it.
        model: Both, with the task's head.
        texts: The texts with their plan.
        progress: Receives every batch.
        name: What is evaluated, for the progress bar.
        anew: Ask every layer for every text, whatever is kept.
    """
    device, dtype = backbone.model.device, backbone.evaluation_dtype
    # in float32 by the very graph that answers are served by; in bfloat16 by the quickest
    without = ("quick-layers",) if dtype == SERVED_DTYPE else ()
    with computing(method, model.module, dtype, without=without):
        if not anew and _reads_features(method, model):
            if kept := kept_features(backbone, method, model, texts=texts, dtype=dtype):
                return feature_cache.answer(model, texts, device, path=kept, progress=progress, dtype=dtype)
            if isinstance(method, methods.Layered):
                model.lower = method.lower_layers(model.module)
                if model.lower is not None:
                    [texts] = add_frozen_states(
                        model, [texts], device, progress=progress, dtype=dtype, states=backbone.lower_states
                    )
        return run(model, texts, device, progress=progress, name=name, dtype=dtype)


def kept_features(
    backbone: Backbone, method: methods.Method, model: TaskModel, *, texts: Encoded, dtype: str
) -> Path | None:
    """Return where the features that a head reads of texts are kept; null where they are not those of the base."""
    return feature_cache.cache_path(backbone, model, texts, dtype=dtype) if _reads_features(method, model) else None


def _reads_features(method: methods.Method, model: TaskModel) -> bool:
    return not isinstance(method, methods.OwnHead) and model.head.config.type in methods.FEATURES
