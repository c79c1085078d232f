"""An adapter's files: the names of its own, those of its head, and those that say what they mean."""

from __future__ import annotations

import json
from collections.abc import Sequence

__all__ = ["DEMONSTRATIONS_FILE", "HEAD_FILES", "LABELS_FILE", "MODEL_FILE", "PEFT_FILES", "labels_document"]

PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors")
"""What peft writes for an adapter: its configuration and its tensors."""
MODEL_FILE = "model.safetensors"
"""The tensors of a method that trains layers of the base themselves."""
HEAD_FILES = ("head.json", "head.safetensors")
"""How a head is built, and its tensors, where it has any."""
LABELS_FILE = "labels.json"
"""The label of each id of a head, in order."""
DEMONSTRATIONS_FILE = "demonstrations.json"
"""The solved examples of an adapter that was made of examples alone."""


def labels_document(labels: Sequence[str]) -> bytes:
    """Return the bytes of a `labels.json`: it is among a version's files, so its form is part of a digest."""
    return (json.dumps(list(labels), indent=2) + "\n").encode()
