"""Token classification: a tag for each word of a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from limpet.errors import DataError
from limpet.registry.formats.json_values import JsonValue
from limpet.training.batching.examples import Text, words_of
from limpet.training.metrics.entities import ENTITY_F1, TOKEN_ACCURACY
from limpet.training.task_types._answers import ANSWER, AnswerColumn, AnswerForm, probability
from limpet.training.task_types._base import TaskType
from limpet.training.task_types._labels import read_label

if TYPE_CHECKING:
    from limpet.training.heads.base import Head
    from limpet.training.heads.token_classification import TagsPrediction

__all__ = ["TASK_TYPE", "TokenClassification"]


class TokenClassification(TaskType[tuple[str, ...]]):
    """A target is the tags of a text's words, by name, as splits and predictions have them."""

    name = "token-classification"
    summary = "a tag for each word of a text"
    metrics = (ENTITY_F1, TOKEN_ACCURACY)
    # where a row has its words and its text, tags belong to the words
    text_columns = ("words", "tokens", *TaskType.text_columns)
    target_columns = ("tags", "ner_tags", "labels", "target")
    key = "tags"
    labelled = True

    @property
    def head(self) -> type[Head]:
        """See `TaskType.head`."""
        from limpet.training.heads.token_classification import TokenHead

        return TokenHead

    def read_text(self, cell: object) -> Text | None:
        """Return the words of a cell: a list, or a text with blanks between them; null where there is none."""
        words = cell.split() if isinstance(cell, str) else cell
        if words is None or (isinstance(words, list | tuple) and not words):
            return None
        if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
            raise DataError("holds no list of words", "--text COL")
        if not all(word.strip() for word in words):
            raise DataError("has an empty word", "take the word and its tag out")
        return tuple(words)

    def read_input(self, text: str | Sequence[str] | Sequence[Mapping[str, object]]) -> Text:
        """See `TaskType.read_input`; a text is split at its blanks."""
        words = self.read_text(text if isinstance(text, str) else list(text))
        if words is None:
            raise DataError("A text has no word.", "limpet predict TASK 'some words'")
        return words

    def read(self, cell: object) -> tuple[str, ...] | None:
        """See `TaskType.read`: a list of tags, or a text with blanks between them."""
        if cell is None:
            return None
        parts = cell.split() if isinstance(cell, str) else cell
        if not isinstance(parts, list):
            raise DataError(f"It holds a {type(cell).__name__}, not a list of tags.", "--target COL")
        tags = tuple(read_label(part) for part in parts)
        if any(tag is None for tag in tags):
            raise DataError("A tag is empty.", "write O where a word has none")
        return tuple(str(tag) for tag in tags)

    def check(self, text: Text, target: tuple[str, ...]) -> None:
        """See `TaskType.check`: as many tags as words."""
        if len(target) != len(words_of(text)):
            raise DataError(f"{len(target)} tags for {len(words_of(text))} words.", "give every word one tag")

    def constant(self, targets: Sequence[tuple[str, ...]], texts: Sequence[Text]) -> list[tuple[str, ...]]:
        """See `TaskType.constant`: the commonest tag, for each word."""
        [(commonest, _)] = Counter(tag for tags in targets for tag in tags).most_common(1)
        return [(commonest,) * len(words_of(text)) for text in texts]

    def labels_of(self, target: tuple[str, ...]) -> Sequence[str]:
        """See `TaskType.labels_of`."""
        return target

    def decode(self, value: list[str]) -> tuple[str, ...]:
        """Return the tags."""
        return tuple(value)

    def answer_columns(self, labels: tuple[str, ...], form: AnswerForm) -> tuple[AnswerColumn, ...]:
        """See `TaskType.answer_columns`: the tags, and the words that they stand for."""
        super().answer_columns(labels, AnswerForm(threshold=form.threshold))
        likely = (AnswerColumn(f"{ANSWER}_probabilities", "numbers"),) if form.probabilities else ()
        return (AnswerColumn(ANSWER, "texts"), AnswerColumn(f"{ANSWER}_words", "texts"), *likely)

    def answer_cells(
        self, answer: TagsPrediction, labels: tuple[str, ...], form: AnswerForm
    ) -> tuple[JsonValue, ...]:
        """See `TaskType.answer_cells`; a word that was not seen has no probability."""
        likely = tuple(None if value is None else probability(value) for value in answer.probabilities)
        return (answer.tags, answer.words, *((likely,) if form.probabilities else ()))


TASK_TYPE = TokenClassification()
