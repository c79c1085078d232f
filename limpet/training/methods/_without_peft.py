"""What methods share that stand outside peft."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from limpet.training.methods._settings import OwnSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["OutsidePeft", "Untouched"]


class OutsidePeft(OwnSettings):
    """A method that peft has no adapters of; it takes none of the base's positions."""

    peft_type = None

    def virtual_tokens(self, config: Mapping[str, Any]) -> int:
        """See `Method.virtual_tokens`."""
        return 0

    def recorded(self, peft_config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Method.recorded`."""
        return {}

    def detach(self, module: nn.Module) -> None:
        """See `Method.detach`: the base was never touched, and a copy of it is dropped with its last reference."""


class Untouched(OutsidePeft):
    """A method that attaches nothing to the base: all that it adds is the task's head."""

    def attach(self, backbone: PreTrainedModel, config: Mapping[str, Any]) -> nn.Module:
        """The base itself; see `Method.attach`."""
        base: nn.Module = backbone
        return base

    def save(self, module: nn.Module, base_name: str, folder: Path) -> None:
        """There are no tensors to save but the head's; see `Method.save`."""

    def load(self, backbone: PreTrainedModel, files: Mapping[str, Path]) -> nn.Module:
        """The base itself; see `Method.load`."""
        base: nn.Module = backbone
        return base
