"""What every head has in common: how texts become batches, hidden states features, and outputs answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from limpet.errors import IntegrityError, UsageError
from limpet.registry.formats.adapter_files import HEAD_FILES
from limpet.registry.values import BaseRecord, TaskRecord
from limpet.training.batching.encoded import Encoded, Field, encode_texts
from limpet.training.batching.examples import Example, flat_text
from limpet.training.batching.inference import Outcome
from limpet.training.heads.protocols import Batch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from limpet.training.base.backbone import Backbone

__all__ = ["Batch", "Head", "HeadConfig", "lead", "pool", "pooling_for"]


_POOLING = {"encoder": "mean", "decoder": "last", "encoder-decoder": "last"}


@dataclass(frozen=True)
class HeadConfig:
    """How a head is built: task type, pooling (`mean`, `last`, `first` or `pooler`), input width, labels, dropout.

    `bias` is false for heads that came from elsewhere without one. Types of task add what their heads need.
    """

    type: str
    pooling: str
    hidden_size: int
    labels: int
    dropout: float = 0.1
    bias: bool = True

    @property
    def outputs(self) -> int:
        """How many numbers the head gives for each place that it answers."""
        return self.labels


class Head(nn.Module):
    """Pooling, dropout and one linear layer; what stands here suits heads that answer once for each text.

    Training, answering and files each ask for a part of it: `TrainableHead`, `AnsweringHead` and `StoredHead`. A head
    is asked in this order: `encode` makes batches of examples; `read` takes features out of the backbone's
    hidden states; `score` turns them into outputs. In training `loss` holds outputs against targets; in evaluation
    `answer` gives the outputs of every example, and `predict` what they mean.
    """

    config_class: ClassVar[type[HeadConfig]] = HeadConfig
    config: HeadConfig
    class_weights: Tensor | None = None
    """Weights of the labels in the loss (labels,), while it is trained; null where all weigh the same.

    Of a task with several labels for a text, they are those of labels that are there.
    """

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        self.dropout = nn.Dropout(config.dropout)
        self.linear = nn.Linear(config.hidden_size, config.outputs, bias=config.bias)

    @classmethod
    def configure(cls, task: TaskRecord, base: BaseRecord, train: Sequence[Example]) -> HeadConfig:
        """See `StoredHead.configure`."""
        return HeadConfig(task.definition.type, pooling_for(base), base.hidden_size, len(task.labels))

    def bind_base(self, backbone: Backbone) -> None:
        """Take what the head needs of the base beside its hidden states; most heads need nothing.

        Raises:
            UsageError: The head reads the base's pooler, and the base's files have none.
        """
        if self.config.pooling == "pooler" and not backbone.pooled:
            raise UsageError(
                f"This head reads the pooler of the base, and the files of {backbone.record.name!r} have none: "
                "where it was trained, it read random numbers.",
                "limpet train TASK, whose heads read the hidden states",
            )

    def attach_module(self, module: nn.Module) -> None:
        """Take what the head needs of the method's module in front of it; most heads need nothing."""

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int, *, learning: bool
    ) -> Encoded:
        """See `TrainableHead.encode`."""
        encoded = encode_texts(tokenizer, [flat_text(example.text) for example in examples], max_length)
        return encoded.having(targets=self.targets([e.target for e in examples])) if learning else encoded

    def prompt(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """See `AnsweringHead.prompt`."""
        return None

    def chat_template(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """See `AnsweringHead.chat_template`."""
        return None

    def targets(self, targets: Sequence[Any]) -> Field:
        """See `TrainableHead.targets`."""
        raise NotImplementedError

    def read(self, hidden: Tensor, pooler_output: Tensor | None, batch: Batch) -> Tensor:
        """Return the features (batch, hidden) that the head works on, of hidden states (batch, length, hidden)."""
        # sums over tokens are float32's, and so are features that are kept
        pooled = None if pooler_output is None else pooler_output.float()
        return pool(self.config.pooling, hidden.float(), pooled, attention_mask=batch["attention_mask"])

    def trim(self, values: Tensor, batch: Batch) -> list[Tensor]:
        """See `AnsweringHead.trim`."""
        return list(values)

    def score(self, features: Tensor) -> Tensor:
        """Return outputs (..., outputs) in float32 for features (..., hidden)."""
        # never in a shorter dtype: it costs nothing, and two labels that are nearly as good would be equal
        with torch.autocast(features.device.type, enabled=False):
            outputs: Tensor = self.linear(self.dropout(features.to(self.linear.weight.dtype)))
        return outputs.float()

    def forward(self, hidden: Tensor, pooler_output: Tensor | None, attention_mask: Tensor) -> Tensor:
        """Return outputs in float32."""
        return self.score(self.read(hidden, pooler_output, {"attention_mask": attention_mask}))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See `TrainableHead.loss`."""
        raise NotImplementedError

    def loss_of(self, rows: Sequence[Tensor], targets: Sequence[Tensor]) -> float:
        """See `TrainableHead.loss_of`."""
        with torch.no_grad():
            return float(self.loss(torch.stack(list(rows)), torch.stack(list(targets))))

    def terms(self, targets: Tensor) -> int:
        """See `TrainableHead.terms`."""
        return len(targets)

    def answer(self, model: nn.Module, batch: Batch) -> list[Tensor]:
        """See `AnsweringHead.answer`."""
        return self.trim(model(**batch), batch)

    def first_pass(self, model: nn.Module, batch: Batch) -> None:
        """See `AnsweringHead.first_pass`."""
        self.answer(model, batch)

    def predict(self, rows: Sequence[Tensor]) -> list[Any]:
        """See `AnsweringHead.predict`."""
        raise NotImplementedError

    def explain(self, example: Example, prediction: Any, row: Tensor, *, labels: tuple[str, ...]) -> Any:
        """See `AnsweringHead.explain`."""
        raise NotImplementedError

    @property
    def answers_texts(self) -> bool:
        """See `AnsweringHead.answers_texts`."""
        return True

    def served(
        self, serve: Callable[[Encoded], Outcome], model: nn.Module, texts: Encoded, *, measured: Outcome
    ) -> Sequence[Any]:
        """See `AnsweringHead.served`."""
        return serve(texts).predictions

    def same_answer(self, measured: Any, served: Any) -> bool:
        """See `AnsweringHead.same_answer`."""
        return bool(measured == served)

    @property
    def decides(self) -> bool:
        """See `AnsweringHead.decides`."""
        return False

    def slack(self, row: Tensor, threshold: float | None) -> float:
        """See `AnsweringHead.slack`: where the outputs are the answer, none."""
        return 0.0

    def summary(self, row: Tensor) -> list[float]:
        """See `AnsweringHead.summary`."""
        numbers: list[float] = row.flatten().tolist()
        return numbers

    def save(self, folder: Path) -> None:
        """See `StoredHead.save`."""
        text = json.dumps(self.content(), indent=2, sort_keys=True)
        (folder / HEAD_FILES[0]).write_text(text + "\n", encoding="utf-8")
        if tensors := self.tensors():
            save_file(tensors, folder / HEAD_FILES[1], metadata={"format": "pt"})

    def tensors(self) -> dict[str, Tensor]:
        """See `StoredHead.tensors`."""
        return {name: tensor.detach().cpu().contiguous() for name, tensor in self.linear.state_dict().items()}

    @classmethod
    def restore(cls, content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Return the head of what was saved.

        Raises:
            TypeError: The content is not this head's configuration.
            ValueError: The tensors are not of the shapes that it says.
        """
        config = cls.config_class(**content)
        # before memory of that size is asked for
        if (found := tuple(tensors["weight"].shape)) != (config.outputs, config.hidden_size):
            raise ValueError(f"its weight is {found}, not {(config.outputs, config.hidden_size)}")
        head = cls(config)
        head.linear.load_state_dict(tensors)
        return head

    def content(self) -> dict[str, Any]:
        """See `StoredHead.content`."""
        return asdict(self.config)


def pooling_for(base: BaseRecord) -> str:
    """Return the pooling that suits a base's family."""
    return _POOLING[base.family]


def lead(outputs: Tensor) -> Tensor:
    """Return how far the largest of outputs (..., labels) lies above the next; infinite where it is the only one."""
    if outputs.shape[-1] < 2:
        return torch.full(outputs.shape[:-1], torch.inf)
    best = outputs.topk(2, dim=-1).values
    return best[..., 0] - best[..., 1]


def pool(pooling: str, hidden: Tensor, pooler_output: Tensor | None, *, attention_mask: Tensor) -> Tensor:
    """Reduce hidden states (batch, length, hidden) to (batch, hidden), leaving padding out.

    Raises:
        IntegrityError: There is no such pooling.
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
    if pooling != "pooler":
        raise IntegrityError(f"The adapter's head pools by {pooling!r}, which no head does.", "limpet verify")
    if pooler_output is None:
        raise UsageError("This head reads the base's pooler, but the base has none.", "train the task again")
    return pooler_output
