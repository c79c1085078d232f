"""Heads: the part of an adapter that turns the backbone's hidden states into a task's answer.

A head belongs to its task. The backbone stays shared, so tasks with different label counts live side by side.
On disk a head is `head.json` (how it is built) and `head.safetensors` (its tensors), beside the adapter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from limpet.errors import IntegrityError, UsageError
from limpet.registry.values import BaseRecord, TaskRecord

__all__ = ["HEAD_FILES", "ClassificationHead", "HeadConfig", "build_head", "load_head", "pool", "save_head"]

HEAD_FILES = ("head.json", "head.safetensors")
_POOLING = {"encoder": "mean", "decoder": "last", "encoder-decoder": "last"}


@dataclass(frozen=True)
class HeadConfig:
    """How a head is built: task type, pooling (`mean`, `last`, `first` or `pooler`), input width, labels, dropout.

    `bias` is false for heads that came from elsewhere without one.
    """

    type: str
    pooling: str
    hidden_size: int
    labels: int
    dropout: float = 0.1
    bias: bool = True


class ClassificationHead(nn.Module):
    """Pooling, dropout and one linear layer: hidden states (batch, length, hidden) to logits (batch, labels)."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        self.dropout = nn.Dropout(config.dropout)
        self.linear = nn.Linear(config.hidden_size, config.labels, bias=config.bias)

    def forward(self, hidden: Tensor, pooler_output: Tensor | None, attention_mask: Tensor) -> Tensor:
        """Return logits (batch, labels) in float32."""
        return self.classify(pool(self.config.pooling, hidden, pooler_output, attention_mask))

    def classify(self, pooled: Tensor) -> Tensor:
        """Return logits (batch, labels) in float32 for pooled hidden states (batch, hidden)."""
        logits: Tensor = self.linear(self.dropout(pooled))
        return logits.float()

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of logits (batch, labels) against label ids (batch)."""
        return cross_entropy(logits, targets)

    def predict(self, logits: Tensor) -> list[int]:
        """The most probable label id of each row; the lowest id wins a tie."""
        return [int(label) for label in logits.argmax(dim=-1)]


def pool(pooling: str, hidden: Tensor, pooler_output: Tensor | None, attention_mask: Tensor) -> Tensor:
    """Reduce hidden states (batch, length, hidden) to (batch, hidden), leaving padding out.

    Raises:
        UsageError: `pooler` was asked of a base that has none.
    """
    # prefix and prompt methods lengthen the sequence at the front; the text is what the mask still covers
    hidden = hidden[:, -attention_mask.shape[1] :]
    if pooling == "mean":
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
    if pooling == "first":
        return hidden[:, 0]
    if pooling == "last":
        positions = torch.arange(attention_mask.shape[1], device=hidden.device)
        last = (attention_mask * positions).argmax(dim=1)
        return hidden[torch.arange(hidden.shape[0], device=hidden.device), last]
    if pooler_output is None:
        raise UsageError("This head reads the base's pooler, but the base has none.", "train the task again")
    return pooler_output


def build_head(task: TaskRecord, base: BaseRecord) -> ClassificationHead:
    """Make a new head for `task` on `base`, initialised from torch's global generator.

    Raises:
        UsageError: No head exists for the task's type.
    """
    if task.definition.type != "classification":
        raise UsageError(
            f"Task {task.name!r} is of type {task.definition.type!r}, and only classification can be trained.",
            "limpet task add NAME --type classification ...",
        )
    return ClassificationHead(HeadConfig("classification", _POOLING[base.family], base.hidden_size, len(task.labels)))


def save_head(head: ClassificationHead, folder: Path) -> None:
    """Write `head.json` and `head.safetensors` into `folder`."""
    text = json.dumps(asdict(head.config), indent=2, sort_keys=True)
    (folder / "head.json").write_text(text + "\n", encoding="utf-8")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in head.linear.state_dict().items()}
    save_file(tensors, folder / "head.safetensors", metadata={"format": "pt"})


def load_head(files: Mapping[str, Path]) -> ClassificationHead:
    """Build the head that `files` describe.

    Raises:
        IntegrityError: A file is missing, or its tensors do not fit its configuration.
    """
    missing = [name for name in HEAD_FILES if name not in files]
    if missing:
        raise IntegrityError(f"The adapter has no {' and no '.join(missing)}.", "limpet verify")
    try:
        config = HeadConfig(**json.loads(files["head.json"].read_text(encoding="utf-8")))
        tensors = load_file(files["head.safetensors"])
        # before memory of that size is asked for
        if (found := tuple(tensors["weight"].shape)) != (config.labels, config.hidden_size):
            raise ValueError(f"its weight is {found}, not {(config.labels, config.hidden_size)}")
        head = ClassificationHead(config)
        head.linear.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise IntegrityError(f"The adapter's head can't be read: {error}", "limpet verify") from error
    return head.eval()
