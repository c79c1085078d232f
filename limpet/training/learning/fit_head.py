"""Fitting a head alone: where nothing else is trained, the texts pass the frozen base once, not in every epoch."""

from __future__ import annotations

from limpet.training.batching.encoded import Encoded
from limpet.training.batching.inference import run
from limpet.training.learning.checkpoint import Checkpoint
from limpet.training.learning.loop import Fitted, Validation, fit
from limpet.training.learning.objectives import TaskLoss
from limpet.training.learning.run import TrainingRun
from limpet.training.learning.validation import ValidationSplit
from limpet.training.model.feature_cache import Features, HeadModel, cache_path, extract
from limpet.training.model.task_model import TaskModel

__all__ = ["fit_head"]


def fit_head(
    training: TrainingRun, model: TaskModel, train: Encoded, *, validation: ValidationSplit, checkpoint: Checkpoint
) -> Fitted:
    """Fit the head of `model` on features of its texts, in the batches that the texts would have had.

    Args:
        training: What is learned, and how.
        model: The backbone, with or without an adapter, and the head; nothing but the head is trained.
        train: The training examples, with their targets.
        validation: The validation examples.
        checkpoint: Where to write the state, and to resume from.

    Raises:
        InterruptedRunError: A signal came; a checkpoint was kept.
        TrainingError: The loss is not finite.
    """
    features, unseen = _features(training, model, train), _features(training, model, validation.encoded)
    head_model = HeadModel(model.head)

    def validate() -> Validation:
        return validation.measure(run(head_model, unseen, training.backbone.device))

    fitted = fit(
        head_model,
        TaskLoss(features, model.head, training.backbone.device, max_tokens_per_microbatch=None),
        training.loop,
        validate=validate,
        checkpoint=checkpoint,
        progress=training.progress,
    )
    # in whichever run they were computed
    return fitted.after(features.seconds + unseen.seconds)


def _features(training: TrainingRun, model: TaskModel, texts: Encoded) -> Features:
    dtype = training.loop.dtype
    path = cache_path(training.backbone, model, texts, dtype=dtype) if training.use_cache else None
    return extract(model, texts, training.backbone.device, path=path, progress=training.progress, dtype=dtype)
