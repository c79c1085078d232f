"""How an adapter was trained to be asked and to end, as the tokenizer's files beside it say, held against its task.

A task asks in its own form, with the base's tokenizer. Where the adapter was trained otherwise it would answer worse,
and nothing else in its folder tells. What it was trained to end answers with is kept: that is the version's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.errors import IntegrityError
from limpet.first_few import first_few
from limpet.registry.formats.strict_json import read_json
from limpet.registry.values import TaskRecord
from limpet.training.base.backbone import Backbone
from limpet.training.generation.chat_templates import template_digest, template_of
from limpet.training.generation.prompts import PromptForm, endings

if TYPE_CHECKING:
    from limpet.registry.formats.json_values import JsonObject, JsonValue

__all__ = ["TOKENIZER_FILES", "Said", "differences", "own_ends"]

TOKENIZER_FILES = ("tokenizer_config.json", "chat_template.jinja", "added_tokens.json", "generation_config.json")
"""The files that are read; vocabularies are not."""
_CONFIG, _TEMPLATE, _ADDED, _GENERATION = TOKENIZER_FILES

Said = tuple[str, "JsonValue", str]
"""What is recorded of a difference, under which name, and what is said."""


def differences(folder: Path, copies: Path, backbone: Backbone, *, task: TaskRecord) -> Iterator[Said]:
    """Yield what of an adapter's training differs from how its task asks; nothing for a task that writes no text.

    Args:
        folder: Where the files came from, for what is said.
        copies: Where they are.
        backbone: The base.
        task: The task.
    """
    if task.definition.type != "generation":
        return
    config = _read(copies / _CONFIG)
    yield from _template_difference(folder, copies, config, backbone=backbone, task=task)
    words = backbone.tokenizer.get_vocab()
    end = _word(config.get("eos_token"))
    if end and end not in words:
        yield (
            "eos_token",
            end[:100],
            f"its tokenizer ends answers with {end[:40]!r}, a word that the base does not have: what was learned so "
            "goes on to the task's --max-new-tokens",
        )
    elif ends := own_ends(copies, backbone):
        said = " or ".join(repr(backbone.tokenizer.decode([token])) for token in ends)
        yield (
            "eos_token",
            end[:100],
            f"its answers end with {said[:200]}, as its files say, and not with the base's end",
        )
    added = [*_read(copies / _ADDED), *map(_word, _table(config, "added_tokens_decoder").values())]
    if unknown := sorted({word for word in added if word and word not in words}):
        yield (
            "added_words",
            [word[:100] for word in unknown[:20]],
            f"its tokenizer has words that the base's does not have, and no prompt here has them as one: "
            f"{first_few((repr(word[:40]) for word in unknown), 3)}",
        )


def own_ends(copies: Path, backbone: Backbone) -> tuple[int, ...]:
    """Return the tokens that an adapter was trained to end answers with, first its tokenizer's.

    Args:
        copies: Where its files are.
        backbone: The base.

    Returns:
        Nothing where they are all the base's.
    """
    vocabulary = backbone.tokenizer.get_vocab()
    end = vocabulary.get(_word(_read(copies / _CONFIG).get("eos_token")))
    named = _read(copies / _GENERATION).get("eos_token_id")
    tokens = [end, *(named if isinstance(named, list) else [named])]
    words = len(backbone.tokenizer)
    ends = tuple(dict.fromkeys(token for token in tokens if type(token) is int and 0 <= token < words))
    return () if set(ends) <= endings(backbone.tokenizer, backbone.model.config).known else ends


def _template_difference(
    folder: Path, copies: Path, config: JsonObject, *, backbone: Backbone, task: TaskRecord
) -> Iterator[Said]:
    template = _template(copies / _TEMPLATE, config)
    own = PromptForm.of(task.definition.options).chat_template
    if template is None or template.strip() == (own or template_of(backbone.tokenizer) or "").strip():
        return
    whose = "the task's" if own else "the base's" if template_of(backbone.tokenizer) else "none, as the base has none"
    file = folder / _TEMPLATE
    first = (
        "" if (copies / _TEMPLATE).is_file() else f"save the field chat_template of {folder / _CONFIG} as {file}, "
    )
    yield (
        "chat_template",
        template_digest(template),
        f"its folder has a chat template, and task {task.name!r} asks in another ({whose}): if the adapter was "
        f"trained with it, {first}add a task that asks so (limpet task add NAME --data SPEC --type generation "
        f"--chat-template {file}), and register it there",
    )


def _template(path: Path, config: Mapping[str, JsonValue]) -> str | None:
    if path.is_file():
        return path.read_text(encoding="utf-8", errors="replace")
    given = config.get("chat_template")
    if isinstance(given, list):
        # several, by name
        named = {one.get("name"): one.get("template") for one in given if isinstance(one, dict)}
        given = named.get("default")
    return given if isinstance(given, str) else None


def _read(path: Path) -> JsonObject:
    """Return a file's table; an empty one where there is none that can be read."""
    try:
        content = read_json(path.read_bytes(), str(path)) if path.is_file() else {}
    except IntegrityError:
        content = {}
    return content if isinstance(content, dict) else {}


def _table(config: Mapping[str, JsonValue], name: str) -> JsonObject:
    value = config.get(name)
    return value if isinstance(value, dict) else {}


def _word(value: JsonValue) -> str:
    """Return a token as either kind of file writes it: a text, or a table with its content."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else ""
