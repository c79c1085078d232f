"""A task's model: the backbone with a method attached, and the task's head on top."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from limpet.errors import IntegrityError
from limpet.registry import versions
from limpet.registry.formats.canonical import digest_json
from limpet.registry.store import Store
from limpet.registry.values import VersionRecord
from limpet.training import methods
from limpet.training.base.backbone import Backbone
from limpet.training.base.frozen_layers import KEPT, LowerLayers
from limpet.training.base.tensor_digests import tensor_digest
from limpet.training.batching.encoded import Encoded
from limpet.training.batching.examples import Example
from limpet.training.heads import Batch, Head
from limpet.training.model.head_files import load_head

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase
    from transformers.utils import ModelOutput

__all__ = [
    "Answering",
    "OtherHead",
    "TaskModel",
    "active",
    "active_behind",
    "backbone_inputs",
    "base_modules",
    "bound_head",
    "check_base",
    "version_files",
]


class TaskModel(nn.Module):
    """Batches to outputs. Modules of the frozen base stay in evaluation mode, so no dropout acts in them.

    Args:
        module: The backbone with a method attached.
        head: The task's head.
        frozen: Identities of the base's own modules, taken before the method was attached.
        others: Heads of other tasks that are learned along, or rehearsed.

    Attributes:
        lower: The layers that every text passes once; None where all layers compute each time.
    """

    def __init__(self, module: nn.Module, head: Head, frozen: frozenset[int], *, others: Sequence[Head] = ()) -> None:
        super().__init__()
        self.module = module
        self.head = head
        self.others = nn.ModuleList(others)
        self._other_heads = tuple(others)
        self.lower: LowerLayers | None = None
        # a head that stays as it is has no dropout either
        frozen_heads = [one for one in others if not any(p.requires_grad for p in one.parameters())]
        self._frozen = frozen | {id(part) for one in frozen_heads for part in one.modules()}
        for one in (head, *others):
            one.attach_module(module)

    def forward(self, head_index: int | None = None, **batch: Tensor) -> Tensor:
        """Return outputs in float32 for a batch: token ids and mask, both (batch, length), and the head's fields.

        They are those of the task's own head, or of the other head at `head_index`.
        """
        head = self.head if head_index is None else self.other_head(head_index)
        return head.score(self._read(head, batch))

    def other_head(self, head_index: int) -> Head:
        """Return one of the other heads."""
        return self._other_heads[head_index]

    def features(self, **batch: Tensor) -> Tensor:
        """Return what the head reads, such as pooled hidden states (batch, hidden)."""
        return self._read(self.head, batch)

    def _read(self, head: Head, batch: Batch) -> Tensor:
        output = self.hidden(**batch)
        return head.read(output.last_hidden_state, getattr(output, "pooler_output", None), batch)

    def hidden(self, **batch: Tensor) -> ModelOutput:
        """Return what the backbone gives for a batch, its hidden states among it.

        Where the batch has what its lowest trained layer reads, the layers below are not asked.
        """
        inputs = backbone_inputs(self.module.config, batch)
        if self.lower is None or KEPT not in batch:
            return self.module(**inputs)
        with self.lower.skipped(batch[KEPT]):
            return self.module(**inputs)

    def encode(
        self,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[Example],
        max_length: int,
        *,
        learning: bool = False,
    ) -> Encoded:
        """Turn examples into batches of this model; see `TrainableHead.encode`."""
        return self.head.encode(tokenizer, examples, max_length, learning=learning).planned_for(self._device_type())

    def _device_type(self) -> str:
        return next(self.module.parameters()).device.type

    def answer(self, batch: Batch) -> list[Tensor]:
        """Return the outputs of each example of a batch."""
        return self.head.answer(self, batch)

    def predict(self, rows: Sequence[Tensor]) -> list[Any]:
        """Return what `answer` gave as predictions."""
        return self.head.predict(rows)

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


class OtherHead(nn.Module):
    """A task model that answers by one of its other heads.

    Args:
        model: The task model.
        head_index: The index of the head among its other heads.
    """

    def __init__(self, model: TaskModel, head_index: int) -> None:
        super().__init__()
        self.model = model
        self.head_index = head_index

    @property
    def head(self) -> Head:
        """The head."""
        return self.model.other_head(self.head_index)

    def forward(self, **batch: Tensor) -> Tensor:
        """Return that head's outputs."""
        outputs: Tensor = self.model(head_index=self.head_index, **batch)
        return outputs

    def answer(self, batch: Batch) -> list[Tensor]:
        """See `TaskModel.answer`."""
        return self.head.answer(self, batch)

    def predict(self, rows: Sequence[Tensor]) -> list[Any]:
        """See `TaskModel.predict`."""
        return self.head.predict(rows)


def backbone_inputs(config: PretrainedConfig, batch: Batch) -> dict[str, Any]:
    """Return what a backbone of this configuration takes of a batch."""
    names = ("input_ids", "attention_mask", "decoder_input_ids", "position_ids")
    inputs: dict[str, Any] = {name: batch[name] for name in names if name in batch}
    if "position_ids" in inputs:
        # texts that share a row are told apart by their positions, and only where no mask and no cache are given
        del inputs["attention_mask"]
        return inputs | {"use_cache": False}
    if config.is_encoder_decoder and "decoder_input_ids" not in inputs:
        # the decoder reads the text too, one place later, as the sequence classifiers of T5 and BART do
        start = torch.full_like(inputs["input_ids"][:, :1], config.decoder_start_token_id)
        inputs["decoder_input_ids"] = torch.cat([start, inputs["input_ids"][:, :-1]], dim=1)
    return inputs


def base_modules(backbone: Backbone) -> frozenset[int]:
    """Identities of the modules of the base itself; to be called before a method is attached."""
    return frozenset(id(module) for module in backbone.model.modules())


@dataclass(frozen=True)
class Answering:
    """What answers for a task: a method's tensors (`state`) and a head, registered or staged.

    `labels` is the label map that the head answers under; null where it is that of the task that it is asked about.
    """

    method: str
    state: Mapping[str, Path]
    head: Mapping[str, Path]
    max_length: int
    labels: tuple[str, ...] | None = None


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


def bound_head(backbone: Backbone, files: Mapping[str, Path]) -> Head:
    """Return the head that `files` describe, with what it needs of the base.

    Raises:
        IntegrityError: The files are no head's.
        UsageError: The base lacks what the head needs.
    """
    head = load_head(files).to(backbone.device)
    head.bind_base(backbone)
    return head


@contextmanager
def active(
    backbone: Backbone, method_name: str, state: Mapping[str, Path], *, head: Mapping[str, Path]
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
    with active_behind(backbone, method_name, state, head=bound_head(backbone, head)) as model:
        yield model


@contextmanager
def active_behind(
    backbone: Backbone, method_name: str, state: Mapping[str, Path], *, head: Head
) -> Iterator[TaskModel]:
    """Put a method's tensors on the base, with a head behind them that has no files; see `active`.

    Args:
        backbone: The base in memory.
        method_name: The method that wrote `state`.
        state: Files with the method's tensors.
        head: The head, bound to the base.

    Raises:
        IntegrityError: A file does not fit this base.
    """
    method = methods.get(method_name)
    frozen = base_modules(backbone)
    module = method.load(backbone.model, state)
    try:
        yield TaskModel(module, head, frozen).eval()
    finally:
        method.detach(module)
