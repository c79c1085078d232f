"""What the base can do beside the tasks that it learns: ability tasks, on data that is never learned.

`perplexity` is how well it continues plain text, `zero-shot` how well it finds the label of a text from the labels'
words alone (Brown et al. 2020, arXiv 2005.14165), `features` how well the nearest class mean of its features does.
Each is asked of the base alone, or under the weights that a method has put on it. Tasks of the language-model
evaluation harness are asked beside them: see `limpet.training.evaluation.harness`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from limpet.errors import UsageError
from limpet.registry.formats.canonical import digest_json
from limpet.registry.store import Store
from limpet.registry.values import TaskRecord
from limpet.training import methods
from limpet.training.base.backbone import Backbone
from limpet.training.batching.inference import Outcome, run_batches
from limpet.training.data.stored_splits import read_split
from limpet.training.evaluation.class_means import class_means, has_class_means
from limpet.training.evaluation.harness import ask_task
from limpet.training.evaluation.harness.task_file import HarnessTask
from limpet.training.generation.demonstrations import DEFAULT_TEMPLATE, Demonstrations, check_template, label_words
from limpet.training.heads import Head
from limpet.training.heads.in_context import InContextHead, room
from limpet.training.heads.plain_text import PlainTextHead
from limpet.training.metrics.ability import PERPLEXITY, scored_by
from limpet.training.model.fast_paths import fast_paths
from limpet.training.model.task_model import active_behind
from limpet.training.progress import SILENT, Progress
from limpet.training.task_types import score

__all__ = ["KINDS", "AbilityTask", "Answers", "Question", "Weights", "ask", "check", "score_of"]

_ACCURACY = "accuracy"
_LONGEST = 2**20  # tokens; the base's positions are fewer

Weights = tuple[str, Mapping[str, Path]]
"""A method, and the files with its tensors."""


@dataclass(frozen=True)
class AbilityTask:
    """A question to the base.

    Args:
        kind: One of `KINDS`.
        task: Gives the texts, and the labels where there are any; it is not learned.
        size: How many evaluation examples are asked; where the task has fewer, all of them.
        template: What a text is shown in, for `zero-shot`.
        words: `label=word` with commas between, for labels that don't stand for themselves.
    """

    kind: str
    task: TaskRecord
    size: int
    template: str = DEFAULT_TEMPLATE
    words: str = ""

    @property
    def name(self) -> str:
        """What is asked about: the task's name."""
        return self.task.name

    @property
    def metric(self) -> str:
        """The name of what is measured."""
        return PERPLEXITY if self.kind == PERPLEXITY else _ACCURACY

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the question, as JSON."""
        prompt = {"template": self.template, "words": self.words} if self.kind == "zero-shot" else {}
        trained = {"train": self.task.split("train").digest} if self.kind == "features" else {}
        return {
            "kind": self.kind,
            "task": self.task.name,
            "evaluation": self.task.split("evaluation").digest,
            "size": self.size,
            "max_length": self.task.definition.max_length,
            **prompt,
            **trained,
        }


Question: TypeAlias = AbilityTask | HarnessTask
"""An ability task, Limpet's own or one of the evaluation harness."""


@dataclass(frozen=True)
class Answers:
    """What the base answered, what is right, and what that comes to."""

    outcome: Outcome
    targets: tuple[Any, ...]
    score: float
    plan_digest: str


def check(backbone: Backbone, ability_task: Question) -> None:
    """Refuse an ability task that this base can't answer, before anything is learned.

    Raises:
        UsageError: It can't, or the labels' words can't be told apart.
        UnavailableError: It is of the evaluation harness, which is not installed.
    """
    if isinstance(ability_task, HarnessTask):
        ask_task.check(backbone, ability_task)
        return
    family, name = backbone.record.family, ability_task.task.name
    if ability_task.kind == PERPLEXITY and backbone.lm_head is None:
        raise _refused(
            ability_task, f"the base {backbone.record.name!r} has no language-model head", "kind: features"
        )
    if ability_task.kind == "zero-shot" and (family != "decoder" or backbone.lm_head is None):
        raise _refused(ability_task, "label words need a decoder with a language-model head", "kind: features")
    if ability_task.kind != PERPLEXITY and not has_class_means(ability_task.task):
        raise _refused(ability_task, f"{name!r} is no classification", "kind: perplexity")
    if ability_task.kind == "zero-shot":
        _zero_shot(backbone, ability_task).bind_base(backbone)


