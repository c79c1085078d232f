"""Prompts: the template whole, the text cut at its end, and the answer never."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from limpet.errors import UsageError
from limpet.home import init
from limpet.training.generation.prompts import (
    PromptForm,
    check_template,
    default_template,
    encode_answers,
    encode_prompts,
    endings,
)
from tests.migrated import with_database
from tests.tiny import tiny_base

TEMPLATE = "near the reef {text} old stone"
CHAT = (
    "{% for message in messages %}[CLS] {{ message['content'] }} [SEP] {% endfor %}"
    "{% if add_generation_prompt %}[CLS] new{% endif %}"
)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    return (
        init(with_database(tmp_path / "home"), base=str(tiny_base(tmp_path / "base", "llama"))).backbone().tokenizer
    )


def test_a_template_has_the_text_once() -> None:
    assert check_template(default_template("headline")) == ("Write the headline of the following text.\n\n{text}")
    for wrong in "no place", "{text} and {text}":
        with pytest.raises(UsageError, match=r"must have \{text\} in it once"):
            check_template(wrong)


def test_the_text_is_cut_and_the_template_stays_whole(tokenizer: Any) -> None:
    rows = encode_prompts(tokenizer, PromptForm(TEMPLATE), ["wave tide salt boat", "sand"], max_length=8)
    wanted = ["near the reef wave tide salt old stone", "near the reef sand old stone"]
    assert [tokenizer.decode(ids) for ids in rows] == wanted
    with pytest.raises(UsageError, match="template alone has 5 tokens, and the longest prompt may have 4"):
        encode_prompts(tokenizer, PromptForm(TEMPLATE), ["wave"], max_length=4)


def test_a_text_with_a_brace_in_it_is_not_a_template(tokenizer: Any) -> None:
    (ids,) = encode_prompts(tokenizer, PromptForm("near {text}"), ["wave {text} {0} tide"], max_length=32)
    assert tokenizer.convert_ids_to_tokens(ids).count("near") == 1
    assert "tide" in tokenizer.decode(ids)


def test_a_chat_template_is_used_where_there_is_one(tokenizer: Any) -> None:
    plain = encode_prompts(tokenizer, PromptForm(TEMPLATE), ["wave tide"], max_length=32)
    tokenizer.chat_template = CHAT
    (ids,) = encode_prompts(tokenizer, PromptForm(TEMPLATE), ["wave tide"], max_length=32)
    assert tokenizer.decode(ids) == "[CLS] near the reef wave tide old stone [SEP] [CLS] new"
    assert plain != [ids]
    (cut,) = encode_prompts(tokenizer, PromptForm(TEMPLATE), ["wave tide"], max_length=len(ids) - 1)
    assert tokenizer.decode(cut) == "[CLS] near the reef wave old stone [SEP] [CLS] new"


def test_an_answer_ends_with_the_token_that_the_base_ends_texts_with(tokenizer: Any) -> None:
    found = endings(tokenizer, SimpleNamespace(eos_token_id=[3, 4]))
    assert (found.learned, found.known) == (3, {3, 4})
    (ids,) = encode_answers(tokenizer, ["old reef"], found.learned)
    assert tokenizer.decode(ids) == "old reef [SEP]"
    with pytest.raises(UsageError, match="no token that ends a text"):
        endings(tokenizer, SimpleNamespace(eos_token_id=None))
