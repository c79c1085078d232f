"""Generation: a text to be written for each text, such as the headline of an article."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from limpet.errors import DataError, UsageError
from limpet.registry.formats.json_values import JsonValue
from limpet.training.batching.examples import Conversation, Text
from limpet.training.generation.chat_templates import check_chat_template
from limpet.training.generation.prompts import (
    PLACE,
    PromptForm,
    check_template,
    default_template,
    encode_answers,
    encode_prompts,
)
from limpet.training.generation.turns import asked, form_of_turns, is_turns, read_turns
from limpet.training.metrics.json_fields import JSON_EXACT, JSON_F1, is_json_object
from limpet.training.metrics.text import CHRF, EXACT_MATCH, FORMER, NEG_PERPLEXITY, ROUGE_L, TOKEN_F1
from limpet.training.task_types._answers import AnswerForm
from limpet.training.task_types._base import TaskType

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from limpet.training.heads.base import Head
    from limpet.training.heads.generation import Written

__all__ = ["DEFAULT_MAX_NEW_TOKENS", "TASK_TYPE", "Generation"]

DEFAULT_MAX_NEW_TOKENS = 32
"""How many tokens an answer has at most, where neither the task nor its targets need more."""
_ENDLESS = 2**31
_SHOWN = 80  # characters of a target in a message
_ASKING = ("instruction+input", "instruction", "prompt")
"""Columns that say what is asked for: their texts need no instruction in front."""


class Generation(TaskType[str]):
    """A target is a text. What is asked for stands in the task's prompt."""

    name = "generation"
    summary = "a text written for each text"
    metrics = (ROUGE_L, EXACT_MATCH, TOKEN_F1, CHRF, JSON_F1, JSON_EXACT, NEG_PERPLEXITY)
    former_metrics = FORMER
    text_columns = (
        "instruction+input",
        "body",
        "document",
        "article",
        "source",
        "question",
        "input",
        "text",
        "content",
        "instruction",
        "prompt",
    )
    target_columns = (
        "headline",
        "summary",
        "highlights",
        "title",
        "answer",
        "output",
        "target",
        "completion",
        "response",
    )
    key = "target"

    @property
    def head(self) -> type[Head]:
        """See `TaskType.head`."""
        from limpet.training.heads.generation import GenerationHead

        return GenerationHead

    def options(self, given: Mapping[str, Any], text_column: str, target_column: str) -> dict[str, Any]:
        """Return prompt, longest answer, system message and chat template; see `TaskType.options`."""
        limit = given.get("max_new_tokens")
        limit = DEFAULT_MAX_NEW_TOKENS if limit is None else limit
        if limit < 1:
            raise UsageError(f"--max-new-tokens is {limit}, and it must be 1 or more.", "--max-new-tokens 32")
        prompt = given.get("prompt")
        if prompt is None:
            prompt = PLACE if text_column in _ASKING else default_template(target_column)
        # what a task has not is left away, as it was before there was any
        more = {name: given[name] for name in ("system", "chat_template") if given.get(name) is not None}
        if "chat_template" in more:
            check_chat_template(more["chat_template"])
        return {"prompt": check_template(prompt), "max_new_tokens": limit, **more}

    def text_lengths(
        self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text], options: Mapping[str, Any]
    ) -> list[int]:
        """See `TaskType.text_lengths`: the tokens of whole prompts."""
        form = PromptForm.of(dict(options))
        return [len(ids) for ids in encode_prompts(tokenizer, form, texts, max_length=_ENDLESS)]

    def target_lengths(self, tokenizer: PreTrainedTokenizerBase, targets: Sequence[str]) -> list[int]:
        """See `TaskType.target_lengths`; what ends an answer is not counted."""
        return [len(ids) - 1 for ids in encode_answers(tokenizer, targets, 0)]

    def check_targets(self, scored_by: str, targets: Iterable[str]) -> list[str]:
        """See `TaskType.check_targets`: JSON where the metric reads JSON, and a hint where it might."""
        is_readable = next((one.is_readable for one in self.metrics if one.name == scored_by), None)
        if is_readable is None:
            # the first that is none ends it
            suggested = scored_by != NEG_PERPLEXITY.name and all(map(is_json_object, targets))
            return ["every target is a JSON object: --metric json-f1 scores them field by field"] if suggested else []
        for target in targets:
            if not is_readable(target):
                raise DataError(
                    f"{scored_by} needs targets that are JSON, and one is {target[:_SHOWN]!r}.",
                    f"correct it, or --metric {self.default_metric}",
                )
        return []

    def read_text(self, cell: object) -> Text | None:
        """See `TaskType.read_text`; a list of messages is what it asks, without an answer behind it."""
        if isinstance(cell, Conversation):
            return cell
        if not is_turns(cell):
            return super().read_text(cell)
        return self._asked(cell)

    def read_input(self, text: str | Sequence[str] | Sequence[Mapping[str, object]]) -> Text:
        """See `TaskType.read_input`; a conversation is a list of messages."""
        if isinstance(text, str) or not is_turns(text):
            return super().read_input(text)
        return self._asked(text)

    def _asked(self, cell: Any) -> Conversation:
        turns = read_turns(cell, form_of_turns(cell) or "messages")
        # an answer that is there already is the one that is asked for
        return asked(turns[:-1] if turns[-1].role == "assistant" else turns)

    def read(self, cell: object) -> str | None:
        """See `TaskType.read`."""
        if cell is None:
            return None
        if not isinstance(cell, str):
            raise DataError(f"A target is a {type(cell).__name__}, not a text.", "--target COL")
        return cell.strip() or None

    def answer_cells(self, answer: Written, labels: tuple[str, ...], form: AnswerForm) -> tuple[JsonValue, ...]:
        """See `TaskType.answer_cells`."""
        return (answer.answer,)


TASK_TYPE = Generation()
