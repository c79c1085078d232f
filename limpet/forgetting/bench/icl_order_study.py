"""What learning in context depends on: the order of the demonstrations, and whether their labels are right.

The order alone can turn a good prompt into a bad one (Lu et al. 2022, arXiv 2104.08786), and random labels in the
demonstrations often cost little (Min et al. 2022, arXiv 2202.12837). So one accuracy of one prompt says little.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limpet.errors import UsageError
from limpet.forgetting.metrics.intervals import RESAMPLES, Interval, percentile_interval, score_interval
from limpet.forgetting.metrics.no_drift import PERMUTATIONS
from limpet.training import methods
from limpet.training.batching.examples import Example
from limpet.training.batching.inference import run_batches
from limpet.training.data.stored_splits import read_split
from limpet.training.generation.demonstrations import (
    Demonstrations,
    Script,
    choose,
    label_words,
    reordered,
    with_random_labels,
)
from limpet.training.heads.in_context import InContextHead, cut_to_fit
from limpet.training.methods.icl import as_demonstrations
from limpet.training.model.task_model import TaskModel
from limpet.training.progress import SILENT, Progress

if TYPE_CHECKING:
    from limpet.registry.store import Store
    from limpet.registry.values import TaskRecord
    from limpet.training.base.backbone import Backbone

__all__ = ["IclStudy", "IclStudyPlan", "Orders", "PromptScore", "spread_by_chance", "study_icl"]

METHOD = "icl"


@dataclass(frozen=True)
class PromptScore:
    """The accuracy of one prompt, with its bootstrap interval over examples; `order_seed` is null without order."""

    order_seed: int | None
    accuracy: float
    interval: Interval


@dataclass(frozen=True)
class Orders:
    """The accuracies of the same demonstrations in several orders.

    `spread` is best less worst, and `spread_null` what that would be if no order mattered: its mean after each
    example's right and wrong answers were permuted over the orders. `interval` is that of the mean, over examples.
    Best and worst were picked on these very examples, so the best is no estimate of what to expect.
    """

    mean: float
    interval: Interval
    worst: PromptScore
    best: PromptScore
    spread: float
    spread_null: float
    prompts: tuple[PromptScore, ...]


@dataclass(frozen=True)
class IclStudy:
    """Accuracy over prompt orders with the right labels and with random ones, and without demonstrations.

    `difference` is the mean with the right labels less the mean with random ones, on the same examples and orders.
    `tokens` counts what stands in front of a text, in the longest prompt.
    """

    task: str
    base: str
    base_digest: str
    data_digest: str
    seed: int
    shots: int
    demonstrations: int
    tokens: int
    max_length: int
    examples: int
    template: str
    words: Mapping[str, str]
    zero_shot: PromptScore
    gold: Orders
    random: Orders
    difference: float
    difference_interval: Interval
    seconds: float


@dataclass(frozen=True)
class IclStudyPlan:
    """What a study asks.

    Args:
        orders: How many orders of the demonstrations; their seeds are 0, 1, ...
        limit: How many evaluation examples, the first of the split; null takes all.
        seed: Decides which demonstrations are shown, and the random labels.
        settings: Those of the method `icl`; `order_seed` is none of them here.

    Raises:
        UsageError: A number makes no sense.
    """

    orders: int = 8
    limit: int | None = None
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.orders < 2 or (self.limit is not None and self.limit < 1) or self.seed < 0:
            raise UsageError(
                "A study needs 2 orders or more, 1 example or more, and a seed of 0 or more.", "--orders 8"
            )


def study_icl(
    store: Store, backbone: Backbone, task: TaskRecord, *, plan: IclStudyPlan, progress: Progress = SILENT
) -> IclStudy:
    """Score a task in context by several prompts, on its evaluation split.

    Args:
        store: The home's registry.
        backbone: The base in memory, a decoder.
        task: A classification task.
        plan: How many orders and examples, which demonstrations, and the method's settings.
        progress: Receives every prompt.

    Raises:
        UsageError: The task is none that can be learned in context.
    """
    method = methods.get_for(METHOD, backbone.record)
    methods.check_task_type(method, task, backbone.record)
    config = method.resolve(backbone.model, plan.settings)
    examples = read_split(store, task, "evaluation")[: plan.limit]
    train = as_demonstrations(task, read_split(store, task, "train"))
    demonstrations = Demonstrations(
        template=config["template"],
        labels=task.labels,
        words=label_words(task.labels, config["label_words"]),
        budget=config["budget"],
        shown=tuple(choose(train, task.labels, config["shots"], seed=plan.seed)),
    )
    study = _Study(backbone, task, demonstrations, examples, plan)
    return study.run(config["shots"], progress)


@dataclass(frozen=True)
class _Study:
    backbone: Backbone
    task: TaskRecord
    demonstrations: Demonstrations
    examples: Sequence[Example]
    plan: IclStudyPlan

    def run(self, shots: int, progress: Progress) -> IclStudy:
        started, orders = time.perf_counter(), self.plan.orders
        script = Script(self.backbone.tokenizer, self.demonstrations.template, self.demonstrations.words)
        # one length for all, so that every prompt is asked about the same texts
        tokenizer, max_length = self.backbone.tokenizer, self.task.definition.max_length
        cut = [cut_to_fit(tokenizer, prompt, max_length) for prompt in self._prompts()]
        length = min(length for _, length in cut)
        scores, answers = self._score([prompt for prompt, _ in cut], length, progress)
        self.backbone.check_unchanged()
        right_labels, random_labels = answers[1 : orders + 1], answers[orders + 1 :]
        gold, random = right_labels.mean(axis=0), random_labels.mean(axis=0)
        return IclStudy(
            task=self.task.name,
            base=self.backbone.record.name,
            base_digest=self.backbone.record.digest,
            data_digest=self.task.data_digest,
            seed=self.plan.seed,
            shots=shots,
            demonstrations=len(self.demonstrations.shown),
            tokens=max(len(script.beginning(prompt)) for prompt, _ in cut),
            max_length=length,
            examples=len(self.examples),
            template=self.demonstrations.template,
            words=dict(zip(self.demonstrations.labels, self.demonstrations.words, strict=True)),
            zero_shot=scores[0],
            gold=_orders(scores[1 : orders + 1], right_labels),
            random=_orders(scores[orders + 1 :], random_labels),
            difference=float((gold - random).mean()),
            difference_interval=_mean_interval(gold - random),
            seconds=time.perf_counter() - started,
        )

    def _prompts(self) -> list[Demonstrations]:
        """None shown; then every order with its right labels; then every order with random ones."""
        every, seed = self.demonstrations, self.plan.seed
        in_order = [tuple(reordered(every.shown, order)) for order in range(self.plan.orders)]
        return [
            replace(every, shown=()),
            *(replace(every, shown=shown) for shown in in_order),
            *(
                replace(every, shown=tuple(with_random_labels(shown, every.labels, seed, draw=order)))
                for order, shown in enumerate(in_order)
            ),
        ]

    def _score(
        self, prompts: Sequence[Demonstrations], length: int, progress: Progress
    ) -> tuple[list[PromptScore], NDArray[np.float64]]:
        """Each prompt's accuracy, and of every example whether each prompt answered it right, (prompts, examples)."""
        targets = [example.target for example in self.examples]
        progress.start(f"study {self.task.name}", len(prompts))
        scores: list[PromptScore] = []
        answers = np.zeros((len(prompts), len(targets)))
        for number, prompt in enumerate(prompts):
            predictions = self._predict(prompt, length)
            answers[number] = [a == b for a, b in zip(predictions, targets, strict=True)]
            order = (number - 1) % self.plan.orders if number else None
            accuracy = float(answers[number].sum()) / len(targets)
            scores.append(PromptScore(order, accuracy, score_interval("accuracy", predictions, targets)))
            progress.advance(number + 1, f"accuracy {accuracy:.3f}")
        progress.finish()
        return scores, answers

    def _predict(self, prompt: Demonstrations, length: int) -> tuple[int, ...]:
        backbone = self.backbone
        head = InContextHead(prompt)
        head.bind_base(backbone)
        model = TaskModel(backbone.model, head, frozenset())
        return run_batches(
            model, model.encode(backbone.tokenizer, self.examples, length), backbone.device
        ).predictions


