"""Answers of a version for new texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limpet.errors import UsageError
from limpet.registry.store import Store
from limpet.registry.values import VersionRecord
from limpet.training.backbone import Backbone
from limpet.training.evaluate import encode_texts, run
from limpet.training.model import active, version_files

__all__ = ["Prediction", "predict", "predictions"]


@dataclass(frozen=True)
class Prediction:
    """The answer for one text: the label, its probability, and the logits in the order of the label map."""

    text: str
    label: str
    probability: float
    logits: tuple[float, ...]


def predict(store: Store, backbone: Backbone, version: VersionRecord, texts: Sequence[str]) -> tuple[Prediction, ...]:
    """Classify `texts` with a version, in float32.

    Raises:
        UsageError: There is no text.
        IntegrityError: A file is corrupt, or the version belongs to another base.
    """
    if not texts:
        raise UsageError("There is no text to classify.", f'limpet predict {version.task} "some text"')
    files = version_files(store, backbone, version)
    encoded = encode_texts(backbone.tokenizer, texts, int(version.config["max_length"]))
    with active(backbone, version.method, files, files) as model:
        outcome = run(model, model.head, encoded, backbone.model.device)
    return predictions(version, texts, outcome.predictions, outcome.logits)


def predictions(
    version: VersionRecord, texts: Sequence[str], answers: Sequence[int], logits: Tensor
) -> tuple[Prediction, ...]:
    """Return the predictions for texts, from label ids and logits (texts, labels) in their order."""
    probabilities = torch.softmax(logits, dim=-1)
    return tuple(
        Prediction(text, version.labels[label], float(row[label]), tuple(float(value) for value in values))
        for text, label, row, values in zip(texts, answers, probabilities, logits, strict=True)
    )
