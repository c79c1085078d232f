"""Conversations as token ids: those of transformers' own rendering, and loss on the assistant's turns alone."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from limpet.errors import UsageError
from limpet.training.batching.examples import Conversation, Turn
from limpet.training.generation.learned_turns import Lesson, lesson, unlearned_answers
from limpet.training.generation.prompts import Endings, PromptForm, encode_prompts, shorten

ROWS: list[tuple[list[tuple[str, str]], str]] = [
    ([("user", "How many boats?")], "Two."),
    (
        [("system", "You count."), ("user", "How many?"), ("assistant", "Two boats.\n\nNo more."), ("user", "And?")],
        "3.",
    ),
    ([("user", "a"), ("assistant", "é 🎉"), ("user", "b"), ("assistant", "  c "), ("user", "d")], "e\nf"),
]
# as SmolLM2 and Qwen2.5 have it: a system message of its own; {% generation %} marks what TRL learns
CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou help."
    "<|im_end|>\n{% endif %}{% if message['role'] == 'assistant' %}<|im_start|>assistant\n{% generation %}"
    "{{ message['content'] }}<|im_end|>{% endgeneration %}\n{% else %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# as Llama 2 and Mistral have it: the answer stands behind a blank, and ends with the end of a text
INSTRUCT = (
    "{% for message in messages %}{% if message['role'] == 'user' %}[INST] {{ message['content'] }} [/INST]"
    "{% elif message['role'] == 'assistant' %}{% generation %} {{ message['content'] }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ raise_exception('no system message') }}{% endif %}{% endfor %}"
)
# as Qwen3 has it: thoughts of earlier answers are left out
THINKING = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] if loop.last else message['content'].split('</think>')[-1] }}<|im_end|>"
    "{% endgeneration %}{% else %}{{ message['content'] }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# as DeepSeek's R1 has it: it asks for thoughts, and writes an answer without
ASKS_FOR_THOUGHTS = (
    "{% for message in messages %}{% if message['role'] == 'user' %}U: {{ message['content'] }}\n{% else %}"
    "A: {{ message['content'] }}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}A: <think>{% "
    "endif %}"
)


def of_bytes(*, trim_offsets: bool) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes, as SmolLM2, Llama 3 and Qwen have it; where offsets are trimmed, they leave "
    "blanks out."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    signs = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={sign: at for at, sign in enumerate(signs)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    made.add_special_tokens([AddedToken("<|im_start|>", special=True), AddedToken("<|im_end|>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|im_end|>")


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return of_bytes(trim_offsets=False)


def ends(tokenizer: Any) -> Endings:
    return Endings(tokenizer.eos_token_id, frozenset({tokenizer.eos_token_id}))


def learn(tokenizer: Any, turns: list[tuple[str, str]], answer: str, form: PromptForm | None = None) -> Lesson:
    conversation = Conversation(tuple(Turn(*turn) for turn in turns))
    return lesson(tokenizer, form or PromptForm(), conversation, answer=answer, ends=ends(tokenizer))


def theirs(tokenizer: Any, turns: list[tuple[str, str]], answer: str) -> tuple[list[int], list[int]]:
    """What transformers gives: token ids, and the places that its mask of the assistant's tokens has."""
    messages = [{"role": role, "content": content} for role, content in (*turns, ("assistant", answer))]
    given = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    return given["input_ids"], [at for at, learned in enumerate(given["assistant_masks"]) if learned]


@pytest.mark.parametrize("template", [CHATML, INSTRUCT, THINKING])
def test_a_conversation_is_what_transformers_makes_of_it_and_its_mask_of_answers_is_learned(
    tokenizer: Any, template: str
) -> None:
    tokenizer.chat_template = template
    for turns, answer in ROWS:
        if template == INSTRUCT and turns[0][0] == "system":
            continue
        ours = learn(tokenizer, turns, answer)
        ids, learned = theirs(tokenizer, turns, answer)
        # what a template writes behind the last end is read by nobody
        assert ours.ids == ids[: len(ours.ids)] and ours.ids[-1] == tokenizer.eos_token_id
        assert ours.learned == learned
        # transformers' mask has holes where an answer begins with a blank that offsets leave out
        trimmed = of_bytes(trim_offsets=True)
        trimmed.chat_template = template
        assert learn(trimmed, turns, answer) == ours
        conversation = Conversation(tuple(Turn(*turn) for turn in turns))
        [prompt] = encode_prompts(tokenizer, PromptForm(), [conversation], max_length=9999)
        assert ours.ids[: ours.prompt] == prompt
        assert tokenizer.decode([ours.ids[at] for at in ours.last_answer]).strip() == f"{answer}<|im_end|>"


