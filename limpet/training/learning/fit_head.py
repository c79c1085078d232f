"""Fitting a head alone: where nothing else is trained, the texts pass the frozen base once, not in every epoch."""

from __future__ import annotations

from limpet.training.batching.encoded import Encoded
from limpet.training.batching.inference import run_batches
from limpet.training.learning.loop import Fitted, Validation, fit
from limpet.training.learning.objectives import Replay, TaskLoss
from limpet.training.learning.runs.checkpoint import Checkpoint
from limpet.training.learning.training_run import TrainingRun
from limpet.training.learning.validation import ValidationSplit
from limpet.training.model.feature_cache import Features, HeadModel, cache_path, extract
from limpet.training.model.task_model import TaskModel

__all__ = ["fit_head"]


def fit_head(
    run: TrainingRun,
    model: TaskModel,
    train: Encoded,
    *,
    replay: Replay | None,
    validation: ValidationSplit,
    checkpoint: Checkpoint,
) -> Fitted:
    """Fit the head of `model` on features of its texts, in the batches that the texts would have had.

    Args:
        run: What is learned, and how.
        model: The backbone, with or without an adapter, and the head; nothing but the head is trained.
        train: The training examples, with their targets.
        replay: Which training examples an epoch has only some of.
        validation: The validation examples.
        checkpoint: Where to write the state, and to resume from.

    Raises:
        InterruptedRunError: A signal came; a checkpoint was kept.
        TrainingError: The loss is not finite.
    """
    features, unseen = _features(run, model, train), _features(run, model, validation.encoded)
    head_model = HeadModel(model.head)

    def validate() -> Validation:
        return validation.measure(run_batches(head_model, unseen, run.backbone.device))

    fitted = fit(
        head_model,
        TaskLoss(features, model.head, run.backbone.device, max_tokens_per_microbatch=None, replay=replay),
        run.loop,
        validate=validate,
        checkpoint=checkpoint,
        progress=run.progress,
    )
    # in whichever run they were computed
    return fitted.after(features.seconds + unseen.seconds)


def _features(run: TrainingRun, model: TaskModel, texts: Encoded) -> Features:
    dtype = run.loop.dtype
    path = cache_path(run.backbone, model, texts, dtype=dtype) if run.use_cache else None
    return extract(model, texts, run.backbone.device, path=path, progress=run.progress, dtype=dtype)
