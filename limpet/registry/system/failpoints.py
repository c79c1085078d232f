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
    "unpromote",
    "delete",
    "tag",
    "note",
    "policy",
    "probe",
    "import",
    "evaluate",
    "ability",
    "refuse",
    "alarm",
    "accept",
    "stream",
    "gc",
    "claim",
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
    "claim.marked",
    "gc.marked",
    "gc.removed",
    "gc.swept",
    "migrate.backup",
    "migrate.backed-up",
    *(f"{operation}.{place}" for operation in _OPERATIONS for place in _TRANSACTION),
)
"""Every place, by name."""

_reached = 0


def reach(name: str) -> None:
    """Die here if this place is armed, at the count it is armed for.

    Raises:
        UsageError: The variable names no failpoint.
    """
    setting = os.environ.get(VARIABLE)
    if not setting:
        return
    armed, _, count = setting.partition(":")
    if armed not in FAILPOINTS or not (count or "1").isdigit():
        raise UsageError(f"{VARIABLE} is set to {setting!r}, which is no failpoint.", f"unset {VARIABLE}")
    if armed != name:
        return
    global _reached
    _reached += 1
    if _reached == int(count or 1):
        os.kill(os.getpid(), signal.SIGKILL)
