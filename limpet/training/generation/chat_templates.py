"""A base's chat template, rendered so that the same messages give the same text on any day and on any machine.

A template is a program in the base's files. It may ask for the date (`strftime_now`; Llama 3's does) or draw at
random, and then what a model reads is not what it read yesterday. Here its date is always `DATE`, and there is
nothing to draw from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from limpet.errors import UsageError
from limpet.registry.formats.canonical import digest_bytes

if TYPE_CHECKING:
    import jinja2
    from transformers import PreTrainedTokenizerBase

__all__ = ["DATE", "reads_date", "render", "template_digest", "template_of"]

DATE = "2024-07-26"
"""The day that every template receives: the one that Llama 3.1's falls back to where it receives none."""
_NOW = datetime.fromisoformat(DATE)
_MESSAGE = Mapping[str, Any]


def template_of(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the text of a tokenizer's chat template, the default one of several; null without any."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    template: str = tokenizer.get_chat_template()
    return template


def template_digest(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the SHA-256 over the text of a tokenizer's chat template; null without any."""
    template = template_of(tokenizer)
    return None if template is None else digest_bytes(template.encode("utf-8", "surrogatepass"))


def reads_date(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether a tokenizer's chat template asks for the date."""
    return "strftime_now" in (template_of(tokenizer) or "")


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[_MESSAGE]) -> str:
    """Return messages as one text that ends where the model's answer begins.

    Args:
        tokenizer: It has a chat template.
        messages: Each with `role` and `content`, as transformers takes them.

    Raises:
        UsageError: The template is not sound, or refuses the messages.
    """
    import jinja2

    try:
        template = _compiled(tokenizer.get_chat_template())
        text: str = template.render(
            messages=[dict(message) for message in messages],
            tools=None,
            documents=None,
            add_generation_prompt=True,
            **tokenizer.special_tokens_map,
        )
    except jinja2.TemplateError as error:
        raise UsageError(
            f"The base's chat template can't be rendered: {str(error).rstrip('.')}.",
            "correct chat_template.jinja in the base's folder, then: limpet base add FOLDER",
        ) from error
    return text


@lru_cache(maxsize=16)
def _compiled(template: str) -> jinja2.Template:
    """Compile a template in transformers' own environment, but for what differs from one time to the next."""
    from transformers.utils import chat_template_utils

    # an overlay shares nothing that is set here: whoever else renders templates in this process keeps the clock
    environment = chat_template_utils._compile_jinja_template(template).environment.overlay()
    environment.globals = {**environment.globals, "strftime_now": _NOW.strftime}
    del environment.globals["lipsum"]
    environment.filters = {name: use for name, use in environment.filters.items() if name != "random"}
    compiled: jinja2.Template = environment.from_string(template)
    return compiled
