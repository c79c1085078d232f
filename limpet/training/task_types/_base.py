"""What every type of task has: its data, its metrics and its head."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from limpet.errors import DataError, UsageError
from limpet.registry.formats.json_values import JsonObject, JsonValue
from limpet.training.batching.examples import Example, Text, flat_text, stored_text, text_of
from limpet.training.metrics.metric import Metric
from limpet.training.task_types._answers import ANSWER, AnswerColumn, AnswerForm

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from limpet.training.heads.base import Head

__all__ = ["TaskType", "metric_family"]

Plain = TypeVar("Plain")
"""A target as a cell says it: hashable, and without the task's label map."""

_WORD = re.compile(r"[a-z0-9]+")
_DEFINITION = re.compile(r"-v[0-9]+$")


class TaskType(Generic[Plain]):
    """One type of task; what stands here suits types whose examples have a plain text.

    A plain target, as `read` returns it, is what a cell says: hashable, and without the task's label map. `encode`
    turns it into the JSON value that a split stores under `key`, and `decode` that into an example's target.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]]
    """What a task of this type may be scored by; the first is the default."""
    former_metrics: ClassVar[tuple[Metric, ...]] = ()
    """Definitions that newer ones took the place of: tasks that were added under them keep them."""
    text_columns: ClassVar[tuple[str, ...]] = ("text", "sentence", "content", "document")
    """Usual names of the column of the texts."""
    target_columns: ClassVar[tuple[str, ...]]
    """Usual names of the column of the targets."""
    noun: ClassVar[str] = "target"
    """What the target is called, which is also the option of the command line that names its column."""
    key: ClassVar[str]
    stratified: ClassVar[bool] = False
    """Whether each example has one label, in proportion to which splits are drawn, and which each must show."""
    labelled: ClassVar[bool] = False
    """Whether the task has a label map."""

    @property
    def head(self) -> type[Head]:
        """The class of this type's heads."""
        raise NotImplementedError

    @property
    def default_metric(self) -> str:
        """The metric of tasks that name none."""
        return self.metrics[0].name

    def metric(self, name: str | None) -> str:
        """Return the metric called `name`, or the default one for null; `NAME` stands for the newest `NAME-v2`.

        Raises:
            UsageError: This type of task isn't scored by that metric.
        """
        if name is None:
            return self.default_metric
        names = [one.name for one in self.metrics]
        newest = {metric_family(one): one for one in names}
        if name in newest:
            return newest[name]
        if name not in names:
            raise UsageError(
                f"{name!r} is not a metric of {self.name} tasks: those are {', '.join(names)}.",
                f"--metric {_nearest(name, names)}",
            )
        return name

    def options(self, given: Mapping[str, Any], text_column: str, target_column: str) -> dict[str, Any]:
        """Return what a task of this type has to know beside its data, from what was given for it.

        Args:
            given: `prompt`, `max_new_tokens`, `system` and `chat_template`; null where nothing was given.
            text_column: What the data calls the text.
            target_column: What the data calls the target.

        Raises:
            UsageError: This type has no such option, or its value makes no sense.
        """
        if unknown := sorted(name for name, value in given.items() if value is not None):
            option = f"--{unknown[0].replace('_', '-')}"
            raise UsageError(f"Tasks of type {self.name!r} have no {option}.", f"leave out {option}")
        return {}

    def text_lengths(
        self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text], options: Mapping[str, Any]
    ) -> list[int]:
        """Return how many tokens each text has before it is cut, special tokens included.

        Args:
            tokenizer: The base's.
            texts: The texts.
            options: The task's.
        """
        flat = [flat_text(text) for text in texts]
        if tokenizer.is_fast:
            # lengths alone take half as long as token ids; whoever wants these says how they are cut
            backend = tokenizer.backend_tokenizer
            backend.no_truncation()
            backend.no_padding()
            return [len(encoding) for encoding in backend.encode_batch_fast(flat)]
        # longer than the base's limit, and said so elsewhere
        ids = tokenizer(flat, truncation=False, verbose=False)["input_ids"] if flat else []
        return [len(row) for row in ids]

    def target_lengths(self, tokenizer: PreTrainedTokenizerBase, targets: Sequence[Any]) -> list[int]:
        """Return how many tokens each target has, where targets are written; else nothing."""
        return []

    def reader(self, cells: Sequence[Any]) -> tuple[Callable[[Any], Any], str]:
        """Return what reads the cells of a column of targets as `read` does, and what had to be found out for it."""
        return self.read, ""

    def check_targets(self, scored_by: str, targets: Iterable[Any]) -> list[str]:
        """Check that a metric can score these targets, and return what there is to note of them.

        Raises:
            DataError: A target is none that the metric can score.
        """
        return []

    def constant(self, targets: Sequence[Any], texts: Sequence[Text]) -> list[Any]:
        """Return the same prediction for all texts: the commonest of the targets."""
        return [Counter(targets).most_common(1)[0][0]] * len(texts)

    def read_text(self, cell: object) -> Text | None:
        """Return the text of a cell; null where it is empty.

        Raises:
            DataError: The cell holds something else.
        """
        if isinstance(cell, list | tuple) and all(isinstance(word, str) for word in cell):
            raise DataError("holds a list of words, not text", "--type token-classification, or --text COL")
        if cell is not None and not isinstance(cell, str):
            raise DataError(f"holds {type(cell).__name__}, not text", "--text COL")
        return cell if cell is not None and cell.strip() else None

    def read_input(self, text: str | Sequence[str] | Sequence[Mapping[str, object]]) -> Text:
        """Return a text that somebody asks about, as this type has texts.

        Raises:
            DataError: It is none.
        """
        if not isinstance(text, str):
            raise DataError(f"A text is a {type(text).__name__}, not one text.", "limpet predict TASK 'a text'")
        return text

    def read(self, cell: object) -> Plain | None:
        """Return the plain target of a cell; null where it is empty.

        Raises:
            DataError: The cell holds no target of this type.
        """
        raise NotImplementedError

    def check(self, text: Text, target: Plain) -> None:
        """Refuse a target that does not belong to its text.

        Raises:
            DataError: They contradict each other.
        """

    def labels_of(self, target: Plain) -> Sequence[str]:
        """Return the labels that a plain target has, as often as it has them."""
        return ()

    def encode(self, target: Plain, labels: tuple[str, ...]) -> JsonValue | Plain:
        """Return a plain target as a split stores it."""
        return target

    def decode(self, value: Any) -> Any:
        """Return an example's target, from what a split stores."""
        return value

    def plain(self, value: Any, labels: tuple[str, ...]) -> Any:
        """Return the plain target of what a split stores: the reverse of `encode`."""
        return self.decode(value)

    def relabelled(self, prediction: Any, own: tuple[str, ...], wanted: tuple[str, ...]) -> Any:
        """Return a prediction made under a label map as one under another; a label that is not there keeps its name.

        Args:
            prediction: What a head of this type answered.
            own: The label map that it answered under.
            wanted: The label map to say it in.
        """
        return prediction

    def check_training(self, targets: Sequence[Any]) -> None:
        """Refuse plain targets of a training split that nothing can be learned from.

        Raises:
            DataError: They are all the same, or too few.
        """

    def answer_columns(self, labels: tuple[str, ...], form: AnswerForm) -> tuple[AnswerColumn, ...]:
        """Return the columns that answers have in a file of rows.

        Args:
            labels: The version's label map.
            form: What was asked for.

        Raises:
            UsageError: Answers of this type have no probabilities, or no threshold.
        """
        for option, asked in (("--probabilities", form.probabilities), ("--threshold", form.threshold is not None)):
            if asked:
                raise UsageError(f"Answers of {self.name} tasks have no {option}.", f"leave out {option}")
        return (AnswerColumn(ANSWER),)

    def answer_cells(self, answer: Any, labels: tuple[str, ...], form: AnswerForm) -> tuple[JsonValue, ...]:
        """Return an answer's cells, one for each of its columns; see `answer_columns`.

        Args:
            answer: As the type's head explains it.
            labels: The version's label map.
            form: What was asked for.
        """
        raise NotImplementedError

    def row(self, text: Text, target: Plain, labels: tuple[str, ...]) -> JsonObject:
        """Return an example as a line of a split."""
        return {"text": stored_text(text), self.key: self.encode(target, labels)}

    def example(self, row: Mapping[str, Any]) -> Example:
        """Return the example of a line."""
        return Example(text_of(row["text"]), self.decode(row[self.key]))


def _nearest(name: str, names: Sequence[str]) -> str:
    """Return the metric that was meant: one that shares a word with what was typed, else one spelt alike."""
    words = set(_WORD.findall(name.casefold()))
    shared = {one: len(words & set(_WORD.findall(one))) for one in names}
    if best := max(shared.values()):
        return next(one for one, count in shared.items() if count == best)
    return next(iter(get_close_matches(name.casefold(), names, n=1, cutoff=0.5)), names[0])


def metric_family(name: str) -> str:
    """Return a metric's name without the number of its definition: `rouge-l` for `rouge-l-v2`."""
    return _DEFINITION.sub("", name)
