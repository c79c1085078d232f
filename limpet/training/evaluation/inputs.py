"""What a model was really given: recorded beside its answers, so that an answer that changed has its cause on record.

A text reaches a model as token ids, inside a prompt that the base's chat template renders. Neither the data nor the
base says what that was: a library, a template or a cache may make something else of the same text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.registry.formats.json_values import JsonObject
from limpet.training.base.environment import arithmetic
from limpet.training.batching.encoded import Encoded
from limpet.training.generation import chat_templates
from limpet.training.heads import AnsweringHead

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["describe_inputs"]

_EACH = 8
"""Hex digits that are kept of each example's digest: enough to name the first that differs."""


def describe_inputs(
    tokenizer: PreTrainedTokenizerBase, backbone: PreTrainedModel, head: AnsweringHead, *, encoded: Encoded
) -> JsonObject:
    """Return what is kept of an evaluation's inputs, as JSON.

    `tokens` is the digest of all token ids and of whatever else a batch has but targets, `each` the beginning of each
    example's; `prompt` is what is rendered around every text, `template` the digest of the chat template, and `date`
    what that is told where it asks; `arithmetic` is what products were computed by. Null is what there is not.

    Args:
        tokenizer: The base's.
        backbone: The base's transformers model.
        head: The task's head.
        encoded: The texts.
    """
    prompt = head.prompt(tokenizer)
    template = None if prompt is None else head.chat_template(tokenizer)
    return {
        "tokens": encoded.inputs_digest(),
        "each": [digest[:_EACH] for digest in encoded.row_digests()],
        "prompt": prompt,
        "template": chat_templates.template_digest(template),
        "date": chat_templates.DATE if chat_templates.reads_date(template) else None,
        "arithmetic": arithmetic() | {"attention": backbone.config._attn_implementation},
    }
