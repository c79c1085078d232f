"""Tasks of conversations: learned in every answer of the assistant, written after the last question, kept whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from limpet.cli import cli
from limpet.errors import ConflictError, DataError, UsageError
from limpet.home import Home, init
from limpet.training.batching.examples import Conversation, Example, Turn
from limpet.training.learning.settings import TrainingSettings
from tests.migrated import with_database
from tests.tiny import TOPICS, tiny_base

# in words that the tiny tokenizer has
CHAT = (
    "{% for message in messages %}{% if message['role'] == 'system' %}[CLS] {{ message['content'] }} {% elif "
    "message['role'] == 'user' %}[MASK] {{ message['content'] }} {% else %}{{ message['content'] }} [SEP] {% endif %}"
    "{% endfor %}"
)
SYSTEM = "the old sea"


def rows(count: int = 40) -> list[dict[str, Any]]:
    """Two questions each; the answers are words of the topic that is asked about."""
    found = []
    for index in range(count):
        words = list(TOPICS.values())[index % 3]
        turns = [("system", SYSTEM)]
        for step in (0, 1):
            question = " ".join(words[(index + step + at) % 6] for at in range(3 + index % 3))
            turns += [
                ("user", f"{question} {('old', 'new', 'far')[(index + step) % 3]} {index}"),
                ("assistant", words[step]),
            ]
        found.append({"messages": [{"role": role, "content": content} for role, content in turns]})
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("conversations")
    base = tiny_base(folder / "base", "llama")
    config = base / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token": "[SEP]"}))
    made = init(with_database(folder / "home"), base=str(base), mlflow="off")
    # the base is known, and its tokenizer with it
    made.backbone()
    (folder / "chat.jinja").write_text(CHAT)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    result = typed(
        made,
        "task",
        "add",
        "sea",
        "--data",
        str(folder / "rows.jsonl"),
        "--type",
        "generation",
        "--chat-template",
        str(folder / "chat.jinja"),
        "--max-new-tokens",
        "4",
    )
    assert result.exit_code == 0, result.stderr
    made.train("sea", TrainingSettings("lora", epochs=2, batch_size=8, dtype="float32"))
    return made


def typed(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["--home", str(home.store.path), *arguments])


def test_the_form_the_system_message_and_the_template_are_shown_and_recorded(home: Home) -> None:
    record = home.task.show("sea")
    assert record.definition.options == {
        "prompt": "{text}",
        "max_new_tokens": 4,
        "system": SYSTEM,
        "chat_template": CHAT,
    }
    assert record.checks["format"] == "messages"
    shown = json.loads(typed(home, "--json", "task", "show", "sea").stdout)
    assert (shown["checks"]["format"], shown["options"]["system"]) == ("messages", SYSTEM)
    told = typed(home, "task", "show", "sea").stdout
    assert "format" in told and "system" in told and "sha256:" in told
    assert "[MASK]" not in told


def test_a_step_has_its_loss_on_the_assistants_turns_and_on_nothing_else(home: Home) -> None:
    from limpet.training.model.head_files import build_head
    from limpet.training.model.task_model import TaskModel

    backbone = home.backbone()
    head = build_head(home.task.show("sea"), backbone.record, [])
    head.bind_base(backbone)
    model = TaskModel(backbone.model, head, frozenset())
    asked = Conversation((Turn("user", "wave tide"), Turn("assistant", "old reef"), Turn("user", "moon")))
    encoded = head.encode(backbone.tokenizer, [Example(asked, "new star")], 64, learning=True)
    words = backbone.tokenizer.convert_ids_to_tokens(encoded.ids[0])
    assert " ".join(words) == "[CLS] the old [UNK] [MASK] wave tide old reef [SEP] [MASK] moon new star [SEP]"
    batch = encoded.batch([0])
    targets = batch.pop("targets")
    assert backbone.tokenizer.decode(targets[0]) == "old reef [SEP] new star [SEP]"
    with torch.no_grad():
        hidden = backbone.model(torch.tensor(encoded.ids)).last_hidden_state[0]
        logits = backbone.language_head()(hidden, backbone.model.get_input_embeddings().weight).log_softmax(-1)
        places = [7, 8, 9, 12, 13, 14]
        wanted = -sum(float(logits[at - 1, encoded.ids[0][at]]) for at in places) / len(places)
        assert float(head.loss(model(**batch), targets)) == pytest.approx(wanted, abs=1e-5)
    # what is evaluated is the last answer alone
    [prompt] = head.encode(backbone.tokenizer, [Example(asked, "new star")], 64, learning=False).ids
    assert prompt == encoded.ids[0][:12]


def test_a_text_is_what_the_user_says_and_a_conversation_is_asked_as_one(home: Home, tmp_path: Path) -> None:
    question = rows(50)[45]["messages"][1:]
    [plain, asked] = home.predict("sea", [question[0]["content"], question[:1]])
    assert (plain.text, plain.answer) == (asked.text, asked.answer)
    file = tmp_path / "more.jsonl"
    # an answer that is there is the one that is asked for
    file.write_text("".join(json.dumps({"messages": question[:end]}) + "\n" for end in (1, 2, 3, 4)))
    result = typed(home, "predict", "sea", "--file", str(file))
    assert result.exit_code == 0, result.stderr
    answers = [json.loads(line)["prediction"] for line in result.stdout.splitlines()]
    assert answers[0] == answers[1] == plain.answer
    assert answers[2] == answers[3] == home.predict("sea", [question[:3]])[0].answer


def test_rows_come_out_as_they_go_in(home: Home) -> None:
    [row] = json.loads(typed(home, "--json", "task", "rows", "sea@1", "--limit", "1").stdout)["rows"]
    assert [turn["role"] for turn in row["messages"]] == ["user", "assistant", "user", "assistant"]
    again = [
        {"messages": [{"role": "system", "content": SYSTEM}, *one.content()["messages"]]}
        for split in ("train", "validation", "evaluation")
        for one in home.task.rows("sea@1", split)
    ]
    assert sorted(map(json.dumps, again)) == sorted(map(json.dumps, rows()))
    examples = typed(home, "task", "show", "sea", "--examples")
    assert examples.exit_code == 0 and "user:" in examples.stdout


def test_a_revision_knows_the_rows_again_and_keeps_the_form(home: Home) -> None:
    corrected = rows()[0]
    corrected["messages"][-1]["content"] = "iron"
    home.task.add("rock", rows(), type="generation", chat_template=CHAT, max_new_tokens=4)
    new = rows(46)[45]
    sharegpt = {
        "conversations": [
            {"from": {"user": "human", "assistant": "gpt"}.get(turn["role"], "system"), "value": turn["content"]}
            for turn in new["messages"]
        ]
    }
    revised = home.task.revise("rock", [corrected])
    assert revised.checks["revision"]["corrected"] and revised.revision == 2
    assert home.task.revise("rock", [sharegpt], eval_size=0).revision == 3
    with pytest.raises(DataError, match="are conversations, and these are texts"):
        home.task.revise("rock", [{"text": "wave", "target": "tide"}])


def test_a_bundle_carries_the_template_and_verifies(home: Home, tmp_path: Path) -> None:
    home.adapter.export("sea@1", tmp_path / "sea.limpet")
    elsewhere = init(with_database(tmp_path / "elsewhere"), base=str(home.store.settings.base), mlflow="off")
    elsewhere.adapter.import_bundle(tmp_path / "sea.limpet")
    assert elsewhere.task.show("sea").definition.options["chat_template"] == CHAT
    assert not elsewhere.verify(deep=True).problems


def test_what_makes_no_sense_is_refused_before_anything_is_kept(home: Home, tmp_path: Path) -> None:
    def refused(message: str, **options: Any) -> str:
        with pytest.raises((UsageError, DataError), match=message) as refusal:
            home.task.add("wrong", rows(), **{"type": "generation", "chat_template": CHAT, **options})
        return refusal.value.hint

    refused("--format is 'chat', and it is one of", format="chat")
    refused("are read from columns, and have no --format", type="classification", format="messages")
    refused("have no --prompt", prompt="Answer: {text}")
    refused("The chat template can't be rendered", chat_template="{% if")
    refused("leaves out what a user asks", chat_template="hello")
    two = CHAT + "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system message') }}{% endif %}"
    assert "--chat-template FILE" in refused(
        "the data, row 1: the task's chat template can't be rendered: no system", chat_template=two
    )
    result = typed(
        home, "task", "add", "wrong", "--data", "x.jsonl", "--type", "generation", "--chat-template", "none"
    )
    assert result.exit_code == 3 and "There is no file 'none'" in result.stderr
    with pytest.raises(ConflictError):
        home.task.add("sea", rows(), type="generation", chat_template=CHAT, system="another")


def test_a_base_without_a_template_says_how_turns_follow(home: Home) -> None:
    record = home.task.add("plain", rows(), type="generation", max_new_tokens=4)
    assert any(
        "the base has no chat template: turns follow each other after a blank line" in note
        for note in record.checks["notes"]
    )
    texts = home.task.add(
        "texts", [{"prompt": f"wave {at}", "completion": "tide"} for at in range(20)], type="generation"
    )
    # what a task of texts has not is not written into it
    assert texts.definition.options == {"prompt": "{text}", "max_new_tokens": 32}
    assert texts.checks["format"] == "prompt-completion"
