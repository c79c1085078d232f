"""The forms of the documents that a bundle brings: which fields there are, and what each may hold."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields

from limpet.errors import UsageError
from limpet.names import check_name
from limpet.registry.values import Environment
from limpet.registry.versions.costs import COSTS, LATENCY

__all__ = [
    "BASE",
    "BASE_HELD",
    "DEFINITION",
    "MANIFEST",
    "MANIFEST_SINCE_0004",
    "SPLIT",
    "TASK",
    "TASK_REVISED",
    "Check",
    "wrong_fields",
]

Check = tuple[Callable[[object], bool], str]
"""A test of a field's value, and how to say what it wants."""

_LARGEST = 2**63 - 1
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_WORD = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# a method of peft that has no other name here is peft:NAME
_METHOD = re.compile(r"(peft:)?[a-z0-9][a-z0-9._-]{0,63}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PARENT = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}@[1-9][0-9]{0,8}")
# it stands in a hint that people type, so it has nothing that a shell would act on
_BASE_NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/:@-]{0,199}")


def _matches(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _whole(least: int = 0, most: int = _LARGEST) -> Callable[[object], bool]:
    # a bool is an int to Python
    return lambda value: type(value) is int and least <= value <= most


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _is_name(value: object) -> bool:
    try:
        return isinstance(value, str) and check_name("task", value) == value
    except UsageError:
        return False


def _are_labels(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value)) and len(set(value)) == len(value)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _is_environment(value: object) -> bool:
    kinds = {field.name: int if field.name == "threads" else str for field in fields(Environment)}
    # what was recorded before there were others does not say which activations there were
    return isinstance(value, dict) and {"activations": str} | {k: type(part) for k, part in value.items()} == kinds


def _is_config(value: object) -> bool:
    return isinstance(value, dict) and _whole(1, 2**31)(value.get("max_length"))


def _are_metrics(value: object) -> bool:
    return isinstance(value, dict) and (value.get("score") is None or _is_number(value["score"]))


