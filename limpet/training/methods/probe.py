"""Feature extraction: the base is frozen as it is, and the task's head alone is trained on what it gives.

Nothing is attached, so the features of a text never change: the trainer extracts them once and keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from limpet.training.methods import FEATURES, Capabilities, resolve_settings

__all__ = ["METHODS", "Probe"]


class Probe:
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
    peft_type = None
    alternatives = ("lora",)
    example: Mapping[str, Any] = {}

    def virtual_tokens(self, config: Mapping[str, Any]) -> int:
        """See `Method.virtual_tokens`."""
        return 0

    def recorded(self, peft_config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Method.recorded`."""
        return {}

    def resolve(self, backbone: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        """A probe has no settings of its own; see `Method.resolve`."""
        return resolve_settings(self.name, {}, settings)

    def attach(self, backbone: Any, config: Mapping[str, Any]) -> nn.Module:
        """The base itself; see `Method.attach`."""
        base: nn.Module = backbone
        return base

    def save(self, module: nn.Module, config: Mapping[str, Any], base_name: str, folder: Path) -> None:
        """There is nothing to save: the head is the task's own."""

    def load(self, backbone: Any, files: Mapping[str, Path]) -> nn.Module:
        """The base itself; see `Method.load`."""
        base: nn.Module = backbone
        return base

    def detach(self, module: nn.Module) -> None:
        """Nothing was attached."""


METHODS = (Probe(),)
