"""Which modules an adapter's configuration means, in the names of the class it was made on, told in the base's names.

`AutoModelForCausalLM` calls a layer `model.layers.0.self_attn.q_proj` that `AutoModel` calls
`layers.0.self_attn.q_proj`; targets, patterns of ranks and numbers of layers are all matched against the former. Here
they are matched as peft does it, against the names that exist and in bounded time, and written down in the latter.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from limpet.registry.formats.peft_config import PATTERN_TABLES, Problem, is_plain_pattern

__all__ = ["in_names_of_the_base", "named_by"]

_SECONDS = 5.0
_LONGEST = 10_000
_ALL = "all-linear"
_LAYERS = ("layers_to_transform", "layers_pattern")
# patterns of others can take for ever, and nothing stops a match but the end of its process
_MATCHER = """
import json, re, sys
patterns, names = json.load(sys.stdin)
try:
    json.dump([[name for name in names if re.fullmatch(one, name)] for one in patterns], sys.stdout)
except (re.error, RecursionError, OverflowError) as error:
    sys.exit(str(error))
"""


def in_names_of_the_base(
    config: Mapping[str, Any], prefix: str, names: Sequence[str]
) -> tuple[dict[str, Any], list[Problem]]:
    """Return a configuration that means the same modules, by the names that the base alone has for them.

    What means the same in both stays as it is. Elsewhere the targets become a list, the shortest that hits these
    modules and no other, and every pattern of ranks a table of modules.

    Args:
        config: What loading uses of an `adapter_config.json`.
        prefix: What the class that the adapter was made on puts before the base's names, such as `model.`.
        names: The base's modules.

    Returns:
        The configuration, and what is wrong with its fields.
    """
    told = dict(config)
    pattern = told.get("layers_pattern") or []
    # peft puts these into patterns of its own
    if not all(map(is_plain_pattern, [pattern] if isinstance(pattern, str) else pattern)):
        return told, [("layers_pattern", f"holds {_shown(pattern)}, which could take for ever to match")]
    problems: list[Problem] = []
    theirs = [prefix + name for name in names]
    for field in ("target_modules", "feedforward_modules"):
        if told.get(field) and told[field] != _ALL:
            problems += _rename(field, told, prefix, theirs=theirs, names=names)
    if problems:
        return told, problems
    targets = told.get("target_modules")
    if targets and targets != _ALL:
        meant = [name for name in names if named_by(targets, [name])]
        for field in PATTERN_TABLES:
            if told.get(field):
                problems += _rename_table(field, told, prefix, names=names, meant=meant)
    return told, problems


def named_by(entries: str | Collection[str], names: Iterable[str]) -> list[str]:
    """Return the names that a pattern matches as a whole, or that are or end with one of a list's entries.

    Raises:
        ValueError: The pattern is none, or takes too long.
    """
    if isinstance(entries, str):
        (found,) = _matched([entries], list(names), is_plain_pattern(entries))
        return found
    return [name for name in names if any(f".{name}".endswith(f".{entry}") for entry in entries)]


def _rename(
    field: str, told: dict[str, Any], prefix: str, *, theirs: Sequence[str], names: Sequence[str]
) -> list[Problem]:
    """Put the base's own names into a field that names modules."""
    try:
        meant = [name.removeprefix(prefix) for name in _meant(field, told, theirs)]
        # without a prefix and with a pattern that everybody may match, it is kept as it was made
        same = _is_portable(told, field) and _meant(field, told, names) == meant
    except ValueError as error:
        return [(field, str(error))]
    if not meant:
        return [(field, f"is {_shown(told[field])}, which matches no module of this base")]
    if same:
        return []
    short = sorted({name.rpartition(".")[2] for name in meant})
    for entries in (short, sorted(meant)):
        if named_by(entries, names) == meant:
            told[field] = entries
            break
    else:
        return [(field, "hits modules of this base that no list of names can tell from others")]
    if field == "target_modules":
        told |= {name: None for name in ("exclude_modules", *_LAYERS) if name in told}
    return []


def _is_portable(told: Mapping[str, Any], field: str) -> bool:
    fields = (told.get(name) for name in (field, "exclude_modules"))
    return all(is_plain_pattern(value) for value in fields if isinstance(value, str))


def _meant(field: str, told: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """The names that a field of modules hits, by peft's own rules."""
    from peft.tuners.tuners_utils import check_target_module_exists

    entries = told[field]
    excluded = set(named_by(told.get("exclude_modules") or [], names)) if field == "target_modules" else set()
    if isinstance(entries, str) or field != "target_modules":
        found = named_by(entries, names)
    else:
        layers = {name: told.get(name) for name in _LAYERS}
        plain = SimpleNamespace(target_modules=entries, target_parameters=None, **layers)
        found = [name for name in names if check_target_module_exists(plain, name)]
    return [name for name in found if name not in excluded]


def _rename_table(
    field: str, told: dict[str, Any], prefix: str, *, names: Sequence[str], meant: Sequence[str]
) -> list[Problem]:
    """Put the base's own names into a table whose keys are patterns of modules."""
    table = told[field]
    try:
        hits = _hits(table, [prefix + name for name in names])
        here = _first_keys(_hits(table, names)) if all(map(is_plain_pattern, table)) else {}
    except ValueError as error:
        return [(field, str(error))]
    if lost := sorted(key for key, hit in hits.items() if not hit):
        return [(field, f"names {_shown(lost[0])}, which matches no module of this base")]
    keys = _first_keys(hits)
    due = {name: table[keys[prefix + name]] for name in meant if prefix + name in keys}
    if due != {name: table[here[name]] for name in meant if name in here}:
        told[field] = dict(sorted(due.items()))
    return []


def _hits(table: Mapping[str, Any], names: Sequence[str]) -> dict[str, list[str]]:
    """What each key of a table of patterns means: as peft looks for it, from the end of the name."""
    keys = list(table)
    found = _matched([rf"(.*\.)?({key})" for key in keys], names, all(map(is_plain_pattern, keys)))
    return dict(zip(keys, found, strict=True))


def _first_keys(hits: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The first key that means a module, by the module."""
    found: dict[str, str] = {}
    for key, hit in hits.items():
        for name in hit:
            found.setdefault(name, key)
    return found


def _matched(patterns: Sequence[str], names: Sequence[str], plain: bool) -> list[list[str]]:
    """Return what each pattern matches as a whole; where not all are `plain`, give up after some seconds.

    Raises:
        ValueError: A pattern is none, or takes too long.
    """
    if plain:
        return [[name for name in names if re.fullmatch(pattern, name)] for pattern in patterns]
    first = _shown(patterns[0])
    if any(len(pattern) > _LONGEST for pattern in patterns):
        raise ValueError(f"holds a pattern of more than {_LONGEST} characters")
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _MATCHER],
            input=json.dumps([list(patterns), list(names)]),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"holds {first}, which took more than {_SECONDS:.0f} s to match") from None
    if done.returncode:
        raise ValueError(f"holds {first}, which is no pattern ({done.stderr.strip()[:100]})")
    found: list[list[str]] = json.loads(done.stdout)
    return found


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
