"""Forms of instruction data: each is found by itself, and whatever a conversation of texts can't hold is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from limpet.errors import DataError, LimpetError, UsageError
from limpet.training.batching.examples import Conversation, Turn
from limpet.training.data.reading.chat_forms import ChatRequest, DataFormat
from limpet.training.data.reading.memory import rows_of
from limpet.training.data.reading.sources import Source, SourceForm, read_source
from limpet.training.task_types import task_type

GENERATION = task_type("generation")
SYSTEM = {"role": "system", "content": "You count boats."}
USER = {"role": "user", "content": "How many?"}
ANSWER = {"role": "assistant", "content": "Two."}
MORE = {"role": "user", "content": "And now?"}
LAST = {"role": "assistant", "content": "Three."}


def source_of(data: object, request: ChatRequest | None = None, text: str | None = None) -> Source:
    given = f"jsonl:{data}" if isinstance(data, Path) else rows_of(data)
    form = SourceForm(GENERATION.noun, GENERATION.text_columns, request or ChatRequest())
    return read_source(given, text, None, target_columns=GENERATION.target_columns, form=form)


def pairs(source: Source) -> list[tuple[Any, Any]]:
    pool = source.pools["train"]
    return list(zip(pool.texts, pool.targets, strict=True))


def test_every_form_is_found_by_itself_and_asks_the_same() -> None:
    asked = Conversation((Turn("user", "How many?"), Turn("assistant", "Two."), Turn("user", "And now?")))
    sharegpt = [
        {"from": "human", "value": "How many?"},
        {"from": "gpt", "value": "Two."},
        {"from": "human", "value": "And now?"},
        {"from": "gpt", "value": "Three."},
    ]
    forms: list[tuple[DataFormat, dict[str, Any]]] = [
        ("messages", {"messages": [USER, ANSWER, MORE, LAST]}),
        ("sharegpt", {"conversations": sharegpt}),
        ("sharegpt", {"messages": sharegpt}),
        ("prompt-completion", {"prompt": [USER, ANSWER, MORE], "completion": [LAST]}),
        ("messages", {"messages": [USER, ANSWER, MORE, LAST], "source": "a", "output": None}),
    ]
    for name, row in forms:
        for request in (ChatRequest(), ChatRequest(name)):
            source = source_of([row], request)
            assert (source.format, pairs(source)) == (name, [(asked, "Three.")])


def test_texts_stay_what_they_were_in_every_form() -> None:
    for name, row, text in (
        ("prompt-completion", {"prompt": "How many?", "completion": "Two."}, "How many?"),
        ("alpaca", {"instruction": "Count.", "input": "a boat", "output": "Two."}, "Count.\na boat"),
        ("alpaca", {"instruction": "Count.", "input": "", "output": "Two."}, "Count."),
        ("alpaca", {"instruction": "Count.", "output": "Two."}, "Count."),
        ("columns", {"question": "How many?", "answer": "Two."}, "How many?"),
    ):
        source = source_of([row])
        assert (source.format, pairs(source)) == (name, [(text, "Two.")])
    row = {"question": "How many?", "answer": "Two.", "instruction": "Count.", "output": "One."}
    assert pairs(source_of([row], ChatRequest("alpaca"))) == [("Count.", "One.")]
    with pytest.raises(UsageError, match="--format alpaca has a column 'output', and the data have 'prompt'"):
        source_of([{"prompt": "a", "instruction": "b"}], ChatRequest("alpaca"))


def test_what_stands_beside_alpacas_columns_is_said() -> None:
    row = {"instruction": "Count.", "output": "Two.", "history": [["a", "b"]], "system": ""}
    assert source_of([row]).notes == (
        "the column 'history' is not read, which 1 rows fill: write them as messages to learn it",
    )


def test_a_column_of_any_name_is_read_where_it_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"dialog": [USER, ANSWER]}) + "\n")
    assert source_of(file, text="dialog").format == "messages"
    with pytest.raises(UsageError, match="has the answers in its turns"):
        read_source(
            f"jsonl:{file}", "dialog", "answer", target_columns=(), form=SourceForm(chats=ChatRequest("messages"))
        )


def test_a_system_message_that_all_share_is_the_tasks() -> None:
    shared = source_of([{"messages": [SYSTEM, USER, ANSWER]}, {"messages": [SYSTEM, MORE, LAST]}])
    assert shared.system == "You count boats."
    assert pairs(shared)[0] == (Conversation((Turn("user", "How many?"),)), "Two.")
    apart = source_of([{"messages": [SYSTEM, USER, ANSWER]}, {"messages": [MORE, LAST]}])
    assert apart.system is None
    assert pairs(apart)[0][0].system == "You count boats."
    beside = source_of([{"system": "You count boats.", "conversations": [USER, ANSWER]}])
    assert (beside.system, pairs(beside)[0][0].turns) == ("You count boats.", (Turn("user", "How many?"),))


def test_what_has_a_system_message_keeps_it_beside_another_for_all() -> None:
    rows = [{"messages": [SYSTEM, USER, ANSWER]}, {"messages": [MORE, LAST]}]
    source = source_of(rows, ChatRequest(system="You sail."))
    assert source.system == "You sail."
    assert [text.system for text, _ in pairs(source)] == ["You count boats.", None]
    assert source.notes == (
        "1 of 2 conversations have another system message of their own, and keep it: the task's stands where there "
        "is none",
    )


def test_what_nobody_answers_and_what_is_not_read_is_said() -> None:
    source = source_of(
        [{"messages": [USER, ANSWER, {**MORE, "weight": 0}]}, {"messages": [USER, {**LAST, "name": "a"}]}]
    )
    assert pairs(source)[0] == (Conversation((Turn("user", "How many?"),)), "Two.")
    assert source.notes == (
        "1 of 2 conversations end with turns that nobody answers, which are left away",
        "what turns say under 'name', 'weight' is not read",
    )


def test_parts_of_text_are_put_together() -> None:
    content = [{"type": "text", "text": "How"}, {"type": "text", "text": "many?"}]
    [(text, _)] = pairs(source_of([{"messages": [{"role": "user", "content": content}, ANSWER]}]))
    assert text.turns == (Turn("user", "How\nmany?"),)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no role": ({"messages": [{"content": "How?"}, ANSWER]}, "column 'messages' has no 'role' in turn 1"),
    "an unknown role": (
        {"messages": [{"role": "bot", "content": "How?"}, ANSWER]},
        "has the unknown role 'bot' in turn 1",
    ),
    "two systems": ({"messages": [SYSTEM, SYSTEM, USER, ANSWER]}, r"has 2 system messages \(turns 1, 2\)"),
    "system not first": ({"messages": [USER, SYSTEM, ANSWER]}, "has its system message as turn 2"),
    "an empty answer": (
        {"messages": [USER, {"role": "assistant", "content": " "}]},
        r"has an empty answer of the assistant \(turn 2\)",
    ),
    "an empty question": ({"messages": [{"role": "user", "content": ""}, ANSWER]}, "has an empty turn of the user"),
    "no answer": ({"messages": [SYSTEM, USER]}, "has no turn of the assistant"),
    "nobody asks": ({"messages": [SYSTEM, ANSWER]}, "has no user's turn before the last answer"),
    "two answers": ({"messages": [USER, ANSWER, LAST]}, "has two turns of the assistant behind each other"),
    "content null": ({"messages": [{"role": "user", "content": None}, ANSWER]}, "has no 'content' in turn 1"),
    "content a number": ({"messages": [{"role": "user", "content": 3}, ANSWER]}, "holds int as 'content' of turn 1"),
    "an empty list": ({"messages": []}, "holds an empty list, not a list of turns"),
    "a text": ({"messages": "How many?"}, "holds str, not a list of turns"),
    "a turn that is none": ({"messages": [USER, "Two."]}, "holds str as turn 2"),
    "a tool call": (
        {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}]}, LAST]},
        r"has tool calls \('tool_calls'\) in turn 2",
    ),
    "a tool's turn": (
        {"messages": [USER, {"role": "tool", "content": "2"}, ANSWER]},
        r"has a turn of a tool \(role 'tool', turn 2\)",
    ),
    "a tool of ShareGPT": (
        {"messages": [USER, {"role": "observation", "content": "2"}, ANSWER]},
        r"has a turn of a tool \(role 'observation', turn 2\)",
    ),
    "tools beside": (
        {"messages": [USER, ANSWER], "tools": [{"name": "f"}]},
        r"has tools beside it \(column 'tools'\)",
    ),
    "images beside": ({"messages": [USER, ANSWER], "images": ["a.png"]}, "only texts are learned"),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "a"}]}, ANSWER]},
        r"has an image in turn 1 \(a part of the type 'image_url'\)",
    ),
    "two forms in a list": (
        {"messages": [USER, {"from": "gpt", "value": "Two."}]},
        "mixes two forms: turn 2 has 'from' and 'value', others 'role' and 'content'",
    ),
    "two forms in a file": ({"prompt": "How?", "completion": "Two."}, "but 'prompt', 'completion': the data mix two"),
    "a system twice": (
        {"messages": [SYSTEM, USER, ANSWER], "system": "You sail."},
        "and the column 'system' another",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_refused_with_its_row_and_what_to_do(wrong: str) -> None:
    row, message = WRONG[wrong]
    with pytest.raises(DataError, match=f"^the data, row 2.*{message}") as refusal:
        source_of([{"messages": [USER, ANSWER]}, row])
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": [USER], "completion": "Two."}, "'prompt' holds lists of messages and 'completion' does not"),
        ({"prompt": [USER, ANSWER], "completion": [LAST]}, "ends with a turn of the assistant"),
        ({"prompt": [USER], "completion": [ANSWER, MORE, LAST]}, "a completion is one turn of the assistant"),
        ({"messages": [{"speaker": "a", "says": "b"}]}, "have 'speaker', 'says', and neither 'role' and 'content'"),
        ({"text": "a", "headline": "b", "messages": "c"}, ""),
    ],
)
def test_other_lists_are_refused(row: dict[str, Any], message: str) -> None:
    if not message:
        assert source_of([row]).format == "columns"
        return
    with pytest.raises(LimpetError, match=message):
        source_of([row])


def test_another_format_than_the_one_that_was_said_is_named() -> None:
    with pytest.raises(DataError, match="are of the format messages") as refusal:
        source_of([{"conversations": [USER, ANSWER]}], ChatRequest("sharegpt"))
    assert refusal.value.hint == "--format messages"
    with pytest.raises(DataError, match="have no column with a list of turns"):
        source_of([{"prompt": "How?", "completion": "Two."}], ChatRequest("messages"))


def test_parquet_and_datasets_are_read_alike(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows = [{"messages": [SYSTEM, USER, ANSWER, MORE, LAST]}, {"messages": [SYSTEM, USER, LAST]}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    form = SourceForm(GENERATION.noun, GENERATION.text_columns, ChatRequest())
    source = read_source(f"parquet:{tmp_path / 'rows.parquet'}", None, None, target_columns=(), form=form)
    assert pairs(source) == pairs(source_of(rows))
    assert source.system == "You count boats."
