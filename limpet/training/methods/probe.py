"""Feature extraction: the base is frozen as it is, and the task's head alone is trained on what it gives.

Nothing is attached, so the features of a text never change: the trainer extracts them once and keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limpet.training.methods import FEATURES, Capabilities, resolve_settings
from limpet.training.methods._without_peft import Untouched

__all__ = ["METHODS", "Probe"]


class Probe(Untouched):
    """No parameters but the head's."""

    name = "probe"
    summary = "a head on frozen features, extracted once"
    capabilities = Capabilities(
        task_types=FEATURES,
        families=frozenset({"encoder", "decoder", "encoder-decoder"}),
        mergeable=False,
        mixed_batches=True,
        servable=False,
        quantised_base=True,
        trains_base_copy=False,
    )
    learning_rate = 1e-2
    settings: Mapping[str, Any] = {}
    alternatives = ("lora",)

    def resolve(self, backbone: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        """A probe has no settings of its own; see `Method.resolve`."""
        return resolve_settings(self.name, {}, settings)


METHODS = (Probe(),)
