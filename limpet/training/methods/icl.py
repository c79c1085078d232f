"""Learning in context: demonstrations in front of the text, and nothing that is trained (Brown et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from limpet.errors import UsageError
from limpet.registry.values import TaskRecord
from limpet.training.base.lm_head import tied_head
from limpet.training.base.locate import family
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
from limpet.training.methods import Capabilities, resolve_settings
from limpet.training.methods._without_peft import Untouched

__all__ = ["METHODS", "InContextLearning", "as_demonstrations"]

_DEFAULTS: dict[str, Any] = {
    "shots": 2,
    "order_seed": 0,
    "template": DEFAULT_TEMPLATE,
    "label_words": "",
    "budget": 1024,
}


class InContextLearning(Untouched):
    """No parameters at all: the adapter is the file of demonstrations."""

    name = "icl"
    summary = "demonstrations in front of the text, labels scored by likelihood (Brown et al. 2020)"
    capabilities = Capabilities(
        task_types=frozenset({"classification"}),
        families=frozenset({"decoder"}),
        mergeable=False,
        mixed_batches=False,
        servable=False,
        quantised_base=True,
        trains_base_copy=False,
    )
    learning_rate = 0.0
    settings = _DEFAULTS
    alternatives = ("probe", "lora")

    def resolve(self, backbone: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return shots, order, template, words and budget; see `Method.resolve`."""
        if family(backbone.config, "the base") != "decoder":
            raise UsageError("demonstrations need a decoder, which reads from left to right", "--method probe")
        config = resolve_settings(self.name, _DEFAULTS, settings)
        for name, least in ("shots", 1), ("order_seed", 0), ("budget", 16):
            if config[name] < least:
                raise UsageError(f"{name} must be {least} or more, not {config[name]}.", f"--set {name}={least}")
        check_template(config["template"])
        return config | {"budget": room(backbone, config["budget"])}

    def build_head(
        self,
        backbone: Any,
        task: TaskRecord,
        train: Sequence[Any],
        *,
        config: Mapping[str, Any],
        max_length: int,
        seed: int,
    ) -> InContextHead:
        """Choose demonstrations, put them in order and cut them to fit; see `OwnHead.build_head`."""
        shown = choose(as_demonstrations(task, train), task.labels, config["shots"], seed=seed)
        told = Demonstrations(
            template=config["template"],
            labels=task.labels,
            words=label_words(task.labels, config["label_words"]),
            budget=config["budget"],
            shown=tuple(reordered(shown, config["order_seed"])),
        )
        return InContextHead(cut_to_fit(backbone.tokenizer, told, max_length)[0])

    def attempt(self, model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
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


def as_demonstrations(task: TaskRecord, examples: Sequence[Any]) -> list[Demonstration]:
    """Return labelled examples of a classification task as what could be shown."""
    return [Demonstration(one.text, task.labels[one.target]) for one in examples]


METHODS = (InContextLearning(),)
