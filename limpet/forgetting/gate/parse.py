"""The gate's rules as people write them: `[gate]` in `limpet.toml`, and options that win over it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from limpet.errors import UsageError
from limpet.forgetting.gate.rules import GateRules, TaskRules
from limpet.registry.formats.json_values import JsonValue
from limpet.registry.settings import SETTINGS_FILE, read_table

__all__ = ["OF_ALL", "has_rule", "parse_rules", "read_rules", "with_limits"]

_OF_TASKS = tuple(field.name for field in fields(TaskRules))
OF_ALL = tuple(field.name for field in fields(GateRules) if field.name not in ("tasks", "require_identical"))
"""The rules that are limits."""


def read_rules(home: Path) -> GateRules:
    """Read the gate of a home's `limpet.toml`; without one, no rule applies.

    Raises:
        UsageError: A rule is unknown or no number.
    """
    return parse_rules(read_table(home).get("gate", {}), f"[gate] in {home / SETTINGS_FILE}")


def parse_rules(table: Mapping[str, Any], where: str) -> GateRules:
    """Check a table of rules.

    Args:
        table: Rules by name; `tasks` holds a table for each task that has its own.
        where: Where it stands, for messages.

    Raises:
        UsageError: A rule is unknown or no number.
    """
    names = (*OF_ALL, "require_identical", "tasks")
    _check_names(table, names, where)
    identical = table.get("require_identical", False)
    if not isinstance(identical, bool):
        raise UsageError(f"{where} sets require_identical to {identical!r}.", "require_identical = true")
    own = table.get("tasks", {})
    if not isinstance(own, dict) or not all(isinstance(value, dict) for value in own.values()):
        raise UsageError(f"{where}: tasks must be tables, one for each task.", "[gate.tasks.NAME]")
    limits = {key: _number(where, key, table[key]) for key in OF_ALL if key in table}
    return GateRules(
        require_identical=identical,
        tasks={task: _task_rules(rules, f"{where}, tasks.{task}") for task, rules in own.items()},
        **limits,
    )


def with_limits(rules: GateRules, limits: Mapping[str, Sequence[str]], require_identical: bool) -> GateRules:
    """Lay what options say over the rules.

    Args:
        rules: The rules of the home.
        limits: What each option was given: `X` for all tasks, `TASK=X` for one.
        require_identical: Whether the option was given.

    Raises:
        UsageError: A limit is no number, or one task's where there is none of that kind.
    """
    tasks = dict(rules.tasks)
    for key, values in limits.items():
        option = "--" + key.replace("_", "-")
        for value in values:
            task, equals, number = value.rpartition("=")
            limit = _number(option, key, number)
            if not equals:
                changed: dict[str, Any] = {key: limit}
                rules = replace(rules, **changed)
            elif key not in _OF_TASKS:
                raise UsageError(f"{option} is a limit for all tasks, not for {task!r} alone.", f"{option} {number}")
            else:
                tasks[task] = replace(tasks.get(task, TaskRules()), **{key: limit})
    return replace(rules, tasks=tasks, require_identical=rules.require_identical or require_identical)


def has_rule(rules: GateRules) -> bool:
    """Tell whether any rule applies."""
    own = {key: value for key, value in asdict(rules).items() if key != "tasks"}
    return any(value is not None and value is not False for value in own.values()) or bool(rules.tasks)


def _task_rules(table: Mapping[str, Any], where: str) -> TaskRules:
    _check_names(table, _OF_TASKS, where)
    return TaskRules(**{key: _number(where, key, value) for key, value in table.items()})


def _check_names(table: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    unknown = sorted(set(table) - set(names))
    if unknown:
        raise UsageError(f"{where} sets {unknown[0]!r}, which is no rule.", f"the rules are {', '.join(names)}")


def _number(where: str, key: str, value: JsonValue) -> float:
    number = math.nan
    # a text comes from an option; a bool would count as a number
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            number = float(value)
    if math.isnan(number):
        raise UsageError(f"{where}: {key} must be a number, not {value!r}.", f"{key} = 0.01")
    return number
