"""What the doctor says: one line for each thing that was looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from limpet.errors import LimpetError

__all__ = ["Finding", "Status", "guarded"]

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `fail` keeps limpet from working, `warn` may; `hint` is what to type next."""

    name: str
    status: Status
    detail: str
    hint: str = ""


def guarded(name: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yield what `look` finds; what keeps it from looking is a finding too."""
    try:
        yield from look()
    except LimpetError as error:
        yield Finding(name, "fail", error.message, error.hint)
    except OSError as error:
        yield Finding(name, "fail", str(error))
