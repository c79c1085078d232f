"""Options of a task's type: part of what scores depend on, and nothing to tasks that have none."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from limpet.errors import ConflictError
from limpet.registry.exchange.document_schemas import DEFINITION, wrong_fields
from limpet.registry.formats.canonical import digest_json
from limpet.registry.records import tasks
from tests.registry.exchange.bundles import a_home
from tests.registry.homes import LABELS, SPLITS, a_definition, a_task

OPTIONS = {"prompt": "Write the headline of: {text}", "max_new_tokens": 32}


def test_a_task_without_options_is_kept_and_digested_as_before_there_were_any() -> None:
    definition = a_definition("news")
    before = {
        "type": "classification",
        "metric": "accuracy",
        "labels": list(LABELS),
        "splits": {split.name: split.digest for split in SPLITS},
    }
    assert tasks.data_digest(definition, LABELS, SPLITS) == digest_json(before)
    digests = {
        tasks.data_digest(replace(definition, options=options), LABELS, SPLITS)
        for options in ({}, OPTIONS, OPTIONS | {"max_new_tokens": 16})
    }
    assert len(digests) == 3


def test_options_come_back_and_another_prompt_is_another_task(tmp_path: Path) -> None:
    store = a_home(tmp_path / "home")
    plain = a_task(store, "plain")
    assert "options" not in tasks.content(plain)["definition"]
    assert tasks.add(store, plain) == plain
    definition = replace(a_definition("news"), options=OPTIONS)
    record = replace(plain, definition=definition, data_digest=tasks.data_digest(definition, LABELS, SPLITS))
    tasks.add(store, record)
    assert tasks.get(store, "news").definition.options == OPTIONS
    other = replace(definition, options=OPTIONS | {"prompt": "{text}"})
    with pytest.raises(ConflictError, match="differs in options"):
        tasks.add(store, replace(record, definition=other))


@pytest.mark.parametrize(
    ("options", "sound"),
    [
        ({}, True),
        (OPTIONS, True),
        ({"prompt": "no place"}, False),
        ({"prompt": "{text}{text}"}, False),
        ({"prompt": 1}, False),
        ({"max_new_tokens": 0}, False),
        ({"max_new_tokens": True}, False),
        ({"more": 1}, False),
        ([], False),
    ],
)
def test_a_bundle_brings_known_options_only(options: object, sound: bool) -> None:
    content = asdict(a_definition("news")) | {"options": options}
    assert (not list(wrong_fields(content, DEFINITION))) is sound
