"""A task's model: the backbone with a method attached, and the task's head on top."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limpet.errors import IntegrityError
from limpet.registry import versions
from limpet.registry.canonical import digest_json
from limpet.registry.store import Store
from limpet.registry.values import VersionRecord
from limpet.training import methods
from limpet.training.backbone import Backbone, tensor_digest
from limpet.training.heads import ClassificationHead, load_head, pool

__all__ = ["OtherHead", "TaskModel", "active", "base_modules", "check_base", "version_files"]


class TaskModel(nn.Module):
    """Token ids to logits. Modules of the frozen base stay in evaluation mode, so no dropout acts in them.

    Args:
        module: The backbone with a method attached.
        head: The task's head.
        frozen: Identities of the base's own modules, taken before the method was attached.
        others: Heads of other tasks that are learned along, or rehearsed.
    """

    def __init__(
        self,
        module: nn.Module,
        head: ClassificationHead,
        frozen: frozenset[int],
        others: Sequence[ClassificationHead] = (),
    ) -> None:
        super().__init__()
        self.module = module
        self.head = head
        self.others = nn.ModuleList(others)
        # a head that stays as it is has no dropout either
        kept = [one for one in others if not any(p.requires_grad for p in one.parameters())]
        self._frozen = frozen | {id(part) for one in kept for part in one.modules()}

    def forward(self, input_ids: Tensor, attention_mask: Tensor, other: int | None = None) -> Tensor:
        """Return logits (batch, labels) in float32 for token ids and mask, both (batch, length).

        They are those of the task's own head, or of the head at place `other` of the others.
        """
        head: Any = self.head if other is None else self.others[other]
        logits: Tensor = head.classify(self.features(input_ids, attention_mask))
        return logits

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return what the head reads: pooled hidden states (batch, hidden)."""
        config: Any = self.module.config
        decoder = {}
        if config.is_encoder_decoder:
            # the decoder reads the text too, one place later, as the sequence classifiers of T5 and BART do
            start = torch.full_like(input_ids[:, :1], config.decoder_start_token_id)
            decoder["decoder_input_ids"] = torch.cat([start, input_ids[:, :-1]], dim=1)
        output = self.module(input_ids=input_ids, attention_mask=attention_mask, **decoder)
        pooler_output = getattr(output, "pooler_output", None)
        return pool(self.head.config.pooling, output.last_hidden_state, pooler_output, attention_mask)

    def loaded(self) -> dict[str, str]:
        """Return the digests of what decides the answers beside the base: head, weights, and the buffers of all."""
        weights = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        parts: dict[str, Mapping[str, Tensor]] = {
            "head": self.head.state_dict(),
            "weights": weights,
            "buffers": dict(self.module.named_buffers()),
        }
        return {
            part: digest_json({name: tensor_digest(tensor) for name, tensor in tensors.items()})
            for part, tensors in parts.items()
        }

    def train(self, mode: bool = True) -> TaskModel:
        """Switch the method's and the head's modules; the frozen base is left in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if id(module) in self._frozen:
                module.training = False
        return self


@dataclass(frozen=True)
class OtherHead:
    """A prepared task model that answers by one of its other heads."""

    model: Any
    place: int

    def __call__(self, **inputs: Tensor) -> Tensor:
        """Return that head's outputs."""
        outputs: Tensor = self.model(**inputs, other=self.place)
        return outputs

    def eval(self) -> None:
        """Put the model into evaluation mode."""
        self.model.eval()


def base_modules(backbone: Backbone) -> frozenset[int]:
    """Identities of the modules of the base itself; to be called before a method is attached."""
    return frozenset(id(module) for module in backbone.model.modules())


def check_base(backbone: Backbone, version: VersionRecord) -> None:
    """Refuse a version that was trained on another base.

    Raises:
        IntegrityError: The digests differ. Equal shapes would load silently, with wrong answers.
    """
    if version.base_digest != backbone.record.digest:
        raise IntegrityError(
            f"{version.reference} was trained on the base {version.base_digest[:19]}..., "
            f"but this base is {backbone.record.digest[:19]}...",
            f"limpet adapter show {version.reference}",
        )


def version_files(store: Store, backbone: Backbone, version: VersionRecord) -> dict[str, Path]:
    """Return the verified files of a version that belongs to this base.

    Raises:
        IntegrityError: A file is corrupt or missing, or the version belongs to another base.
    """
    check_base(backbone, version)
    return versions.files(store, version)


@contextmanager
def active(
    backbone: Backbone, method_name: str, state: Mapping[str, Path], head: Mapping[str, Path]
) -> Iterator[TaskModel]:
    """Put an adapter on the base for the length of a `with` block; the base is as before afterwards.

    Args:
        backbone: The base in memory.
        method_name: The method that wrote `state`.
        state: Files with the method's tensors.
        head: Files with the head; the same as `state` unless a later task has changed the backbone.

    Raises:
        IntegrityError: A file does not fit this base.
    """
    method = methods.get(method_name)
    frozen = base_modules(backbone)
    task_head = load_head(head).to(backbone.model.device)
    module = method.load(backbone.model, state)
    try:
        yield TaskModel(module, task_head, frozen).eval()
    finally:
        method.detach(module)