def ask(
    store: Store,
    backbone: Backbone,
    ability_task: Question,
    *,
    weights: Weights | None,
    progress: Progress = SILENT,
) -> Answers:
    """Ask the base under some weights; the base is as before afterwards.

    Args:
        store: The home's registry.
        backbone: The base in memory.
        ability_task: The question.
        weights: What is on the base; null for the base alone.
        progress: Receives every batch.

    Raises:
        IntegrityError: A file does not fit this base, or data of a task file changed.
    """
    if isinstance(ability_task, HarnessTask):
        return _ask_harness(backbone, ability_task, weights=weights, progress=progress)
    method, files = weights or (methods.NO_ADAPTER, {})
    # a split is in random order
    examples = read_split(store, ability_task.task, "evaluation")[: ability_task.size]
    head = _HEADS[ability_task.kind](store, backbone, ability_task, weights=weights).to(backbone.device)
    head.bind_base(backbone)
    dtype, name = backbone.evaluation_dtype, f"{ability_task.kind} on {ability_task.task.name}"
    with (
        active_behind(backbone, method, files, head=head) as model,
        fast_paths(methods.get(method), model.module, dtype),
    ):
        encoded = model.encode(backbone.tokenizer, examples, ability_task.task.definition.max_length)
        outcome = run_batches(model, encoded, backbone.device, progress=progress, name=name, dtype=dtype)
    # a text that is only read has no right answer
    targets = tuple(None if ability_task.kind == PERPLEXITY else example.target for example in examples)
    value = score_of(ability_task.metric, outcome.predictions, targets)
    return Answers(outcome, targets, value, encoded.plan.digest)


def _ask_harness(backbone: Backbone, task: HarnessTask, *, weights: Weights | None, progress: Progress) -> Answers:
    method, files = weights or (methods.NO_ADAPTER, {})
    head = PlainTextHead().to(backbone.device)
    head.bind_base(backbone)
    with (
        active_behind(backbone, method, files, head=head) as model,
        fast_paths(methods.get(method), model.module, backbone.evaluation_dtype),
    ):
        found = ask_task.ask_task(backbone, task, model, progress=progress)
    outcome = Outcome(found.values, (), digest_json(found.answers), found.seconds)
    return Answers(outcome, found.targets, score_of(task.metric, found.values, found.targets), found.requests_digest)


def score_of(name: str, predictions: Sequence[Any], targets: Sequence[Any]) -> float:
    """Return what answers come to by a metric; perplexity is positive here, and lower is better."""
    metric, sign = scored_by(name)
    return sign * score(metric, predictions, targets)


def _plain_text(store: Store, backbone: Backbone, ability_task: AbilityTask, *, weights: Weights | None) -> Head:
    return PlainTextHead()


def _class_means(store: Store, backbone: Backbone, ability_task: AbilityTask, *, weights: Weights | None) -> Head:
    return class_means(
        store, backbone, ability_task.task, max_length=ability_task.task.definition.max_length, state=weights
    )


def _label_words(store: Store, backbone: Backbone, ability_task: AbilityTask, *, weights: Weights | None) -> Head:
    return _zero_shot(backbone, ability_task)


def _zero_shot(backbone: Backbone, ability_task: AbilityTask) -> InContextHead:
    """Return the head of a prompt without any demonstration."""
    return InContextHead(
        Demonstrations(
            template=check_template(ability_task.template),
            labels=ability_task.task.labels,
            words=label_words(ability_task.task.labels, ability_task.words),
            budget=room(backbone.model, _LONGEST),
            shown=(),
        )
    )


class _MakeHead(Protocol):
    def __call__(
        self, store: Store, backbone: Backbone, ability_task: AbilityTask, *, weights: Weights | None
    ) -> Head: ...


_HEADS: dict[str, _MakeHead] = {
    "features": _class_means,
    PERPLEXITY: _plain_text,
    "zero-shot": _label_words,
}
KINDS = tuple(sorted(_HEADS))
"""The names of all kinds of ability task."""


def _refused(ability_task: AbilityTask, why: str, hint: str) -> UsageError:
    return UsageError(
        f"The ability task {ability_task.kind!r} on {ability_task.task.name!r} can't be asked: {why}.", hint
    )
