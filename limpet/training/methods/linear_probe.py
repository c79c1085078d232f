"""A linear probe: the base is frozen as it is, and the task's head alone is trained on what it gives.

Nothing is attached, so the features of a text never change: the trainer extracts them once and keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from limpet.training.methods._protocol import NON_GENERATIVE, Capabilities
from limpet.training.methods._settings import read_settings
from limpet.training.methods._without_peft import Untouched

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["METHODS", "LinearProbe"]


class LinearProbe(Untouched):
    """No parameters but the head's."""

    # people say linear-probe; versions are recorded under this name, and their digests stay
    name = "probe"
    summary = "a head on frozen features, extracted once"
    capabilities = Capabilities(
        task_types=NON_GENERATIVE,
        mixed_batches=True,
    )
    learning_rate = 1e-2
    alternatives = ("lora",)

    def resolve(self, backbone: PreTrainedModel, settings: Mapping[str, Any]) -> dict[str, Any]:
        """A linear probe has no settings of its own; see `Method.resolve`."""
        return asdict(read_settings(self.name, self.settings, settings))


METHODS = (LinearProbe(),)
