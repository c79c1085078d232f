"""What a check of a home finds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HARMLESS", "Finding"]

HARMLESS = frozenset({"orphan", "stray"})
"""Kinds of problems that harm nothing recorded: files that a process which died has left."""


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it was recorded.

    `where` names the version, task, alias, base or file; `detail` says what was found. `kind` is one of:

    - of a file: `missing`, `size`, `changed`, `orphan` (no record names it), `stray` (no blob in its place);
    - of a record: `manifest`, `number`, `alias`, `log`, `base`, `row` (not as the log tells of it);
    - of the database: `trigger`;
    - of what the bytes say (a deep check): `database`, `content`;
    - of what a version answers: `probe`, `alarm` (found by an evaluation, and not accepted by anybody since).
    """

    kind: str
    where: str
    detail: str
