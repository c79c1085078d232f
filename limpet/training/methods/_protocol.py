"""What a method is: the protocol that the trainer speaks, and the parts that a method may have beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor, nn

from limpet.registry.values import TaskRecord
from limpet.training.base.frozen_layers import LowerLayers
from limpet.training.methods._settings import MethodSettings, Setting

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from limpet.training.base.backbone import Backbone
    from limpet.training.batching.examples import Example
    from limpet.training.heads.base import Head

__all__ = [
    "ALL_HEADED",
    "NON_GENERATIVE",
    "Capabilities",
    "Method",
    "SupportsFastLayers",
    "SupportsFrozenPrefix",
    "TrainingFree",
]

NON_GENERATIVE = frozenset({"classification", "multi-label", "regression", "token-classification"})
"""Types of task with a head of their own, which can be learned on frozen features alone."""
ALL_HEADED = NON_GENERATIVE | {"generation"}
"""Types of task with a head on the backbone's hidden states: every method that changes the backbone learns them."""


@dataclass(frozen=True)
class Capabilities:
    """What a method can do, for the table of `limpet methods`.

    `families` are those of BaseRecord, for architectures that were never tried; `trains_base_copy` is true for
    baselines that learn on a copy of the base; `servable` means that LoRA servers can load its files.
    """

    task_types: frozenset[str]
    families: frozenset[str] = frozenset({"encoder", "decoder", "encoder-decoder"})
    mergeable: bool = False
    mixed_batches: bool = False
    servable: bool = False
    trains_base_copy: bool = False


class Method(Protocol):
    """One way to learn a task."""

    name: str
    summary: str
    capabilities: Capabilities
    learning_rate: float
    """The learning rate that is used where none is given."""
    settings: type[MethodSettings]
    """Its own settings, a frozen dataclass; null is a default that depends on the base."""
    peft_type: str | None
    """What peft calls the adapters it saves; null where it saves none."""
    alternatives: tuple[str, ...]
    """Methods to use where this one does not work, the nearest first."""

    example: Mapping[str, Any]
    """Settings to try it with where its defaults don't suffice."""

    def explain_settings(self) -> tuple[Setting, ...]:
        """Return what `--set` takes, with types, defaults and meanings."""

    def virtual_tokens(self, config: Mapping[str, Any]) -> int:
        """Return how many positions of the base it takes from the text."""

    def recorded(self, peft_config: Mapping[str, Any]) -> dict[str, Any]:
        """Return what of a foreign `adapter_config.json` is worth keeping as the version's configuration."""

    def resolve(self, backbone: PreTrainedModel, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the full configuration for this backbone as plain JSON, or raise UsageError."""

    def attach(self, backbone: PreTrainedModel, config: Mapping[str, Any]) -> nn.Module:
        """Return a module whose trainable parameters are the method's, newly initialised."""

    def save(self, module: nn.Module, base_name: str, folder: Path) -> None:
        """Write the method's files into `folder`."""

    def load(self, backbone: PreTrainedModel, files: Mapping[str, Path]) -> nn.Module:
        """Return the module that `files` describe, trainable as after `attach`, or raise IntegrityError."""

    def detach(self, module: nn.Module) -> None:
        """Leave the backbone as it was before `attach` or `load`."""


@runtime_checkable
class TrainingFree(Protocol):
    """A method that trains nothing: its adapter is a head of its own, made of training examples."""

    def build_head(
        self,
        backbone: Backbone,
        task: TaskRecord,
        train: Sequence[Example],
        *,
        config: Mapping[str, Any],
        max_length: int,
        seed: int,
    ) -> Head:
        """Return the head of a new adapter.

        Args:
            backbone: The base in memory.
            task: What is learned.
            train: Its training examples.
            config: As `Method.resolve` returned it.
            max_length: Longest text in tokens.
            seed: Decides which examples are used.
        """

    def attempt(self, model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return what such a head answers on a small model, for token ids and mask, or raise what is in the way."""


@runtime_checkable
class SupportsFastLayers(Protocol):
    """A method that has a cheaper graph for what its module computes."""

    def has_fast_layers(self, config: Mapping[str, Any]) -> bool:
        """Tell whether that graph can compute what a configuration asks for."""

    def fast_layers(self, module: nn.Module) -> AbstractContextManager[None]:
        """Let the module compute by that graph for the length of a `with` block; the gradients are the same."""


@runtime_checkable
class SupportsFrozenPrefix(Protocol):
    """A method that leaves the lower layers of the base as they are."""

    def lower_layers(self, module: nn.Module) -> LowerLayers | None:
        """Return those layers and the lowest that is trained; None where no layer is left as it is."""
