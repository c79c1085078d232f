"""Conversations held against the chat template that will write them, before anything is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.errors import DataError, UsageError
from limpet.registry.formats.json_values import JsonObject
from limpet.training.batching.examples import Conversation
from limpet.training.data.reading.sources import Source
from limpet.training.generation.learned_turns import unlearned_answers
from limpet.training.generation.prompts import Endings, PromptForm, is_plain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["check_conversations"]

_HINT = "write the turns in an order that the template knows, or give another one: --chat-template FILE"


def check_conversations(source: Source, options: JsonObject, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Render one conversation of each order of roles, and return what is to be noted of all.

    A template refuses orders of roles, such as a system message, or two users' turns in a row.

    Raises:
        DataError: The template refuses a conversation.
    """
    form = PromptForm.of(options)
    if is_plain(tokenizer, form):
        return [
            "the base has no chat template: turns follow each other after a blank line; --chat-template FILE of "
            "limpet task add gives it one"
        ]
    if tokenizer.eos_token_id is None:
        return []
    ends = Endings(tokenizer.eos_token_id, frozenset({tokenizer.eos_token_id}))

    def unlearned(part: str, at: int) -> int:
        pool = source.pools[part]
        text = pool.texts[at]
        if not isinstance(text, Conversation):
            return 0
        try:
            return unlearned_answers(tokenizer, form, text, answer=pool.targets[at].strip(), ends=ends)
        except UsageError as error:
            reason = error.message.removeprefix("The ")
            raise DataError(f"{pool.where}, row {at + 1}: the {reason}", _HINT) from error

    # each of them, so that one that the template refuses is found
    if not sum(unlearned(part, at) for part, at in source.first_of_order):
        return []
    places = [(part, at) for part, pool in source.pools.items() for at in range(len(pool.texts))]
    count = sum(unlearned(part, at) for part, at in places)
    return [
        f"{count} earlier answers are read and not learned: the chat template asks for them otherwise than it "
        "writes them"
    ]
