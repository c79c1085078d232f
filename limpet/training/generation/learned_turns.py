"""A conversation with its answers as token ids, and which of them are learned: those of every answer and of its end.

The whole conversation is rendered once, as the chat template writes it, and turned into token ids once, so that they
are those of transformers' own `apply_chat_template`. An answer begins where the template asks for it and ends with
the token that ends a text. A template may write an earlier answer otherwise than it asks for it (another beginning,
thoughts that it leaves out): what is there is learned, and where the beginning itself is another, the answer is read
and not learned. The last answer is always learned, after exactly the prompt that it is generated after.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from limpet.training.batching.examples import Conversation, Turn
from limpet.training.generation.prompts import Endings, PromptForm, is_plain, render_turns, token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Lesson", "lesson", "unlearned_answers"]


@dataclass(frozen=True)
class Lesson:
    """A conversation to learn from.

    Args:
        ids: All token ids, up to the end of the last answer.
        learned: The places of those that are learned, in their order.
        prompt: How many tokens stand in front of the last answer.
    """

    ids: list[int]
    learned: list[int]
    prompt: int

    @property
    def last_answer(self) -> list[int]:
        """The places of the last answer's tokens."""
        return [at for at in self.learned if at >= self.prompt]


@dataclass(frozen=True)
class _Written:
    """A conversation as one text, the prompt that it begins with, and where each answer to be learned stands."""

    text: str
    prompt: str
    spans: list[tuple[int, int]]
    ended: bool
    unlearned: int


def lesson(
    tokenizer: PreTrainedTokenizerBase, form: PromptForm, conversation: Conversation, *, answer: str, ends: Endings
) -> Lesson:
    """Return a conversation and its last answer as token ids; nothing is cut.

    Args:
        tokenizer: The base's; it must be a fast one.
        form: What stands around every text.
        conversation: All before the last answer.
        answer: The last answer.
        ends: The tokens that end an answer.

    Raises:
        UsageError: The chat template refuses the conversation.
    """
    written = _write(tokenizer, form, [*form.turns(conversation), Turn("assistant", answer)], ends=ends)
    plain = is_plain(tokenizer, form)
    [prompt] = token_ids(tokenizer, form, [written.prompt])
    ids, offsets = _encode(tokenizer, written.text, special=plain)
    if ids[: len(prompt)] != prompt:
        # a token that spans both: the answer is generated after the prompt's own tokens
        rest, of_rest = _encode(tokenizer, written.text[len(written.prompt) :], special=False)
        _, of_prompt = _encode(tokenizer, written.prompt, special=plain)
        ids = [*prompt, *rest]
        shift = len(written.prompt)
        offsets = [*of_prompt[: len(prompt)], *((a + shift, b + shift) for a, b in of_rest)]
    if not written.ended:
        ids, offsets = [*ids, ends.learned], [*offsets, (0, written.spans[-1][1])]
    return Lesson(ids, _inside(offsets, written.spans), len(prompt))


def unlearned_answers(
    tokenizer: PreTrainedTokenizerBase, form: PromptForm, conversation: Conversation, *, answer: str, ends: Endings
) -> int:
    """Return how many earlier answers of a conversation are read and not learned; see this module."""
    return _write(tokenizer, form, [*form.turns(conversation), Turn("assistant", answer)], ends=ends).unlearned


def _write(tokenizer: PreTrainedTokenizerBase, form: PromptForm, turns: Sequence[Turn], *, ends: Endings) -> _Written:
    stops = [tokenizer.decode([token]) for token in sorted(ends.known)]
    places = [at for at, turn in enumerate(turns) if turn.role == "assistant"]
    fronts = [render_turns(tokenizer, form, turns[:at]) for at in places]
    text = render_turns(tokenizer, form, turns, answered=True)
    last = fronts[-1]
    if not text.startswith(last) or (len(text) == len(last) and turns[-1].content):
        # the template asks for an answer otherwise than it writes one
        text = f"{last}{turns[-1].content}{tokenizer.decode([ends.learned])}"
    spans, unlearned, ended = [], 0, True
    for number, (at, front) in enumerate(zip(places, fronts, strict=True), 1):
        # the next answer's front is looked for behind this one's end
        limit = len(fronts[number]) if number < len(fronts) and text.startswith(fronts[number]) else len(text)
        span, ended = _answer_span(text, (len(front), limit), turns[at].content, stops=stops)
        if text.startswith(front) and span is not None:
            spans.append(span)
        elif number < len(fronts):
            unlearned += 1
        else:
            text, ended = f"{last}{turns[-1].content}", False
            spans.append((len(last), len(text)))
    return _Written(text[: spans[-1][1]], last, spans, ended, unlearned)


def _answer_span(
    text: str, within: tuple[int, int], content: str, *, stops: Sequence[str]
) -> tuple[tuple[int, int] | None, bool]:
    """Return where an answer stands in a part of a text, its end included, and whether a token ends it."""
    start, limit = within
    found = [(at, at + len(stop)) for stop in stops if stop and (at := text.find(stop, start, limit)) >= 0]
    if found:
        return (start, min(found)[1]), True
    at = text.find(content.strip(), start, limit)
    return (None if at < 0 else (start, at + len(content.strip()))), False


def _encode(
    tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool
) -> tuple[list[int], list[tuple[int, int]]]:
    encoded = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True, verbose=False)
    ids, offsets = list(encoded["input_ids"]), [(a, b) for a, b in encoded["offset_mapping"]]
    # what a tokenizer puts behind a text stands for no part of it
    while special and ids and offsets[-1] == (0, 0):
        ids, offsets = ids[:-1], offsets[:-1]
    return ids, offsets


def _inside(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[int]:
    """Return the tokens that end inside a span: a blank counts as the place behind it for many tokenizers."""
    last = [end for _, end in spans]
    places = []
    for at, (_, end) in enumerate(offsets):
        span = bisect_left(last, end)
        if span < len(spans) and end > spans[span][0]:
            places.append(at)
    return places
