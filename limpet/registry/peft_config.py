"""What an `adapter_config.json` must not say, whoever wrote it.

peft acts on some of its fields: it imports modules that they name, changes the base's weights or layers before it
adds the adapter, and matches module names by patterns that they hold. None of it is needed to load trained tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["oversized", "problems"]

_KIND = re.compile(r"[A-Z0-9_]{1,64}")
# peft imports the module that one of their neighbours names
_IMPORTS = ("auto_mapping", "megatron_config")
# peft rewrites the base's layers or weights before it adds the adapter, and does not put them back
_REWRITES = ("layer_replication", "corda_config", "eva_config", "lora_ga_config", "kasa_config")
# peft builds something else than a low-rank update beside a frozen weight
_VARIANTS = ("velora_config", "monteclora_config", "arrow_config", "use_bdlora", "alora_invocation_tokens")
_PLAIN_STARTS = (None, True, False, "gaussian", "orthogonal", "eva")
_PATTERNS = ("target_modules", "exclude_modules", "layers_pattern")
_PATTERN_TABLES = ("rank_pattern", "alpha_pattern")
# a group that is repeated, or many open repetitions, can take for ever to match
_REPEATED_GROUP = re.compile(r"\)[*+{]")
_MOST_REPETITIONS = 4
_LARGEST_OTHER_RANK = 1024
_LONGEST_PATTERN = 1000

Problem = tuple[str, str]


def problems(config: Any) -> tuple[Problem, ...]:
    """Return the fields of an `adapter_config.json` that peft must not act on, each with what is wrong with it."""
    if not isinstance(config, dict):
        return (("it", "is not a table"),)
    return tuple(_problems(config))


def oversized(config: Mapping[str, Any], shapes: Iterable[tuple[int, ...]]) -> bool:
    """Say whether a rank is no count, or more than any tensor of these shapes has: memory that nothing fills.

    Args:
        config: The content of an `adapter_config.json`.
        shapes: The shapes of the adapter's tensors.
    """
    most = max((size for shape in shapes for size in shape), default=0)
    pattern = config.get("rank_pattern")
    ranks = list(pattern.values()) if isinstance(pattern, dict) else []
    if config.get("peft_type") == "LORA":
        ranks.append(config.get("r", 8))
    elif config.get("r"):
        # what other methods call r is a side of no tensor, such as how many directions they choose among; 0 is none
        most, ranks = max(most, _LARGEST_OTHER_RANK), [*ranks, config["r"]]
    return not all(type(rank) is int and 1 <= rank <= most for rank in ranks)


def _problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    kind = config.get("peft_type")
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        yield "peft_type", "names no kind of adapter"
    for names, what in (
        (_IMPORTS, "makes peft import a module that the file names, and must be null"),
        (_REWRITES, "makes peft change the base itself, and must be null"),
        (_VARIANTS, "makes peft build more than a low-rank update, and must be null"),
    ):
        yield from ((name, what) for name in names if config.get(name) is not None)
    if config.get("bias", "none") != "none":
        yield "bias", "makes peft change the base's own biases, and must be 'none'"
    start = config.get("init_lora_weights", True)
    if isinstance(start, list | dict) or start not in _PLAIN_STARTS:
        yield (
            "init_lora_weights",
            f"is {str(start)[:40]!r}, which makes peft change the base's weights; convert the adapter with "
            "save_pretrained(path_initial_model_for_weight_conversion=...)",
        )
    for name in _PATTERNS:
        value = config.get(name)
        for pattern in value if isinstance(value, list) else [value]:
            yield from ((name, what) for what in _pattern_problems(pattern))
    for name in _PATTERN_TABLES:
        table = config.get(name)
        for pattern in table if isinstance(table, dict) else ():
            yield from ((name, what) for what in _pattern_problems(pattern))


def _pattern_problems(pattern: Any) -> Iterator[str]:
    if pattern is None:
        return
    if not isinstance(pattern, str):
        yield f"holds a {type(pattern).__name__}, not a text"
    elif len(pattern) > _LONGEST_PATTERN:
        yield f"holds a pattern of {len(pattern)} characters, more than {_LONGEST_PATTERN}"
    elif _REPEATED_GROUP.search(pattern) or sum(map(pattern.count, "*+{")) > _MOST_REPETITIONS:
        yield f"holds the pattern {pattern[:60]!r}, which could take for ever to match"
    else:
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            yield f"holds {pattern[:60]!r}, which is no pattern ({error})"
