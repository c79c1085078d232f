"""Learning in context: demonstrations in front of the text, and nothing that is trained (Brown et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from limpet.errors import UsageError
from limpet.registry.values import TaskRecord
from limpet.training.base.lm_head import tied_head
from limpet.training.base.locate import family
from limpet.training.batching.examples import flat_text
from limpet.training.generation.continuation_likelihood import Continuations
from limpet.training.generation.demonstrations import (
    DEFAULT_TEMPLATE,
    Demonstration,
    Demonstrations,
    check_template,
    choose,
    label_words,
    reordered,
)
from limpet.training.heads.in_context import InContextHead, cut_to_fit, room
from limpet.training.methods._protocol import Capabilities
from limpet.training.methods._settings import about, read_settings
from limpet.training.methods._without_peft import Untouched

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from limpet.training.base.backbone import Backbone
    from limpet.training.batching.examples import Example

__all__ = ["METHODS", "InContextLearning", "InContextSettings", "as_demonstrations"]


@dataclass(frozen=True)
class InContextSettings:
    """What `--set` takes."""

    shots: int = field(
        default=2, metadata=about("demonstrations of each label; the training seed chooses them", least=1)
    )
    order_seed: int = field(default=0, metadata=about("decides the order of the demonstrations", least=0))
    template: str = field(
        default=DEFAULT_TEMPLATE, metadata=about("how one is written: `{text}` once, `{label}` at the end")
    )
    label_words: str = field(
        default="", metadata=about("`label=word` with commas between; other labels stand for themselves")
    )
    budget: int = field(
        default=1024, metadata=about("tokens of demonstrations, text and label word together", least=16)
    )


class InContextLearning(Untouched):
    """No parameters at all: the adapter is the file of demonstrations."""

    name = "icl"
    summary = "demonstrations in front of the text, labels scored by likelihood (Brown et al. 2020)"
    capabilities = Capabilities(
        task_types=frozenset({"classification"}),
        families=frozenset({"decoder"}),
    )
    learning_rate = 0.0
    settings = InContextSettings
    alternatives = ("probe", "lora")

    def resolve(self, backbone: PreTrainedModel, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return shots, order, template, words and budget; see `Method.resolve`."""
        if family(backbone.config, "the base") != "decoder":
            raise UsageError("demonstrations need a decoder, which reads from left to right", "--method linear-probe")
        chosen = read_settings(self.name, InContextSettings, settings)
        check_template(chosen.template)
        return asdict(chosen) | {"budget": room(backbone, chosen.budget)}

    def build_head(
        self,
        backbone: Backbone,
        task: TaskRecord,
        train: Sequence[Example],
        *,
        config: Mapping[str, Any],
        max_length: int,
        seed: int,
    ) -> InContextHead:
        """Choose demonstrations, put them in order and cut them to fit; see `TrainingFree.build_head`."""
        shown = choose(as_demonstrations(task, train), task.labels, config["shots"], seed=seed)
        told = Demonstrations(
            template=config["template"],
            labels=task.labels,
            words=label_words(task.labels, config["label_words"]),
            budget=config["budget"],
            shown=tuple(reordered(shown, config["order_seed"])),
        )
        return InContextHead(cut_to_fit(backbone.tokenizer, told, max_length)[0])

    def attempt(self, model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
        """Score two made-up labels, once after a beginning that is read once, and once as a whole.

        Raises:
            ArithmeticError: The scores differ, so the base's cache can't be shared.
        """
        beginning, words = [2, 5, 7, 9, 3], [[5], [6, 8]]
        head = tied_head(model)
        first = Continuations(model, head, beginning, continuations=words).scores(**inputs)
        whole = Continuations(model, head, beginning, continuations=words, reuse=False).scores(**inputs)
        if not torch.allclose(first, whole, rtol=0, atol=1e-3):
            raise ArithmeticError("what is read once does not give the scores of what is read as a whole")
        return first


def as_demonstrations(task: TaskRecord, examples: Sequence[Example]) -> list[Demonstration]:
    """Return labelled examples of a classification task as what could be shown."""
    return [Demonstration(flat_text(example.text), task.labels[example.target]) for example in examples]


METHODS = (InContextLearning(),)
