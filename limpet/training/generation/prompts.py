"""Prompts: a text put into a template, or a conversation, turned into token ids, so that it fits.

A template has `{text}` in it, once. Where there is a chat template, the filled template is the user's message and the
answer follows as the model's; elsewhere the answer follows after a blank line. What is too long is cut at the end of
the text; template and answer stay whole. A conversation loses its oldest turns first, question and answer together;
its system message stays, and of its last question the end is cut only where nothing else is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from limpet.errors import UsageError
from limpet.registry.formats.json_values import JsonObject
from limpet.training.batching.examples import Conversation, Text, Turn, flat_text
from limpet.training.generation import chat_templates

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

__all__ = [
    "PLACE",
    "Endings",
    "PromptForm",
    "check_template",
    "default_template",
    "encode_answers",
    "encode_prompts",
    "endings",
    "fit",
    "is_plain",
    "render_prompt",
    "render_turns",
    "shorten",
    "token_ids",
]

PLACE = "{text}"
"""What stands in a template for the text."""


@dataclass(frozen=True)
class Endings:
    """The token that ends an answer in training, and all that end one in generation."""

    learned: int
    known: frozenset[int]


@dataclass(frozen=True)
class PromptForm:
    """What stands around every text: a template with `{text}`, a system message, a chat template of the task's own.

    `system` goes in front of what has no system message itself. Null `chat_template` takes the base's.
    """

    prompt: str = PLACE
    system: str | None = None
    chat_template: str | None = None

    @classmethod
    def of(cls, options: JsonObject) -> PromptForm:
        """Return the form that a task's options say."""
        return cls(options["prompt"], options.get("system"), options.get("chat_template"))

    def turns(self, text: Text) -> list[Turn]:
        """Return a text as the turns that the model reads."""
        if isinstance(text, Conversation):
            turns = list(text.turns)
        else:
            turns = [Turn("user", self.prompt.replace(PLACE, flat_text(text)))]
        has_own = turns[0].role == "system"
        return turns if self.system is None or has_own else [Turn("system", self.system), *turns]


def default_template(target_column: str) -> str:
    """Return an instruction that names what is asked for, as the data calls it."""
    return f"Write the {target_column} of the following text.\n\n{PLACE}"


def check_template(template: str) -> str:
    """Return `template` if a text fits into it.

    Raises:
        UsageError: `{text}` is not in it, or more than once.
    """
    if template.count(PLACE) != 1:
        raise UsageError(
            f"A prompt must have {PLACE} in it once, where the text goes; {template[:60]!r} has it "
            f"{template.count(PLACE)} times.",
            f"--prompt 'Write the headline of this article: {PLACE}'",
        )
    return template


def endings(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig) -> Endings:
    """Return the tokens that end an answer.

    Args:
        tokenizer: The base's tokenizer.
        config: The base's configuration, which may name more than one.

    Raises:
        UsageError: The base has none.
    """
    named = config.eos_token_id
    more = [] if named is None else list(named) if isinstance(named, Sequence) else [int(named)]
    own = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    stop_ids = [*own, *more]
    if not stop_ids:
        raise UsageError(
            "This base has no token that ends a text, so what it writes would never end.",
            "limpet init --home FOLDER --base sample:smollm2",
        )
    return Endings(stop_ids[0], frozenset(stop_ids))


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, form: PromptForm, texts: Sequence[Text], *, max_length: int
) -> list[list[int]]:
    """Turn texts into prompts of at most `max_length` tokens, special tokens included.

    Raises:
        UsageError: The template alone is longer than that.
    """
    rows = token_ids(tokenizer, form, [render_turns(tokenizer, form, form.turns(text)) for text in texts])
    return [
        ids if len(ids) <= max_length else shorten(tokenizer, form, text, max_length=max_length)[1]
        for text, ids in zip(texts, rows, strict=True)
    ]


