"""What is asked of a head, by whom: training, whoever answers texts, and files. `Head` can do all of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from torch import Tensor, nn

from limpet.registry.values import BaseRecord, TaskRecord
from limpet.training.batching.encoded import Encoded, Field
from limpet.training.batching.examples import Example
from limpet.training.batching.inference import Outcome

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from limpet.training.base.backbone import Backbone

__all__ = ["AnsweringHead", "Batch", "StoredHead", "TrainableHead"]

Batch = Mapping[str, Tensor]


class TrainableHead(Protocol):
    """What training asks: batches of examples, features of hidden states, outputs of features, and losses."""

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int, *, learning: bool
    ) -> Encoded:
        """Turn examples into token ids and what else a batch has, cut at `max_length` tokens.

        Args:
            tokenizer: The base's.
            examples: The examples; their targets may be unknown where nothing is learned.
            max_length: Longest text in tokens.
            learning: Whether batches need `targets`, as `loss` takes them.
        """

    def targets(self, targets: Sequence[Any]) -> Field:
        """Return targets as `loss` takes them, one tensor for each example."""

    def read(self, hidden: Tensor, pooler_output: Tensor | None, batch: Batch) -> Tensor:
        """Return the features (batch, hidden) that the head works on, of hidden states (batch, length, hidden)."""

    def score(self, features: Tensor) -> Tensor:
        """Return outputs (..., outputs) in float32 for features (..., hidden)."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of a batch's outputs against its targets."""

    def loss_of(self, rows: Sequence[Tensor], targets: Sequence[Tensor]) -> float:
        """Return the mean loss of the outputs that `answer` gave of each example, against its targets."""

    def terms(self, targets: Tensor) -> int:
        """Return over how many terms `loss` takes its mean, for these targets."""


class AnsweringHead(Protocol):
    """What evaluation and serving ask: what a base and a module must give, outputs of texts, and what they mean."""

    def bind_base(self, backbone: Backbone) -> None:
        """Take what the head needs of the base beside its hidden states; most heads need nothing.

        Raises:
            UsageError: The base does not have what the head reads.
        """

    def attach_module(self, module: nn.Module) -> None:
        """Take what the head needs of the method's module in front of it; most heads need nothing."""

    def prompt(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """Return what is rendered around every text, with `{text}` where that goes; null where nothing is."""

    def chat_template(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """Return the text of the chat template that texts are read in; null without any."""

    def trim(self, values: Tensor, batch: Batch) -> list[Tensor]:
        """Return features or outputs of a batch example by example, without what was padded."""

    def answer(self, model: nn.Module, batch: Batch) -> list[Tensor]:
        """Return the outputs of each example of a batch.

        Args:
            model: Turns a batch into outputs, as in training.
            batch: As `encode` made it.
        """

    def first_pass(self, model: nn.Module, batch: Batch) -> None:
        """Do what an answer takes at the least, to be timed; a head that writes stops after the first word."""

    def predict(self, rows: Sequence[Tensor]) -> list[Any]:
        """Return what `answer` gave as predictions: JSON values that metrics hold against targets."""

    def explain(self, example: Example, prediction: Any, row: Tensor, *, labels: tuple[str, ...]) -> Any:
        """Return a prediction as people read it: a frozen dataclass with a `shown` property.

        Args:
            example: What was answered.
            prediction: As `predict` gave it.
            row: The outputs.
            labels: The task's label map.
        """

    @property
    def answers_texts(self) -> bool:
        """Whether what an evaluation gave are answers that could be served."""

    def served(
        self, serve: Callable[[Encoded], Outcome], model: nn.Module, texts: Encoded, *, measured: Outcome
    ) -> Sequence[Any]:
        """Return the predictions that texts would get where they are served.

        Args:
            serve: Answers texts as they are answered where they are served.
            model: What answers them, a `TaskModel`.
            texts: The texts, as `encode` made them.
            measured: What an evaluation of these texts gave.
        """

    def same_answer(self, measured: object, served: object) -> bool:
        """Tell whether two predictions are the same answer to who reads them."""

    @property
    def decides(self) -> bool:
        """Whether an answer is a decision, which stays the same where outputs move a little; see `slack`."""

    def slack(self, row: Tensor, threshold: float | None) -> float:
        """Return by how much each of an example's outputs may move, at the least, before its answer is another.

        Args:
            row: The outputs.
            threshold: The probability that an answer asks for; null where nobody said one.
        """

    def summary(self, row: Tensor) -> list[float]:
        """Return the numbers by which reference outputs know an example's outputs: as many for every example."""


class StoredHead(Protocol):
    """What files ask: how a new head is built, what is written of it, and the head of what was written."""

    @classmethod
    def configure(cls, task: TaskRecord, base: BaseRecord, train: Sequence[Example]) -> object:
        """Return how a new head for a task is built.

        Args:
            task: The task.
            base: The base that the head reads.
            train: The task's training examples.
        """

    def save(self, folder: Path) -> None:
        """Write `head.json` into `folder`, and `head.safetensors` where the head has tensors of its own."""

    def content(self) -> dict[str, Any]:
        """Return what `head.json` says."""

    def tensors(self) -> dict[str, Tensor]:
        """Return what is saved."""

    @classmethod
    def restore(cls, content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Return the head of what was saved.

        Raises:
            TypeError: The content is not this head's configuration.
            ValueError: The tensors are not of the shapes that it says.
        """
