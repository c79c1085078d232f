"""How the monitor's tests train: long enough to answer better than chance."""

from __future__ import annotations

from limpet.training.learning.settings import TrainingSettings

__all__ = ["QUICK"]

QUICK = TrainingSettings(epochs=3, batch_size=8, dtype="float32", learning_rate=5e-3)