def shorten(
    tokenizer: PreTrainedTokenizerBase, form: PromptForm, text: Text, *, max_length: int
) -> tuple[Text, list[int]]:
    """Return what is left of a text in a prompt of at most `max_length` tokens, and the prompt's token ids.

    Raises:
        UsageError: What stands around it is longer than that.
    """

    def fill(part: Text) -> list[int]:
        return token_ids(tokenizer, form, [render_turns(tokenizer, form, form.turns(part))])[0]

    if not isinstance(text, Conversation):
        return fit(tokenizer, fill, flat_text(text), max_length=max_length)
    while len(ids := fill(text)) > max_length:
        system = text.turns[: text.system is not None]
        rest = text.turns[len(system) :]
        answers = [at for at, turn in enumerate(rest) if turn.role == "assistant"]
        if not answers:
            return _shorten_last(tokenizer, fill, text, max_length=max_length)
        text = Conversation((*system, *rest[answers[0] + 1 :]))
    return text, ids


def _shorten_last(
    tokenizer: PreTrainedTokenizerBase, fill: Callable[[Text], list[int]], text: Conversation, *, max_length: int
) -> tuple[Text, list[int]]:
    """Cut the last turn at its end."""
    *before, last = text.turns

    def with_last(content: str) -> Conversation:
        return Conversation((*before, Turn(last.role, content)))

    content, ids = fit(tokenizer, lambda part: fill(with_last(part)), last.content, max_length=max_length)
    return with_last(content), ids


def render_prompt(tokenizer: PreTrainedTokenizerBase, form: PromptForm) -> str:
    """Return what the base reads around a text, chat template and all, with `{text}` where the text goes."""
    return render_turns(tokenizer, form, form.turns(PLACE))


def render_turns(
    tokenizer: PreTrainedTokenizerBase, form: PromptForm, turns: Sequence[Turn], *, answered: bool = False
) -> str:
    """Return turns as one text; see `chat_templates.render`."""
    messages = [turn._asdict() for turn in turns]
    return chat_templates.render(tokenizer, messages, template=form.chat_template, answered=answered)


def is_plain(tokenizer: PreTrainedTokenizerBase, form: PromptForm) -> bool:
    """Tell whether neither the task nor the base has a chat template, which would write special tokens itself."""
    return form.chat_template is None and chat_templates.template_of(tokenizer) is None


def encode_answers(tokenizer: PreTrainedTokenizerBase, answers: Sequence[str], end: int) -> list[list[int]]:
    """Turn answers into token ids that end with `end`; nothing is cut."""
    if not answers:
        return []
    encoded = tokenizer(list(answers), add_special_tokens=False, verbose=False)["input_ids"]
    return [[*ids, end] for ids in encoded]


def token_ids(tokenizer: PreTrainedTokenizerBase, form: PromptForm, rendered: Sequence[str]) -> list[list[int]]:
    """Return the token ids of rendered prompts."""
    if not rendered:
        return []
    plain = is_plain(tokenizer, form)
    rows = tokenizer(list(rendered), add_special_tokens=plain, verbose=False)["input_ids"]
    return [_open(tokenizer, list(ids)) if plain else list(ids) for ids in rows]


def _open(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    """Take the token off that says a text has ended: the answer is still to come."""
    return ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids


def fit(
    tokenizer: PreTrainedTokenizerBase, fill: Callable[[str], list[int]], text: str, *, max_length: int
) -> tuple[str, list[int]]:
    """Cut a text at the end, between two tokens, until what it fills has at most `max_length` tokens.

    Args:
        tokenizer: Tells where the text's tokens begin; it must be a fast one.
        fill: Gives the token ids of a template with a text in it.
        text: The text.
        max_length: How many tokens there may be.

    Returns:
        What is left of the text, and the token ids.

    Raises:
        UsageError: There are more tokens without any text.
    """
    ids = fill(text)
    while len(ids) > max_length:
        if not text:
            raise UsageError(
                f"The prompt's template alone has {len(ids)} tokens, and the longest prompt may have {max_length}.",
                f"--max-length {2 * len(ids)}",
            )
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        places = encoded["offset_mapping"]
        kept = len(places) - (len(ids) - max_length)
        text = text[: places[kept][0]] if kept > 0 else ""
        ids = fill(text)
    return text, ids
