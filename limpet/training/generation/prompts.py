"""Prompts: a text put into a template and turned into token ids, so that it fits.

A template has `{text}` in it, once. Where the tokenizer has a chat template, the filled template is the user's
message and the answer follows as the model's; elsewhere the answer follows after a blank line. What is too long is
cut at the end of the text; template and answer stay whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from limpet.errors import UsageError
from limpet.training.generation import chat_templates

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

__all__ = [
    "PLACE",
    "Endings",
    "check_template",
    "default_template",
    "encode_answers",
    "encode_prompts",
    "endings",
    "fit",
    "render_prompt",
]

PLACE = "{text}"
"""What stands in a template for the text."""


@dataclass(frozen=True)
class Endings:
    """The token that ends an answer in training, and all that end one in generation."""

    learned: int
    known: frozenset[int]


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
    tokenizer: PreTrainedTokenizerBase, template: str, texts: Sequence[str], *, max_length: int
) -> list[list[int]]:
    """Turn texts into prompts of at most `max_length` tokens, special tokens included.

    Raises:
        UsageError: The template alone is longer than that.
    """
    rows = _tokenise(tokenizer, template, texts)

    def fill(text: str) -> list[int]:
        return _tokenise(tokenizer, template, [text])[0]

    return [
        ids if len(ids) <= max_length else fit(tokenizer, fill, text, max_length=max_length)[1]
        for text, ids in zip(texts, rows, strict=True)
    ]


def render_prompt(tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """Return a template as the base reads it, chat template and all, with `{text}` where the text goes."""
    return _rendered(tokenizer, template)


def encode_answers(tokenizer: PreTrainedTokenizerBase, answers: Sequence[str], end: int) -> list[list[int]]:
    """Turn answers into token ids that end with `end`; nothing is cut."""
    if not answers:
        return []
    encoded = tokenizer(list(answers), add_special_tokens=False, verbose=False)["input_ids"]
    return [[*ids, end] for ids in encoded]


def _tokenise(tokenizer: PreTrainedTokenizerBase, template: str, texts: Sequence[str]) -> list[list[int]]:
    if not texts:
        return []
    filled = [template.replace(PLACE, text) for text in texts]
    rendered = [_rendered(tokenizer, prompt) for prompt in filled]
    if tokenizer.chat_template is None:
        return [_open(tokenizer, list(ids)) for ids in tokenizer(rendered, verbose=False)["input_ids"]]
    return [list(ids) for ids in tokenizer(rendered, add_special_tokens=False, verbose=False)["input_ids"]]


def _rendered(tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    if tokenizer.chat_template is None:
        return f"{prompt}\n\n"
    return chat_templates.render(tokenizer, [{"role": "user", "content": prompt}])


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
