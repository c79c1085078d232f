"""The names of an adapter's files: its own, those of its head, and those that say what they mean."""

from __future__ import annotations

__all__ = ["DEMONSTRATIONS_FILE", "HEAD_FILES", "LABELS_FILE", "MODEL_FILE", "PEFT_FILES"]

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
