"""Chat templates: the same messages are the same text on any day, and nothing is drawn at random."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
import transformers.utils.chat_template_utils as templates_of_transformers
from transformers import PreTrainedTokenizerFast

from limpet.errors import UsageError
from limpet.training.generation.chat_templates import DATE, reads_date, render, template_digest, template_of

DATED = "Today {{ strftime_now('%d %b %Y') }}: {% for message in messages %}{{ message['content'] }}{% endfor %}"
ASKED = [{"role": "user", "content": "wave"}]


class Later(datetime):
    """A clock years ahead."""

    @classmethod
    def now(cls, tz: Any = None) -> Later:
        return cls(2031, 2, 3)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models

    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]")))
    made.chat_template = DATED
    return made


def test_a_template_is_told_the_same_date_on_any_day(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = render(tokenizer, ASKED)
    monkeypatch.setattr(templates_of_transformers, "datetime", Later)
    assert render(tokenizer, ASKED) == today == "Today 26 Jul 2024: wave"
    assert datetime.fromisoformat(DATE).strftime("%d %b %Y") in today
    # whoever else renders templates in this process has the clock
    assert tokenizer.apply_chat_template(ASKED, tokenize=False) == "Today 03 Feb 2031: wave"


def test_a_template_without_a_date_is_rendered_as_transformers_renders_it(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = (
        "{% for message in messages %}{{ unk_token }}{{ message | tojson }}"
        "{% generation %} {% endgeneration %}{% endfor %}{% if add_generation_prompt %}answer{% endif %}"
    )
    wanted = tokenizer.apply_chat_template(ASKED, tokenize=False, add_generation_prompt=True)
    assert render(tokenizer, ASKED) == wanted
    assert not reads_date(template_of(tokenizer))


def test_one_of_several_templates_is_the_default(tokenizer: PreTrainedTokenizerFast) -> None:
    alone = template_digest(template_of(tokenizer))
    tokenizer.chat_template = {"default": DATED, "tool_use": "{{ messages }}"}
    assert template_digest(template_of(tokenizer)) == alone
    assert reads_date(template_of(tokenizer))
    assert render(tokenizer, ASKED) == "Today 26 Jul 2024: wave"


@pytest.mark.parametrize("text", ["{{ lipsum() }}", "{{ [1, 2] | random }}", "{{ raise_exception('no.') }}", "{% if"])
def test_a_template_that_draws_at_random_or_is_unsound_is_refused(
    tokenizer: PreTrainedTokenizerFast, text: str
) -> None:
    tokenizer.chat_template = text
    with pytest.raises(UsageError, match="The base's chat template can't be rendered"):
        render(tokenizer, ASKED)
