"""Full fine-tuning: every weight of a copy of the base is trained. The baseline that PEFT is held against."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file
from torch import nn

from limpet.errors import IntegrityError
from limpet.registry.formats.adapter_files import MODEL_FILE
from limpet.training.methods._protocol import ALL_HEADED, Capabilities
from limpet.training.methods._settings import read_settings
from limpet.training.methods._without_peft import OutsidePeft

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["METHODS", "Full"]


class Full(OutsidePeft):
    """All weights are trained, on a copy; the base itself stays as it is."""

    name = "full"
    summary = "every weight of a copy of the base: the baseline"
    capabilities = Capabilities(
        task_types=ALL_HEADED,
        trains_base_copy=True,
    )
    learning_rate = 1e-4
    alternatives = ("partial", "lora")

    def resolve(self, backbone: PreTrainedModel, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Full fine-tuning has no settings of its own; see `Method.resolve`."""
        return asdict(read_settings(self.name, self.settings, settings))

    def attach(self, backbone: PreTrainedModel, config: Mapping[str, Any]) -> nn.Module:
        """See `Method.attach`."""
        # what is trained is trained in float32, however the base is held: steps are smaller than 16 bits can tell
        module: nn.Module = copy.deepcopy(backbone).float()
        return module.requires_grad_(True)

    def save(self, module: nn.Module, base_name: str, folder: Path) -> None:
        """See `Method.save`."""
        tensors = {name: t.detach().cpu().clone().contiguous() for name, t in sorted(module.state_dict().items())}
        save_file(tensors, folder / MODEL_FILE, metadata={"format": "pt"})

    def load(self, backbone: PreTrainedModel, files: Mapping[str, Path]) -> nn.Module:
        """See `Method.load`."""
        if MODEL_FILE not in files:
            raise IntegrityError(f"The version has no {MODEL_FILE}.", "limpet verify")
        module = self.attach(backbone, {})
        try:
            module.load_state_dict(load_file(files[MODEL_FILE]))
        except RuntimeError as error:
            raise IntegrityError(f"The weights do not fit this base: {error}", "limpet base show") from error
        return module


METHODS = (Full(),)