def test_thoughts_that_a_template_leaves_out_of_earlier_answers_are_not_learned(tokenizer: Any) -> None:
    tokenizer.chat_template = THINKING
    turns = [("user", "a"), ("assistant", "<think>hm</think>b"), ("user", "c")]
    ours = learn(tokenizer, turns, "<think>so</think>d")
    assert tokenizer.decode([ours.ids[at] for at in ours.learned]) == "b<|im_end|><think>so</think>d<|im_end|>"


def test_an_answer_that_is_asked_for_otherwise_than_it_is_written_is_learned_where_it_is_generated(
    tokenizer: Any,
) -> None:
    form = PromptForm(chat_template=ASKS_FOR_THOUGHTS)
    turns = [("user", "a"), ("assistant", "b"), ("user", "c")]
    ours = learn(tokenizer, turns, "so</think>d", form)
    assert tokenizer.decode(ours.ids) == "U: a\nA: b<|im_end|>\nU: c\nA: <think>so</think>d<|im_end|>"
    assert tokenizer.decode([ours.ids[at] for at in ours.learned]) == "so</think>d<|im_end|>"
    conversation = Conversation(tuple(Turn(*turn) for turn in turns))
    assert unlearned_answers(tokenizer, form, conversation, answer="d", ends=ends(tokenizer)) == 1


def test_without_a_template_turns_stand_behind_blank_lines(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    ours = learn(tokenizer, [("user", "a"), ("assistant", "b"), ("user", "c")], "d", PromptForm(system="s"))
    assert tokenizer.decode(ours.ids) == "s\n\na\n\nb<|im_end|>c\n\nd<|im_end|>"
    assert tokenizer.decode([ours.ids[at] for at in ours.learned]) == "b<|im_end|>d<|im_end|>"


def test_a_system_message_stands_where_there_is_none(tokenizer: Any) -> None:
    tokenizer.chat_template = CHATML
    form = PromptForm(system="You sail.")
    [plain, own] = encode_prompts(
        tokenizer, form, ["a", Conversation((Turn("system", "x"), Turn("user", "a")))], max_length=999
    )
    assert "system\nYou sail.<" in tokenizer.decode(plain)
    assert "You sail." not in tokenizer.decode(own)
    assert "system\nx<" in tokenizer.decode(own)


def test_the_oldest_turns_go_first_and_the_system_message_stays(tokenizer: Any) -> None:
    form = PromptForm(chat_template=CHATML)
    turns = [
        ("system", "s"),
        ("user", "a" * 30),
        ("assistant", "b" * 30),
        ("user", "c" * 9),
        ("assistant", "d"),
        ("user", "e"),
    ]
    conversation = Conversation(tuple(Turn(*turn) for turn in turns))
    [whole] = encode_prompts(tokenizer, form, [conversation], max_length=9999)
    kept, ids = shorten(tokenizer, form, conversation, max_length=len(whole) - 1)
    assert kept == Conversation((Turn("system", "s"), *(Turn(*turn) for turn in turns[3:])))
    alone, ids = shorten(tokenizer, form, conversation, max_length=len(ids) - 1)
    assert alone == Conversation((Turn("system", "s"), Turn("user", "e")))
    long = Conversation((Turn("system", "s"), Turn("user", "abcdef")))
    [whole] = encode_prompts(tokenizer, form, [long], max_length=9999)
    assert shorten(tokenizer, form, long, max_length=len(whole) - 2)[0].turns[-1].content == "abcd"
    with pytest.raises(UsageError, match="template alone has"):
        shorten(tokenizer, form, long, max_length=10)
