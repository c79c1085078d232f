"""Partial fine-tuning: the top layers of a copy of the base are trained, the layers below stay as they are."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from limpet.errors import IntegrityError, UsageError
from limpet.registry.formats.adapter_files import MODEL_FILE
from limpet.training.base.frozen_layers import LowerLayers
from limpet.training.methods._protocol import ALL_HEADED, Capabilities
from limpet.training.methods._settings import about, read_settings
from limpet.training.methods._without_peft import OutsidePeft

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel
    from transformers.utils import ModelOutput

__all__ = ["METHODS", "Partial", "PartialSettings"]

# what stands between the last layer and the head, by the names that architectures give it
_LAST_NORMS = ("norm", "ln_f", "final_layer_norm", "final_norm")


@dataclass(frozen=True)
class PartialSettings:
    """What `--set` takes."""

    layers: int = field(default=2, metadata=about("how many layers are trained, from the top"))


class Partial(OutsidePeft):
    """The top layers and the normalisation after them are trained on a copy; only those are saved."""

    name = "partial"
    summary = "the top layers of a copy of the base, and the head"
    capabilities = Capabilities(
        task_types=ALL_HEADED,
        trains_base_copy=True,
    )
    learning_rate = 1e-3
    settings = PartialSettings
    alternatives = ("full", "probe")

    def resolve(self, backbone: PreTrainedModel, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return how many layers are trained; see `Method.resolve`."""
        config = asdict(read_settings(self.name, PartialSettings, settings))
        _, stack = _stack(backbone)
        if not 1 <= config["layers"] <= len(stack):
            raise UsageError(
                f"This base has {len(stack)} layers, so the top {config['layers']} can't be trained.",
                f"--set layers={min(2, len(stack))}",
            )
        return config

    def attach(self, backbone: PreTrainedModel, config: Mapping[str, Any]) -> nn.Module:
        """See `Method.attach`."""
        return TopLayers(backbone, _top(backbone, config["layers"]))

    def save(self, module: TopLayers, base_name: str, folder: Path) -> None:
        """See `Method.save`; what was not trained is not saved."""
        trained = {name: p for name, p in sorted(module.model.named_parameters()) if p.requires_grad}
        tensors = {name: p.detach().cpu().clone().contiguous() for name, p in trained.items()}
        save_file(tensors, folder / MODEL_FILE, metadata={"format": "pt"})

    def load(self, backbone: PreTrainedModel, files: Mapping[str, Path]) -> nn.Module:
        """See `Method.load`; the saved tensors say which modules were trained."""
        if MODEL_FILE not in files:
            raise IntegrityError(f"The version has no {MODEL_FILE}.", "limpet verify")
        tensors = load_file(files[MODEL_FILE])
        name, _ = _stack(backbone)
        layers = {key.removeprefix(f"{name}.").split(".")[0] for key in tensors if key.startswith(f"{name}.")}
        try:
            module = TopLayers(backbone, _top(backbone, self.resolve(backbone, {"layers": len(layers)})["layers"]))
        except UsageError as error:
            raise IntegrityError(f"The weights do not fit this base: {error}", "limpet base show") from error
        trained = {key for key, parameter in module.model.named_parameters() if parameter.requires_grad}
        if trained != tensors.keys():
            raise IntegrityError("The weights are not those of this base's top layers.", "limpet base show")
        try:
            module.model.load_state_dict(tensors, strict=False)
        except RuntimeError as error:
            raise IntegrityError(f"The weights do not fit this base: {error}", "limpet base show") from error
        return module

    def lower_layers(self, module: TopLayers) -> LowerLayers | None:
        """See `SupportsFrozenPrefix`; in an encoder-decoder, texts pass the encoder too, so nothing is left out."""
        _, stack = _stack(module.model)
        trained = next(index for index, layer in enumerate(stack) if any(p.requires_grad for p in layer.parameters()))
        if trained == 0 or module.config.is_encoder_decoder:
            return None
        return LowerLayers(tuple(stack[:trained]), stack[trained])


class TopLayers(nn.Module):
    """A model whose modules named by `trained` are copies, trainable; everything else is shared with the base.

    Only the copies are ever in training mode: no dropout acts in what stays as it is.
    """

    def __init__(self, backbone: PreTrainedModel, trained: list[str]) -> None:
        super().__init__()
        own = {id(p) for name in trained for p in backbone.get_submodule(name).parameters()}
        tensors = (*backbone.parameters(), *backbone.buffers())
        shared = {id(tensor): tensor for tensor in tensors if id(tensor) not in own}
        self.model = copy.deepcopy(backbone, shared)
        self._trained = trained
        for name in trained:
            # what is trained is trained in float32, however the base is held
            self.model.get_submodule(name).float().requires_grad_(True)
        self.train(False)

    @property
    def config(self) -> PreTrainedConfig:
        """The model's configuration."""
        return self.model.config

    def get_base_model(self) -> PreTrainedModel:
        """The model itself, as peft's modules give it."""
        return self.model

    def forward(self, **inputs: Tensor) -> ModelOutput:
        """What the model answers."""
        return self.model(**inputs)

    def train(self, mode: bool = True) -> TopLayers:
        """Switch the trained modules alone."""
        super().train(False)
        self.training = mode
        for name in self._trained:
            self.model.get_submodule(name).train(mode)
        return self


def _stack(backbone: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """Return the layers that the head reads from, with their name: the last stack of as many as the base has.

    Raises:
        UsageError: The base has no such stack.
    """
    # an encoder-decoder's decoder comes after its encoder
    found = [
        (name, module)
        for name, module in backbone.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == backbone.config.num_hidden_layers
    ]
    if not found or "group" in found[-1][0]:
        raise UsageError(
            f"{backbone.config.model_type} models use one layer again and again, so they have no top layers.",
            "--method full",
        )
    return found[-1]


def _top(backbone: PreTrainedModel, layers: int) -> list[str]:
    """Return the names of the top layers, and of the normalisation after them."""
    name, stack = _stack(backbone)
    owner = name.rpartition(".")[0]
    names = [f"{name}.{index}" for index in range(len(stack) - layers, len(stack))]
    for norm in _LAST_NORMS:
        full = f"{owner}.{norm}".lstrip(".")
        # OPT has the attribute, and nothing in it where its layers normalise last
        if isinstance(getattr(backbone.get_submodule(owner), norm, None), nn.Module):
            names.append(full)
    return names


METHODS = (Partial(),)
