"""Whether the clock can be trusted with what is removed by its age: held against the home's own events."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from limpet.errors import ConflictError, UsageError
from limpet.registry.database.schema import EvaluationRow, LogEventRow, VersionRow
from limpet.registry.system.clock import utc_ago, utc_now

__all__ = ["check_clock", "check_today", "clock_doubt"]

_DAY = 24 * 60 * 60
# clocks of several machines differ by minutes, a wrong one by a time zone, months or years
_BEHIND_SECONDS = _DAY
_AHEAD_DAYS = 14


def clock_doubt(session: Session) -> str:
    """Return why the clock may be wrong, empty if nothing speaks against it.

    It is wrong if it is a day behind the newest event. It may be wrong if it is two weeks ahead of the newest event
    that is at least a day old: events of today may have been written under the same wrong clock.
    """
    now = utc_now()
    newest = _newest(session, None)
    if newest is None:
        return ""
    if newest > utc_ago(-_BEHIND_SECONDS):
        return f"The clock of this machine says {now[:10]}, and the newest event of this home is of {newest[:10]}."
    settled = _newest(session, utc_ago(_DAY))
    if settled is None or settled > utc_ago(_AHEAD_DAYS * _DAY):
        return ""
    return (
        f"The clock of this machine says {now[:10]}, and but for the last day nothing has happened in this home "
        f"since {settled[:10]}."
    )


def check_clock(doubt: str) -> None:
    """Refuse to remove by age where there is a doubt.

    Raises:
        ConflictError: There is one.
    """
    if doubt:
        raise ConflictError(
            f"{doubt} Nothing was removed: by a wrong clock, what is young counts as old.",
            "correct the clock; if it is right, type the date: limpet gc --yes --today YYYY-MM-DD",
        )


def check_today(today: str) -> None:
    """Hold the date that a person typed against the clock.

    Raises:
        UsageError: It is no date.
        ConflictError: The clock has another one.
    """
    try:
        typed = date.fromisoformat(today)
    except ValueError as error:
        raise UsageError(f"{today!r} is no date.", "write it as --today YYYY-MM-DD") from error
    # somewhere it is tomorrow already
    if abs(datetime.now(UTC).date() - typed) > timedelta(days=1):
        raise ConflictError(
            f"The clock of this machine says {utc_now()[:10]}, and not {today}: nothing was removed.",
            "correct the clock",
        )


def _newest(session: Session, until: str | None) -> str | None:
    found: list[str] = []
    for column in (LogEventRow.created_at, VersionRow.created_at, EvaluationRow.created_at):
        query = select(func.max(column))
        moment = session.scalar(query if until is None else query.where(column <= until))
        found += [moment] if moment is not None else []
    return max(found, default=None)
