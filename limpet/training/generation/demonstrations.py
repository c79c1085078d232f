"""Demonstrations: solved examples in front of a text, from which a decoder reads what is asked of it.

The words of every label, the template and the examples in their order are one JSON file, the whole adapter of a task
that is learned in context (Brown et al. 2020, arXiv 2005.14165).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from limpet.errors import IntegrityError, UsageError
from limpet.registry.formats.adapter_files import DEMONSTRATIONS_FILE
from limpet.registry.formats.canonical import canonical_json
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.formats.strict_json import read_json
from limpet.training.generation.prompts import PLACE, fit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "DEFAULT_TEMPLATE",
    "Demonstration",
    "Demonstrations",
    "Script",
    "check_template",
    "choose",
    "label_words",
    "parse",
    "reordered",
    "with_random_labels",
    "write",
]

"""The file of an adapter that is nothing but demonstrations."""
DEFAULT_TEMPLATE = "Text: {text}\nLabel: {label}"
_LABEL = "{label}"
_BETWEEN = "\n\n"
_FIELDS = {"schema", "template", "labels", "words", "budget", "demonstrations"}
_MOST_TOKENS = 2**20


@dataclass(frozen=True)
class Demonstration:
    """A text as it is shown, and its label."""

    text: str
    label: str


@dataclass(frozen=True)
class Demonstrations:
    """All that is told a decoder about a task: `words` are those of `labels`, `shown` is in order.

    `budget` is how many tokens demonstrations, text and label word may have together.
    """

    template: str
    labels: tuple[str, ...]
    words: tuple[str, ...]
    budget: int
    shown: tuple[Demonstration, ...]


def check_template(template: str) -> str:
    """Return `template` if it has `{text}` once and ends with `{label}`.

    Raises:
        UsageError: It has not.
    """
    body = template.removesuffix(_LABEL)
    if body == template or _LABEL in body or body.count(PLACE) != 1:
        raise UsageError(
            f"A template of demonstrations has {PLACE} once and ends with {_LABEL}, unlike {template[:60]!r}.",
            "--set template='{text} Topic: {label}'",
        )
    return template


def label_words(labels: Sequence[str], setting: str) -> tuple[str, ...]:
    """Return the word of every label, in the order of the labels.

    Args:
        labels: The task's labels.
        setting: `label=word` with commas between; other labels stand for themselves, `-` and `_` read as spaces.

    Raises:
        UsageError: A label is unknown, has no word, or shares its word with another.
    """
    words = {label: label.replace("-", " ").replace("_", " ").strip() or label for label in labels}
    for part in filter(None, setting.split(",")):
        label, equals, word = (piece.strip() for piece in part.partition("="))
        if not equals or not word or label not in words:
            raise UsageError(
                f"label_words takes label=word for the labels {', '.join(labels)}, not {part!r}.",
                f"--set label_words={labels[0]}=word",
            )
        words[label] = word
    if len(set(words.values())) < len(words):
        raise UsageError("Two labels have the same word.", f"--set label_words={labels[0]}=word")
    return tuple(words[label] for label in labels)


def choose(examples: Sequence[Demonstration], labels: Sequence[str], shots: int, *, seed: int) -> list[Demonstration]:
    """Draw `shots` examples of every label, label by label.

    Raises:
        UsageError: A label has fewer.
    """
    generator = np.random.default_rng([seed, 0])
    chosen = []
    for label in labels:
        pool = [example for example in examples if example.label == label]
        if len(pool) < shots:
            raise UsageError(
                f"The label {label!r} has {len(pool)} training examples, and {shots} are to be shown of each.",
                f"--set shots={len(pool)}",
            )
        chosen += [pool[at] for at in generator.permutation(len(pool))[:shots]]
    return chosen


def reordered(shown: Sequence[Demonstration], order_seed: int) -> list[Demonstration]:
    """Return the same demonstrations in the order that the seed gives."""
    return [shown[at] for at in np.random.default_rng([order_seed, 1]).permutation(len(shown))]


def with_random_labels(
    shown: Sequence[Demonstration], labels: Sequence[str], seed: int, *, draw: int
) -> list[Demonstration]:
    """Return the same texts with labels drawn uniformly at random (Min et al. 2022, arXiv 2202.12837)."""
    drawn = np.random.default_rng([seed, draw, 2]).integers(len(labels), size=len(shown))
    return [replace(example, label=labels[at]) for example, at in zip(shown, drawn, strict=True)]


def write(demonstrations: Demonstrations) -> bytes:
    """Return the one byte form of the file."""
    content = asdict(demonstrations)
    shown = content.pop("shown")
    return canonical_json({"schema": 1, **content, "demonstrations": shown}) + b"\n"


def parse(data: bytes) -> Demonstrations:
    """Read the file, trusting nothing about it.

    Raises:
        IntegrityError: It is not, byte for byte, what `write` would write.
    """
    document = read_json(data.removesuffix(b"\n"), f"The adapter's {DEMONSTRATIONS_FILE}", canonical=True)
    problem = _problem(document)
    if problem or not isinstance(document, dict):
        raise IntegrityError(f"The adapter's {DEMONSTRATIONS_FILE} can't be used: {problem}.", "limpet verify")
    content: JsonObject = document
    return Demonstrations(
        template=content["template"],
        labels=tuple(content["labels"]),
        words=tuple(content["words"]),
        budget=content["budget"],
        shown=tuple(Demonstration(**one) for one in content["demonstrations"]),
    )


def _problem(content: object) -> str:
    if not isinstance(content, dict) or set(content) != _FIELDS or content["schema"] != 1:
        return f"it has not exactly {', '.join(sorted(_FIELDS))}, of schema 1"
    labels, words, shown = content["labels"], content["words"], content["demonstrations"]
    for name in ("labels", "words"):
        if not _are_texts(content[name]) or len(set(content[name])) != len(content[name]):
            return f"its {name} are not texts, each once"
    if not labels or len(labels) != len(words):
        return "there is not one word for each label"
    if not isinstance(content["template"], str):
        return "its template is no text"
    if type(content["budget"]) is not int or not 1 <= content["budget"] <= _MOST_TOKENS:
        return "its budget is not a count of tokens"
    if not isinstance(shown, list) or not all(map(_is_demonstration, shown)):
        return "a demonstration is not a text and a label"
    if any(one["label"] not in labels for one in shown):
        return "a demonstration has a label that is none of the task's"
    try:
        check_template(content["template"])
    except UsageError as error:
        return error.message.rstrip(".")
    return ""


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) and one for one in value)


def _is_demonstration(value: object) -> bool:
    wanted = {"text": str, "label": str}
    return isinstance(value, Mapping) and {key: type(part) for key, part in value.items()} == wanted


class Script:
    """What the base reads: the tokens of demonstrations, of a text to be labelled, and of every label's word.

    Every demonstration is turned into tokens by itself, as the text to be labelled is, so that all look the same.

    Args:
        tokenizer: The base's.
        template: Has `{text}` and ends with `{label}`.
        words: The word of every label.

    Raises:
        UsageError: Two words are the same tokens for this base, so that it can't tell them apart.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str, words: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._open, self._tail = template.removesuffix(_LABEL).split(PLACE)
        # the space before a word belongs to its first token
        space = self._tail[len(self._tail.rstrip(" ")) :]
        self._tail = self._tail.rstrip(" ")
        self.words = [self._continuation(space + word) for word in words]
        word_of_ids: dict[tuple[int, ...], str] = {}
        for word, ids in zip(words, self.words, strict=True):
            other = word_of_ids.setdefault(tuple(ids), word)
            if not ids or other != word:
                raise UsageError(
                    f"The base reads the words {other!r} and {word!r} of two labels as the same tokens."
                    if ids
                    else f"The base has no token for the word {word!r} of a label.",
                    "--set label_words=label=word",
                )

    def beginning(self, demonstrations: Demonstrations) -> list[int]:
        """Return the token ids of everything in front of the text."""
        first = self._tokenizer.bos_token_id
        opened = first is not None and self._tokenizer("a", verbose=False)["input_ids"][0] == first
        ids = [first] if opened else []
        at = {label: place for place, label in enumerate(demonstrations.labels)}
        for one in demonstrations.shown:
            ids += self.demonstration(one.text, at[one.label])
        return ids

    def demonstration(self, text: str, label: int) -> list[int]:
        """Return the token ids of one solved example, with what parts it from the next."""
        return [*self._question(text), *self.words[label], *self._ids(_BETWEEN)]

    def question(self, text: str, max_length: int) -> list[int]:
        """Return the token ids of a text to be labelled, at most `max_length`; the text is cut at the end."""
        return fit(self._tokenizer, self._question, text, max_length=max_length)[1]

    def cut(self, text: str, label: int, max_length: int) -> str:
        """Return what of a text can be shown in a demonstration of at most `max_length` tokens."""
        return fit(self._tokenizer, lambda part: self.demonstration(part, label), text, max_length=max_length)[0]

    def _question(self, text: str) -> list[int]:
        return self._ids(f"{self._open}{text}{self._tail}")

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _continuation(self, word: str) -> list[int]:
        before, whole = self._ids(self._tail), self._ids(self._tail + word)
        # where word and tail make one token together, the word is taken by itself
        return (
            whole[len(before) :] if whole[: len(before)] == before and len(whole) > len(before) else self._ids(word)
        )
