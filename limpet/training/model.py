"""A task's model: the backbone with a method attached, and the task's head on top."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limpet.errors import IntegrityError
from limpet.registry import versions
from limpet.registry.store import Store
from limpet.registry.values import VersionRecord
from limpet.training import methods
from limpet.training.backbone import Backbone
from limpet.training.heads import ClassificationHead, load_head, pool

__all__ = ["TaskModel", "active", "backbone_inputs", "base_modules", "check_base", "pooled", "version_files"]


class TaskModel(nn.Module):
    """Token ids to logits. Modules of the frozen base stay in evaluation mode, so no dropout acts in them.

    Args:
        module: The backbone with a method attached.
        head: The task's head.
        frozen: Identities of the base's own modules, taken before the method was attached.
    """

    def __init__(self, module: nn.Module, head: ClassificationHead, frozen: frozenset[int]) -> None:
        super().__init__()
        self.module = module
        self.head = head
        self._frozen = frozen

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits (batch, labels) in float32 for token ids and mask, both (batch, length)."""
        return self.head.classify(self.features(input_ids, attention_mask))

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return what the head reads: pooled hidden states (batch, hidden)."""
        output = self.module(**backbone_inputs(self.module.config, input_ids, attention_mask))
        return pooled(self.head, output, attention_mask)

    def train(self, mode: bool = True) -> TaskModel:
        """Switch the method's and the head's modules; the frozen base is left in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if id(module) in self._frozen:
                module.training = False
        return self


def backbone_inputs(config: Any, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
    """Return what a backbone of this configuration takes for token ids and mask, both (batch, length)."""
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    if config.is_encoder_decoder:
        # the decoder reads the text too, one place later, as the sequence classifiers of T5 and BART do
        start = torch.full_like(input_ids[:, :1], config.decoder_start_token_id)
        inputs["decoder_input_ids"] = torch.cat([start, input_ids[:, :-1]], dim=1)
    return inputs


def pooled(head: ClassificationHead, output: Any, attention_mask: Tensor, rows: slice = slice(None)) -> Tensor:
    """Return what a head reads of some rows of a backbone's output: pooled hidden states (rows, hidden).

    Args:
        head: Says how they are pooled.
        output: What the backbone gave for a batch.
        attention_mask: Of the batch (batch, length).
        rows: Which of its rows.
    """
    pooler_output = getattr(output, "pooler_output", None)
    if pooler_output is not None:
        pooler_output = pooler_output[rows]
    return pool(head.config.pooling, output.last_hidden_state[rows], pooler_output, attention_mask[rows])


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
