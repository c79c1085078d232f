"""A chat template, rendered so that the same messages give the same text on any day and on any machine.

A template is a program in the base's files, or in a file that a task was added with. It may ask for the date
(`strftime_now`; Llama 3's does) or draw at random, and then what a model reads is not what it read yesterday. Here
its date is always `DATE`, and there is nothing to draw from.
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

__all__ = ["DATE", "PLAIN", "check_chat_template", "reads_date", "render", "template_digest", "template_of"]

DATE = "2024-07-26"
"""The day that every template receives: the one that Llama 3.1's falls back to where it receives none."""
PLAIN = (
    "{% for message in messages %}{{ message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' else '\\n\\n' }}{% endfor %}"
)
"""What stands for a chat template where there is none: a blank line after each turn, and an answer with its end."""
_NOW = datetime.fromisoformat(DATE)
_MESSAGE = Mapping[str, Any]
_LONGEST = 1 << 17
_NO_TOKENS = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), "")
_HINT = "correct chat_template.jinja in the base's folder, then: limpet base add FOLDER"


def template_of(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the text of a tokenizer's chat template, the default one of several; null without any."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    template: str = tokenizer.get_chat_template()
    return template


def template_digest(template: str | None) -> str | None:
    """Return the SHA-256 over the text of a chat template; null without any."""
    return None if template is None else digest_bytes(template.encode("utf-8", "surrogatepass"))


def reads_date(template: str | None) -> bool:
    """Tell whether a chat template asks for the date."""
    return "strftime_now" in (template or "")


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[_MESSAGE],
    *,
    template: str | None = None,
    answered: bool = False,
) -> str:
    """Return messages as one text that ends where the model's answer begins.

    Args:
        tokenizer: The base's.
        messages: Each with `role` and `content`, as transformers takes them.
        template: The text of a chat template in place of the tokenizer's own; where neither is there, `PLAIN`.
        answered: The last message is the answer itself, and the text ends with it.

    Raises:
        UsageError: The template is not sound, or refuses the messages.
    """
    import jinja2

    text = template or template_of(tokenizer) or PLAIN
    try:
        return _rendered(text, messages, tokenizer.special_tokens_map, answered=answered)
    except jinja2.TemplateError as error:
        whose, hint = ("task's", "limpet task add NAME --chat-template FILE") if template else ("base's", _HINT)
        reason = str(error).rstrip(".")
        raise UsageError(f"The {whose} chat template can't be rendered: {reason}.", hint) from error


def check_chat_template(template: str) -> str:
    """Return the text of a chat template that renders a user's message.

    Raises:
        UsageError: It is none.
    """
    import jinja2

    hint = "--chat-template FILE, with the Jinja template that a model's tokenizer_config.json or .jinja file has"
    if len(template) > _LONGEST:
        raise UsageError(f"The chat template has more than {_LONGEST} characters.", hint)
    sample = "what a user asks"
    try:
        text = _rendered(template, [{"role": "user", "content": sample}], _NO_TOKENS, answered=False)
    except jinja2.TemplateError as error:
        raise UsageError(f"The chat template can't be rendered: {str(error).rstrip('.')}.", hint) from error
    if sample not in text:
        raise UsageError("The chat template leaves out what a user asks: no model could answer it.", hint)
    return template


def _rendered(template: str, messages: Sequence[_MESSAGE], tokens: Mapping[str, Any], *, answered: bool) -> str:
    text: str = _compiled(template).render(
        messages=[dict(message) for message in messages],
        tools=None,
        documents=None,
        add_generation_prompt=not answered,
        **tokens,
    )
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
