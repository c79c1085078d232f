"""What the `adapter_config.json` of a version must not say, whoever wrote it.

Loading hands a part of it to peft (`peft_allowed`), and matches module names by patterns that it holds. A field
beside that part would say something that the version does not do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from limpet.registry.formats.peft_allowed_fields import DESCRIPTIVE, FIELDS, is_off

__all__ = [
    "EFFECTS",
    "PATTERN_TABLES",
    "Problem",
    "changes_the_base",
    "is_plain_pattern",
    "oversized",
    "problems",
    "unlike_norms",
]

EFFECTS = {
    **dict.fromkeys(("auto_mapping", "megatron_config"), "makes peft import a module that the file names"),
    **dict.fromkeys(
        ("layer_replication", "corda_config", "lora_ga_config", "kasa_config"), "makes peft change the base itself"
    ),
    **dict.fromkeys(
        ("velora_config", "monteclora_config", "arrow_config", "use_bdlora", "alora_invocation_tokens", "use_qalora"),
        "makes peft build more than a low-rank update",
    ),
    "bias": "makes peft change the base's own biases",
    "ensure_weight_tying": "makes peft change the base's language-model head with its embeddings",
    "modules_to_save": "makes peft train copies of the base's own modules",
    "prompt_tuning_init_state_dict_path": "makes peft open a file that it names, as a pickle",
    **dict.fromkeys(("tokenizer_name_or_path", "tokenizer_kwargs"), "makes peft fetch a tokenizer that it names"),
    "adapters": "makes peft load other adapters that it names",
}
"""What peft would do by a field that loading does not hand to it."""

_PLAIN_STARTS = (None, True, False, "gaussian", "orthogonal", "eva")
_PATTERNS = ("target_modules", "exclude_modules", "feedforward_modules", "layers_pattern", "modules_to_save")
PATTERN_TABLES = ("rank_pattern", "alpha_pattern", "lambda_pattern", "n_frequency_pattern", "block_size_pattern")
"""Fields that hold a table whose keys are patterns of modules."""
# a group that is repeated, or many open repetitions, can take for ever to match
_REPEATED_GROUP = re.compile(r"\)[*+{]")
_MOST_REPETITIONS = 4
_LARGEST_OTHER_RANK = 1024
_LONGEST_PATTERN = 1000

Problem = tuple[str, str]
"""A field, and what is wrong with it."""


def problems(config: object) -> tuple[Problem, ...]:
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


def unlike_norms(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return what `modules_to_save` names that is not kept as a norm is: as vectors among the adapter's tensors.

    What a norm is on the base is seen when the adapter is attached to it; this much a file shows without a base.

    Args:
        config: The content of an `adapter_config.json`.
        shapes: The shapes of the adapter's tensors by their names.
    """
    saved = config.get("modules_to_save") or []
    kept = [(name.rpartition(".")[0], shape) for name, shape in shapes.items()]

    def is_kept(entry: str) -> bool:
        own = [shape for module, shape in kept if module.endswith(entry)]
        return bool(own) and all(len(shape) == 1 for shape in own)

    return [str(entry) for entry in saved if not (isinstance(entry, str) and entry and is_kept(entry))]


def _problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    kind = config.get("peft_type")
    if not isinstance(kind, str) or kind not in FIELDS:
        yield "peft_type", f"is {str(kind)[:40]!r}, and no adapter of that kind can be loaded"
        return
    for name in sorted(config.keys() - FIELDS[kind] - DESCRIPTIVE):
        if not is_off(name, config[name]):
            effect = EFFECTS.get(name, "is no field that loading uses")
            yield name[:60], f"{effect}, and must be {'none' if name == 'bias' else 'null'}"
    if changes_the_base(config):
        start = config["init_lora_weights"]
        yield (
            "init_lora_weights",
            f"is {str(start)[:40]!r}, which makes peft change the base's weights; name the adapter as it was "
            "before training (limpet adapter register TASK FOLDER --initial FOLDER), or convert it with "
            "save_pretrained(path_initial_model_for_weight_conversion=...)",
        )
    if not isinstance(config.get("modules_to_save"), list | None):
        yield "modules_to_save", "is no list of names"
    for name in _PATTERNS:
        value = config.get(name)
        for pattern in value if isinstance(value, list) else [value]:
            yield from ((name, what) for what in _pattern_problems(pattern))
    for name in PATTERN_TABLES:
        table = config.get(name)
        for pattern in table if isinstance(table, dict) else ():
            yield from ((name, what) for what in _pattern_problems(pattern))


def changes_the_base(config: Mapping[str, Any]) -> bool:
    """Tell whether an adapter began in a way that took a part of the base's weights away, or that is not known."""
    start = config.get("init_lora_weights", True)
    return isinstance(start, list | dict) or start not in _PLAIN_STARTS


def is_plain_pattern(pattern: object) -> bool:
    """Tell whether a pattern may stand in a version: whoever matches it is done in no time."""
    return not any(_pattern_problems(pattern))


def _pattern_problems(pattern: object) -> Iterator[str]:
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
