"""What somebody asks of a task: its data, its type, its splits and its limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from limpet.argument_types import check_fields
from limpet.errors import UsageError
from limpet.names import check_name
from limpet.training.data.overlong import Overlong
from limpet.training.data.reading.chat_forms import CHATS, FORMATS, ChatRequest, DataFormat
from limpet.training.data.reading.data_spec import complete
from limpet.training.data.reading.memory import Rows, spec_of
from limpet.training.data.splitter import NearDuplicates
from limpet.training.task_types import TaskType, task_type

__all__ = ["TaskRequest"]

_NEAR_DUPLICATES = ("drop", "report", "keep")
_OVERLONG = ("cut", "drop", "refuse")


@dataclass(frozen=True)
class TaskRequest:
    """A task as it is asked for; what is null is found out of the data.

    An official evaluation split is kept; else 30 % of the examples are drawn for one. Validation examples are
    drawn from the training data and not counted in `train_size`: 20 % of it, at least two for each label, at
    most 500.

    Args:
        name: The task's name.
        data: The data SPEC; a path alone gets its kind in front, by which it is recorded. Or rows given in Python.
        type: The type of task, one of `task_types.names()`.
        text_column: The column of the texts; null finds it.
        target_column: The column of the targets; null finds it.
        metric: What the task is scored by; null takes the type's default.
        train_size: How many training examples to draw; null takes all.
        eval_size: How many evaluation examples to draw; null takes all, or 30 % without an official split.
        split_seed: Seeds every draw.
        max_length: Longest text in tokens; null takes what 99 % of the texts fit in, 128 or more.
        prompt: What an answer is written after, with `{text}` where the text goes; for generation.
        max_new_tokens: The longest answer in tokens; for generation. Null takes what the longest target needs.
        labels: The labels in the order of their ids; null takes the data's own order, else that of numbers.
        near_duplicates: What happens to training examples that resemble evaluation ones: `drop`, `report` or `keep`.
        overlong: What happens to what is longer than the limits: `cut`, `drop` (the example), or `refuse`.
        format: The form of instruction data: `columns`, `messages`, `sharegpt`, `prompt-completion` or `alpaca`;
            `auto` finds it. For generation.
        system: A system message in front of what has none itself; for generation. Null takes the one that all
            conversations share.
        chat_template: The text of a Jinja chat template in place of the base's; for generation.
    """

    name: str
    data: str | Rows
    type: str = "classification"
    text_column: str | None = None
    target_column: str | None = None
    metric: str | None = None
    train_size: int | None = None
    eval_size: int | None = None
    split_seed: int = 0
    max_length: int | None = None
    prompt: str | None = None
    max_new_tokens: int | None = None
    labels: Sequence[str] | None = None
    near_duplicates: NearDuplicates = "drop"
    overlong: Overlong = "cut"
    format: DataFormat = "auto"
    system: str | None = None
    chat_template: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        # what is recorded has one form, however it was typed
        if isinstance(self.data, str):
            object.__setattr__(self, "data", complete(self.data))

    @property
    def spec(self) -> str:
        """The data SPEC that is recorded."""
        return spec_of(self.data)

    @property
    def kind(self) -> TaskType[Any]:
        """The type of task.

        Raises:
            UsageError: There is no such type.
        """
        return task_type(self.type)

    def chats(self, recorded: str | None) -> ChatRequest | None:
        """Return what is asked of the form of the data; null where only columns are read.

        Args:
            recorded: The form in which the task was added before; null where it was not, or had columns.
        """
        if self.type != CHATS:
            return None
        known = next((form for form in FORMATS if form == recorded), self.format)
        return ChatRequest(known if self.format == "auto" else self.format, self.system)

    def check(self) -> None:
        """Refuse what makes no sense, whatever the data are.

        Raises:
            UsageError: A number, a word, the name, the metric or an option is wrong.
        """
        kind = self.kind
        _check_numbers(train_size=self.train_size, eval_size=self.eval_size, max_length=self.max_length)
        if self.split_seed < 0:
            raise UsageError(f"The split seed is {self.split_seed}, and seeds are 0 or more.", "--split-seed 0")
        _check_word("near-duplicates", self.near_duplicates, _NEAR_DUPLICATES)
        _check_word("overlong", self.overlong, _OVERLONG)
        _check_word("format", self.format, FORMATS)
        if self.format != "auto" and self.type != CHATS:
            raise UsageError(
                f"Tasks of type {self.type!r} are read from columns, and have no --format.", "leave out --format"
            )
        kind.metric(self.metric)
        check_name("task", self.name)
        if self.labels is not None and not kind.labelled:
            raise UsageError(f"Tasks of type {self.type!r} have no --labels.", "leave out --labels")


def _check_word(option: str, word: str, words: Sequence[str]) -> None:
    if word not in words:
        raise UsageError(f"--{option} is {word!r}, and it is one of {', '.join(words)}.", f"--{option} {words[0]}")


def _check_numbers(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < 1:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} is {number}, and it must be 1 or more.", f"{option} 100")
