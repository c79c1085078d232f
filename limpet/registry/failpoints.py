"""Places where a process can be made to die, so that tests can prove what a death leaves behind.

Off unless `LIMPET_FAILPOINT` is set to `NAME`, or to `NAME:3` for the third time that the place is reached. The
process then kills itself with SIGKILL: no handler runs, no buffer is flushed, no transaction is ended.
"""

from __future__ import annotations

import os
import signal

from limpet.errors import UsageError

__all__ = ["FAILPOINTS", "VARIABLE", "reach"]

VARIABLE = "LIMPET_FAILPOINT"

# a write transaction has begun, its rows are written but not committed, it is committed
_TRANSACTION = ("begun", "written", "committed")
_OPERATIONS = (
    "base",
    "task",
    "register",
    "promote",
    "rollback",
    "delete",
    "tag",
    "note",
    "policy",
    "probe",
    "gc",
    "migrate",
)

FAILPOINTS: tuple[str, ...] = (
    "blob.opened",
    "blob.filled",
    "blob.synced",
    "blob.renamed",
    "blob.kept",
    "register.stored",
    "import.checked",
    "import.unpacked",
    "import.task",
    "import.registered",
    "gc.marked",
    "gc.removed",
    "gc.swept",
    "migrate.backup",
    "migrate.backed-up",
    *(f"{operation}.{place}" for operation in _OPERATIONS for place in _TRANSACTION),
)
"""Every place, by name."""

_reached = 0


def _parse(setting: str) -> tuple[str, int]:
    name, _, count = setting.partition(":")
    if name and name not in FAILPOINTS:
        raise UsageError(f"{VARIABLE} names {name!r}, which is no failpoint.", f"unset {VARIABLE}")
    return name, int(count) if count.isdigit() else 1


_NAME, _COUNT = _parse(os.environ.get(VARIABLE, ""))


def reach(name: str) -> None:
    """Die here if this place is armed, at the count it is armed for."""
    if name != _NAME:
        return
    global _reached
    _reached += 1
    if _reached == _COUNT:
        os.kill(os.getpid(), signal.SIGKILL)