def _orders(prompts: Sequence[PromptScore], right: NDArray[np.float64]) -> Orders:
    """Sum up; `right` says of every example whether each prompt answered it right, (prompts, examples)."""
    by_accuracy, shares = sorted(prompts, key=lambda prompt: prompt.accuracy), right.mean(axis=0)
    return Orders(
        mean=float(shares.mean()),
        interval=_mean_interval(shares),
        worst=by_accuracy[0],
        best=by_accuracy[-1],
        spread=by_accuracy[-1].accuracy - by_accuracy[0].accuracy,
        spread_null=spread_by_chance(right),
        prompts=tuple(prompts),
    )


def spread_by_chance(right: NDArray[np.float64]) -> float:
    """Return the mean of best less worst after each example's answers were permuted over the prompts.

    A best and a worst of noisy accuracies are apart where no order matters, the more so the more orders there are.
    """
    generator, changing = np.random.default_rng(0), right[:, right.min(axis=0) != right.max(axis=0)]
    sums = np.stack([generator.permuted(changing, axis=0).sum(axis=1) for _ in range(PERMUTATIONS)])
    return float((sums.max(axis=1) - sums.min(axis=1)).mean() / right.shape[1])


def _mean_interval(values: NDArray[np.float64]) -> Interval:
    """Return the percentile bootstrap interval of a mean over examples (Efron & Tibshirani 1993)."""
    examples = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    return percentile_interval(values[examples].mean(axis=1))
