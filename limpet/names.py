"""Names that users choose, and references such as `bbc-news@3`.

A name is checked against an allow-list and is never part of a path: paths come from digests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from limpet.errors import UsageError

__all__ = [
    "LATEST",
    "Reference",
    "case_twins",
    "check_alias",
    "check_name",
    "parse_reference",
    "parse_task",
    "recorded_method",
    "renamed_method",
    "shown_method",
]

LATEST = "latest"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_REVISION = re.compile(r"r[1-9][0-9]{0,5}", re.ASCII)


_RECORDED_METHODS = {"linear-probe": "probe"}
"""What people call a method, and what records call it: digests are made of the latter, so it stays."""


def recorded_method(name: str) -> str:
    """Return what records call the method that somebody named; other names are their own."""
    return _RECORDED_METHODS.get(name, name)


def shown_method(recorded: str) -> str:
    """Return what people call a method of a record."""
    return next((name for name, own in _RECORDED_METHODS.items() if own == recorded), recorded)


def renamed_method(name: str) -> str:
    """Return a note about a method that somebody named as it was called before; empty where nobody did."""
    shown = shown_method(name)
    return "" if shown == name else f"method {name} is called {shown} now"


def check_name(kind: str, name: str) -> str:
    """Return `name` if it is on the allow-list.

    Args:
        kind: What is named, for the message: `task`, `alias`, `stream`.
        name: The name as the user typed it.

    Raises:
        UsageError: The name is not `[a-z0-9][a-z0-9._-]{0,63}`.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a {kind} name: names are 1 to 64 of a-z, 0-9, '.', '_' and '-', "
            "and begin with a letter or digit.",
            f"choose a name such as {_suggest(name)!r}",
        )
    return name


def _suggest(name: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("._-")[:64] or "my-task"


def check_alias(alias: str) -> str:
    """Return `alias` if it can be moved: on the allow-list, and neither `latest` nor a number.

    Raises:
        UsageError: The name is one of these.
    """
    check_name("alias", alias)
    if alias == LATEST:
        raise UsageError(
            "The alias latest always means the newest adapter and can't be moved.", "choose another alias"
        )
    if alias.isdigit():
        raise UsageError(f"The alias {alias!r} would read as a version's number.", "choose an alias with a letter")
    return alias


@dataclass(frozen=True)
class Reference:
    """A task with, at most, one of a version number or an alias; neither means the current version."""

    task: str
    number: int | None = None
    alias: str | None = None

    def __str__(self) -> str:
        if self.number is not None:
            return f"{self.task}@{self.number}"
        return f"{self.task}@{self.alias}" if self.alias else self.task


def parse_reference(text: str) -> Reference:
    """Parse `task`, `task@3`, `task@production` or `task@latest`.

    Raises:
        UsageError: The text has another form.
    """
    task, at, rest = text.partition("@")
    check_name("task", task)
    if not at:
        return Reference(task)
    if rest.isascii() and rest.isdigit():
        if rest.startswith("0") or len(rest) > 9:
            raise UsageError(
                f"{text!r} names no version: versions count from 1.", f"limpet adapter list --task {task}"
            )
        return Reference(task, number=int(rest))
    return Reference(task, alias=check_name("alias", rest))


def parse_task(text: str) -> tuple[str, int | None]:
    """Parse `task`, which means its newest revision, or `task@r2`; return the name and the revision or null.

    Raises:
        UsageError: The text has another form.
    """
    task, at, revision = text.partition("@")
    check_name("task", task)
    if not at:
        return task, None
    if not _REVISION.fullmatch(revision):
        raise UsageError(
            f"{text!r} names no revision of a task: those are written {task}@r1, {task}@r2.",
            f"limpet task show {task} --revisions",
        )
    return task, int(revision[1:])


def case_twins(names: Iterable[str]) -> tuple[str, str] | None:
    """Return two names that differ only by case, null if there are none."""
    seen: dict[str, str] = {}
    for name in sorted(names):
        other = seen.setdefault(name.lower(), name)
        if other != name:
            return other, name
    return None