def _is_cost(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    latency = value.get("latency")
    if not isinstance(latency, dict | None):
        return False
    apart = ("trainable_parameters", "latency", "base_unchanged")
    numbers = [value.get(name) for name in COSTS if name not in apart]
    numbers += [(latency or {}).get(name) for name in LATENCY if name != "device"]
    return (
        _or_null(_whole())(value.get("trainable_parameters"))
        and all(map(_or_null(_is_number), numbers))
        and isinstance(value.get("base_unchanged"), bool | None)
        and isinstance((latency or {}).get("device"), str | None)
    )


def _are_options(value: object) -> bool:
    checks: dict[str, Callable[[object], bool]] = {
        "prompt": lambda part: isinstance(part, str) and part.count("{text}") == 1,
        "max_new_tokens": _whole(1, 2**20),
        "system": lambda part: isinstance(part, str),
        "chat_template": lambda part: isinstance(part, str) and 0 < len(part) <= 2**17,
    }
    return isinstance(value, dict) and all(name in checks and checks[name](part) for name, part in value.items())


def _are_files(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(file, dict)
        and set(file) == {"name", "digest", "size"}
        and _matches(_FILE)(file["name"])
        and _matches(_DIGEST)(file["digest"])
        and _whole()(file["size"])
        for file in value
    )


def _are_counts(value: object) -> bool:
    return isinstance(value, dict) and all(map(_whole(), value.values()))


def _are_inputs(value: object) -> bool:
    return isinstance(value, dict) and all(_or_null(_matches(_DIGEST))(part) for part in value.values())


def _or_null(test: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or test(value)


_NAME_FIELD: Check = (_is_name, "a name")
_DIGEST_FIELD: Check = (_matches(_DIGEST), "a digest")
_TIME_FIELD: Check = (_matches(_TIME), "a time in UTC")
_TEXT_FIELD: Check = (_is_text, "a text")
_TABLE_FIELD: Check = (_is_table, "a table")
_COUNT_FIELD: Check = (_whole(), "a count")
_LABELS_FIELD: Check = (_are_labels, "a list of labels, each once")

MANIFEST: dict[str, Check] = {
    "task": _NAME_FIELD,
    "method": (_matches(_METHOD), "a method's name"),
    "config": (_is_config, "a table, its max_length a count of tokens"),
    "base_digest": _DIGEST_FIELD,
    "data_digest": _DIGEST_FIELD,
    "labels": _LABELS_FIELD,
    "seed": (_whole(-_LARGEST), "a whole number"),
    "environment": (_is_environment, "an environment"),
    "metrics": (_are_metrics, "a table, its score a number or null"),
    "cost": (_is_cost, "a table of numbers"),
    "parent": (_or_null(_matches(_PARENT)), "a version or null"),
    "role": (lambda value: value in ("adapter", "baseline"), "adapter or baseline"),
    "lineage": _TABLE_FIELD,
    "digest": _DIGEST_FIELD,
    "created_at": _TIME_FIELD,
    "files": (_are_files, "a list of name, digest and size"),
}
MANIFEST_SINCE_0004: dict[str, Check] = {"inputs": (_are_inputs, "a table of digests")}
"""Fields of a manifest that versions of older homes have not."""
TASK: dict[str, Check] = {
    "definition": _TABLE_FIELD,
    "labels": _LABELS_FIELD,
    "splits": (lambda value: isinstance(value, list), "a list"),
    "data_digest": _DIGEST_FIELD,
    "checks": _TABLE_FIELD,
    "created_at": _TIME_FIELD,
}
TASK_REVISED: dict[str, Check] = {
    # an evaluation's split has sixteen signs, which is evaluation-r and four digits
    "revision": (_whole(2, 9999), "the number of a revision after the first"),
    "previous": _DIGEST_FIELD,
}
"""Fields of a task that is not in its first revision."""
DEFINITION: dict[str, Check] = {
    "name": _NAME_FIELD,
    "type": (_matches(_WORD), "a type of task"),
    "data": _TEXT_FIELD,
    "text_column": _TEXT_FIELD,
    "target_column": _TEXT_FIELD,
    "metric": (_matches(_WORD), "a metric's name"),
    "train_size": (_or_null(_whole(1)), "a count or null"),
    "eval_size": (_or_null(_whole(1)), "a count or null"),
    "split_seed": _COUNT_FIELD,
    "max_length": (_whole(1, 2**31), "a count of tokens"),
    "options": (
        _are_options,
        "a prompt with {text} in it once, a count of tokens, a system message, a chat template",
    ),
}
SPLIT: dict[str, Check] = {
    "name": (_is_text, "a text"),
    "digest": _DIGEST_FIELD,
    "examples": _COUNT_FIELD,
    "label_counts": (_are_counts, "a table of counts"),
}
BASE: dict[str, Check] = {
    "schema": (_whole(1, 1), "1"),
    "name": (_matches(_BASE_NAME), "a base's name"),
    "kind": (lambda value: value in ("sample", "hub", "folder", "gguf"), "a kind of base"),
    "revision": (_or_null(_matches(_BASE_NAME)), "a revision or null"),
    **dict.fromkeys(("digest", "weights_digest", "config_digest", "tokenizer_digest"), _DIGEST_FIELD),
    **dict.fromkeys(("architecture", "family"), _TEXT_FIELD),
    **dict.fromkeys(("hidden_size", "parameters", "size"), _COUNT_FIELD),
}


BASE_HELD: dict[str, Check] = {
    "held": (lambda value: value in ("nf4", "int8", "float32", "bfloat16", "float16"), "a way to hold a base"),
}
"""What the document of a base has that is held otherwise than its files are."""


def wrong_fields(
    content: object, wanted: Mapping[str, Check], optional: Mapping[str, Check] | None = None
) -> Iterator[str]:
    """Yield what is wrong with a document: a field that is missing, unknown, or holds something else.

    Args:
        content: The document, as JSON.
        wanted: Each field's check.
        optional: The checks of fields that documents of older homes have not.
    """
    if not isinstance(content, dict):
        yield "it is not a table"
        return
    yield from (f"{name} is missing" for name in sorted(wanted.keys() - content.keys()))
    checks = {**wanted, **(optional or {})}
    yield from (f"{name[:60]!r} is unknown" for name in sorted(content.keys() - checks.keys()))
    for name in sorted(checks.keys() & content.keys()):
        test, kind = checks[name]
        if not test(content[name]):
            yield f"{name} is not {kind}"
