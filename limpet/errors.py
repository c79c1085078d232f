"""The exceptions of limpet; each class carries its exit code.

LimpetError                      1  something failed, with what, why and what to type next
├── UsageError                   2  an argument, setting or file format is wrong
├── NotFoundError                3  no such home, base, task, version, alias, stream, file
├── ConflictError                4  exists already, stale compare-and-set, locked
├── IntegrityError               5  digest mismatch, wrong base, corrupt file
├── GateError                    6  a gate rule was crossed
├── DataError                    1  a dataset can't serve as a task
├── TrainingError                1  training can't go on (not finite, base changed, ...)
├── UnavailableError             1  a server, index or package can't be reached
└── InterruptedRunError        130  stopped by a signal; a checkpoint was kept
"""

from __future__ import annotations

from limpet.redaction import hide_secrets

__all__ = [
    "ConflictError",
    "DataError",
    "GateError",
    "IntegrityError",
    "InterruptedRunError",
    "LimpetError",
    "NotFoundError",
    "TrainingError",
    "UnavailableError",
    "UsageError",
]


class LimpetError(Exception):
    """Base of every error that limpet raises on purpose.

    Args:
        message: What is wrong and why, one sentence each.
        hint: The next command to type, or what to change; empty when there is nothing to do.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        # whoever shows an error, logs it or sends it on, shows no password
        self.message = hide_secrets(message)
        self.hint = hide_secrets(hint)
        super().__init__(self.message)


class UsageError(LimpetError):
    """An argument, a setting or a file's format is wrong."""

    exit_code = 2


class NotFoundError(LimpetError):
    """What was named does not exist."""

    exit_code = 3


class ConflictError(LimpetError):
    """It exists already, somebody else moved it first, or it is locked."""

    exit_code = 4


class IntegrityError(LimpetError):
    """Bytes are not those that were recorded: a corrupt file or another base."""

    exit_code = 5


class GateError(LimpetError):
    """A rule of the gate was crossed.

    Args:
        message: Which rules, and by how much.
        hint: The next command to type.
        outcome: What was measured all the same: of an addition a `limpet.home.Trained`, of `Home.gate` a
            `limpet.forgetting.gate.gate_report.GateReport`, of an alias that did not move a `limpet.home.Refused`.
    """

    exit_code = 6

    def __init__(self, message: str, hint: str = "", outcome: object = None) -> None:
        super().__init__(message, hint)
        self.outcome = outcome


class DataError(LimpetError):
    """A dataset can't serve as a task."""


class TrainingError(LimpetError):
    """Training can't go on."""


class UnavailableError(LimpetError):
    """A server, an index or an optional package can't be reached."""


class InterruptedRunError(LimpetError):
    """A signal stopped the run; its checkpoint was kept."""

    exit_code = 130
