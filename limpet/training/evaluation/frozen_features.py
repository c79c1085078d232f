"""What a head reads of examples where nothing is trained: the features of the base, or of a state, as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from limpet.training import methods
from limpet.training.base.backbone import Backbone
from limpet.training.batching.examples import Example
from limpet.training.heads import Head
from limpet.training.model.fast_paths import fast_paths
from limpet.training.model.feature_cache import cache_path, extract
from limpet.training.model.task_model import TaskModel, base_modules
from limpet.training.progress import SILENT, Progress

__all__ = ["frozen_features"]


def frozen_features(
    backbone: Backbone,
    head: Head,
    examples: Sequence[Example],
    *,
    max_length: int,
    state: tuple[str, Mapping[str, Path]] | None = None,
    progress: Progress = SILENT,
) -> Tensor:
    """Return the features of examples in float32, (examples, hidden); those of the base alone are computed once.

    Args:
        backbone: The base in memory; it is left as it is.
        head: Says how features are pooled into one row for each text.
        examples: The texts.
        max_length: Longest text in tokens.
        state: The method and files of the weights on the base; null for the base alone.
        progress: Receives every batch.

    Raises:
        IntegrityError: A file does not fit this base.
    """
    method = methods.get(state[0] if state else methods.NO_ADAPTER)
    module = method.load(backbone.model, state[1] if state else {})
    dtype = backbone.evaluation_dtype
    try:
        model = TaskModel(module, head, base_modules(backbone)).eval()
        encoded = model.encode(backbone.tokenizer, examples, max_length)
        with fast_paths(method, module, dtype):
            path = cache_path(backbone, model, encoded, dtype=dtype)
            features = extract(model, encoded, backbone.device, path=path, progress=progress, dtype=dtype)
    finally:
        method.detach(module)
    return torch.stack(features.rows).float()
