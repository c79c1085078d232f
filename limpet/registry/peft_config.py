"""What an `adapter_config.json` must not say, whoever wrote it.

peft acts on some of its fields: it imports modules that they name, changes the base's weights or layers before it
adds the adapter, and matches module names by patterns that they hold. None of it is needed to load trained tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["problems"]

_KIND = re.compile(r"[A-Z0-9_]{1,64}")
# peft imports the module that one of their neighbours names
_IMPORTS = ("auto_mapping", "megatron_config")
# peft rewrites the base's layers or weights before it adds the adapter, and does not put them back
_REWRITES = ("layer_replication", "corda_config", "eva_config", "lora_ga_config", "arrow_config")
_PLAIN_STARTS = (None, True, False, "gaussian", "orthogonal", "eva")
_PATTERNS = ("target_modules", "exclude_modules", "layers_pattern")
_PATTERN_TABLES = ("rank_pattern", "alpha_pattern")
# a group that is repeated, or many open repetitions, can take for ever to match
_REPEATED_GROUP = re.compile(r"\)[*+{]")
_MOST_REPETITIONS = 4
_LONGEST_PATTERN = 1000


def problems(config: Any) -> tuple[str, ...]:
    """Return what is wrong with the content of an `adapter_config.json`, each as a sentence without a full stop."""
    if not isinstance(config, dict):
        return ("it is not a table",)
    return tuple(_problems(config))


def _problems(config: Mapping[str, Any]) -> Iterator[str]:
    kind = config.get("peft_type")
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        yield "peft_type names no kind of adapter"
    for name in _IMPORTS:
        if config.get(name) is not None:
            yield f"{name} makes peft import a module that the file names, and must be null"
    for name in _REWRITES:
        if config.get(name) is not None:
            yield f"{name} makes peft change the base itself, and must be null"
    start = config.get("init_lora_weights", True)
    if isinstance(start, list | dict) or start not in _PLAIN_STARTS:
        yield (
            f"init_lora_weights is {str(start)[:40]!r}, which makes peft change the base's weights; convert the "
            "adapter with save_pretrained(path_initial_model_for_weight_conversion=...)"
        )
    for name in _PATTERNS:
        value = config.get(name)
        for pattern in value if isinstance(value, list) else [value]:
            yield from _pattern_problems(name, pattern)
    for name in _PATTERN_TABLES:
        table = config.get(name)
        for pattern in table if isinstance(table, dict) else ():
            yield from _pattern_problems(name, pattern)


def _pattern_problems(name: str, pattern: Any) -> Iterator[str]:
    if pattern is None:
        return
    if not isinstance(pattern, str):
        yield f"{name} holds a {type(pattern).__name__}, not a text"
    elif len(pattern) > _LONGEST_PATTERN:
        yield f"{name} holds a pattern of {len(pattern)} characters, more than {_LONGEST_PATTERN}"
    elif _REPEATED_GROUP.search(pattern) or sum(map(pattern.count, "*+{")) > _MOST_REPETITIONS:
        yield f"{name} holds the pattern {pattern[:60]!r}, which could take for ever to match"
    else:
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            yield f"{name} holds {pattern[:60]!r}, which is no pattern ({error})"
