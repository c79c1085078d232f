"""The time as the registry writes it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["seconds_of", "utc_ago", "utc_now"]


def utc_now() -> str:
    """Return the time now: ISO 8601, UTC, microseconds and `Z`, so that text order is time order."""
    return utc_ago(0)


def utc_ago(seconds: float) -> str:
    """Return the time some seconds ago, in the form of `utc_now`."""
    return (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds_of(moment: str) -> float:
    """Return the seconds since the epoch of a time in the form of `utc_now`."""
    return datetime.fromisoformat(moment).timestamp()
